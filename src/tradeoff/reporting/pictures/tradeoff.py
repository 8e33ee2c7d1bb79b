"""NA against RA."""

from matplotlib.figure import Figure

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.results import select
from tradeoff.reporting.style import INK
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    return [picture(view, "tradeoff", draw, description, means_of="cells")]


def draw(view: View) -> Figure:
    """A panel for each architecture: seeds small, means large with sd whiskers.

    Below each panel is its part without the control: standard training, of no robustness, leaves
    the defenses little room.
    """
    rows = [view.defenses, [name for name in view.defenses if name != view.control]]
    rows = rows[: 2 if 0 < len(rows[1]) < len(rows[0]) else 1]
    columns = len(view.architectures)
    figure = Figure(figsize=(drawing.PANEL_WIDTH * max(2, columns), 2.6 * len(rows) + 0.4),
                    layout="constrained")  # fmt: skip
    panels = figure.subplots(len(rows), columns, squeeze=False, sharex="row", sharey="row")
    natural, robust = view.means("NA"), view.means("RA")
    for line, names in zip(panels, rows, strict=True):
        for panel, architecture in zip(line, view.architectures, strict=True):
            name = view.network(architecture)
            panel.set_title(name if names is rows[0] else view("figures.detail", architecture=name))
            panel.set_xlabel(view("figures.axes.RA"))
            panel.set_axisbelow(True)
            for defense in names:
                look, place = view.looks[defense], (architecture, defense)
                seeds = select(view.results.cells, architecture=architecture, defense=defense)
                if place in natural and place in robust:
                    panel.plot(100 * seeds["RA"], 100 * seeds["NA"], linestyle="none",
                               marker=look.marker, markersize=3, color=look.colour, alpha=0.55,
                               markeredgewidth=0)  # fmt: skip
                    drawing.mean_marker(panel, look, robust[place], natural[place], scale=100)
            front = pareto_front(view, architecture, names)
            panel.plot([100 * robust[architecture, name].mean for name in front],
                       [100 * natural[architecture, name].mean for name in front],
                       color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)  # fmt: skip
        line[0].set_ylabel(view("figures.axes.NA"))
        drawing.number_axes(view, line[0])
    drawing.legend(view, figure)
    return figure


def description(view: View) -> str:
    """Every mean, and the front of each architecture."""
    natural, robust = view.means("NA"), view.means("RA")
    percent = view.labels.percent
    text = view.per_architecture("tradeoff", {
        place: {"na": percent(natural[place].mean), "ra": percent(robust[place].mean)}
        for place in natural if place in robust
    })  # fmt: skip
    for architecture in view.architectures:
        front = [view.name(name) for name in pareto_front(view, architecture, view.defenses)]
        if front:
            text += " " + view("figures.tradeoff.alt_front", names=view.labels.enumerate(front),
                               architecture=view.network(architecture))  # fmt: skip
    return text


def pareto_front(view: View, architecture: str, defenses: list[str]) -> list[str]:
    """The defenses than which no other is at least as good in both mean NA and mean RA and better
    in one, by rising RA."""
    natural, robust = view.means("NA"), view.means("RA")
    points = {
        name: (robust[architecture, name].mean, natural[architecture, name].mean)
        for name in defenses if (architecture, name) in natural and (architecture, name) in robust
    }  # fmt: skip
    front = [
        name for name, (right, up) in points.items()
        if not any(
            other[0] >= right and other[1] >= up and other != (right, up)
            for other in points.values()
        )
    ]  # fmt: skip
    return sorted(front, key=lambda name: points[name])
