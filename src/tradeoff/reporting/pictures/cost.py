"""RA against what an epoch of training costs."""

from matplotlib.figure import Figure

from tradeoff.reporting.accuracy import PASSES, passes
from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.view import View, means


def pictures(view: View) -> list[Picture]:
    if passes(view).empty:
        return []
    return [picture(view, "cost", draw, description, means_of="cells")]


def draw(view: View) -> Figure:
    """A panel for each architecture, a mean with whiskers for each defense."""
    figure, panels = drawing.panel_grid(len(view.architectures), 2.4)
    counts, robust = means(passes(view)), view.means("RA")
    for panel, architecture in zip(panels, view.architectures, strict=True):
        panel.set_title(view.network(architecture))
        panel.set_xlabel(view("cost.axis"))
        places = [(architecture, name) for name in view.defenses]
        measured = [place for place in places if place in counts and place in robust]
        for place in measured:
            drawing.mean_marker(panel, view.looks[place[1]], counts[place], robust[place])
        if not measured:
            drawing.say_nothing(view, panel)
    drawing.number_axes(view, panels[0])
    panels[0].set_xlim(left=0)
    panels[0].set_ylabel(view("figures.axes.RA"))
    drawing.legend(view, figure)
    return figure


def description(view: View) -> str:
    """Every mean of passes."""
    values = {place: {"cost": view.labels.formatted(estimate.mean, PASSES)}
              for place, estimate in means(passes(view)).items()}  # fmt: skip
    return view.per_architecture("cost", values)
