"""How well each detector tells attacked images from clean ones, over its rate of false alarms."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.results import select
from tradeoff.reporting.style import COLOURS, CONTROL, INK
from tradeoff.reporting.view import Place, View

COLUMN = "detected_at_"  # and a percentage, the rate of false alarms
TOLD_APART = {"pgd": (COLOURS[1], drawing.NATURAL), "pgd_evading": (COLOURS[2], drawing.ROBUST)}


def pictures(view: View) -> list[Picture]:
    """One, if anything rejects."""
    if not curves(view):
        return []
    return [picture(view, "roc", draw, description, means_of="cells")]


def curves(view: View) -> dict[Place, pd.DataFrame]:
    """The share that each detector finds, attacks down and false alarms across: means over seeds.

    An attack that fooled nothing has no curve, and a whole suite is no attack.
    """
    table = view.results.detection
    table = table[~table["attack"].isin(view.results.dataset.suites)]
    columns = [name for name in map(str, table) if name.startswith(COLUMN)]
    alarms = [float(name.removeprefix(COLUMN).rstrip("%")) for name in columns]
    shares_of = {}
    for place in view.places():
        rows = select(table, architecture=place[0], defense=place[1])
        shares = rows.groupby("attack", sort=False)[columns].mean().dropna()
        if len(shares):
            shares_of[place] = shares.set_axis(alarms, axis=1)
    return shares_of


def draw(view: View) -> Figure:
    """A panel for each detector, a line for each attack."""
    detected = curves(view)
    figure, panels = drawing.panel_grid(len(detected), 2.2, columns=3, width=2.1)
    for panel, (place, shares) in zip(panels, detected.items(), strict=True):
        panel.set_title(view.detector(place))
        panel.axvline(5, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        for attack, line in shares.iterrows():
            colour, dashes = TOLD_APART.get(str(attack), (CONTROL.colour, drawing.NATURAL))
            panel.plot(
                line.index.to_numpy(dtype=float), 100 * line, color=colour,
                linestyle=dashes, linewidth=1.6 if attack in TOLD_APART else 0.7,
                alpha=1 if attack in TOLD_APART else 0.6,
                zorder=3 if attack in TOLD_APART else 2,
            )  # fmt: skip
        panel.set_xlabel(view("figures.axes.false_alarms"))
    drawing.number_axes(view, panels[0])
    panels[0].set_ylim(0, 101)
    panels[0].set_xlim(0, 50)
    panels[0].set_ylabel(view("figures.axes.detected"))
    handles = [
        Line2D([], [], color=colour, linestyle=dashes, linewidth=1.6,
               label=view.labels.name("attacks", attack))
        for attack, (colour, dashes) in TOLD_APART.items()
    ]  # fmt: skip
    other = view("figures.roc.others")
    handles.append(Line2D([], [], color=CONTROL.colour, linewidth=0.7, label=other))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def description(view: View) -> str:
    """The share detected at 5 % false alarms under PGD that evades, or else the first attack."""
    values = {}
    for place, shares in curves(view).items():
        at_five = {str(attack): float(share) for attack, share in shares[5.0].items()}
        attack = "pgd_evading" if "pgd_evading" in at_five else next(iter(at_five))
        share = view.labels.percent(at_five[attack])
        values[place] = {"attack": view.labels.name("attacks", attack), "share": share}
    return view.per_architecture("roc", values)
