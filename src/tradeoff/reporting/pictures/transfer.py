"""Whose adversarial examples fool whom."""

from matplotlib.figure import Figure

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    if view.results.transfer.empty:
        return []
    return [picture(view, "transfer", draw, description, means_of="transfer")]


def draw(view: View) -> Figure:
    """Share of right images fooled as a field of numbers: sources down, target defenses across."""
    table = view.results.transfer_matrix()
    height = 0.75 + len(table) * drawing.field_row(len(table), 0.26)
    figure = Figure(figsize=(2 * drawing.PANEL_WIDTH, height), layout="constrained")
    panel = figure.subplots()
    drawing.field(view, panel, table, [view.name(str(name)) for name in table])
    panel.set_ylabel(view("figures.axes.source"))
    panel.set_xlabel(view("figures.axes.target"))
    return figure


def description(view: View) -> str:
    """For each target defense the source that fools it most."""
    parts = [
        view("figures.transfer.alt_value", target=view.name(str(target)),
             source=view.name(str(column.idxmax())), fooled=view.labels.percent(column.max()))
        for target, column in view.results.transfer_matrix().dropna(axis=1, how="all").items()
    ]  # fmt: skip
    return f"{view('figures.transfer.alt')} {'; '.join(parts) or view('words.nothing')}."
