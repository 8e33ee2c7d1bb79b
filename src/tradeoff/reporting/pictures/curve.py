"""RA over epsilon, from the minimum norms."""

from dataclasses import replace

from matplotlib.figure import Figure

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.style import INK
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    if view.results.curve.empty:
        return []
    whole = picture(view, "curve", draw, description, means_of="curve",
                    images=view.labels.counts(view.results.cells["images"]),
                    norms=view.labels.counts(view.results.norms["images"]))  # fmt: skip
    if not view.results.certified.empty:
        whole = replace(whole, caption=f"{whole.caption} {view('figures.curve.proved')}")
    return [whole]


def draw(view: View) -> Figure:
    """A line for each defense, a mean over the seeds; steps are what is proved of it.

    Lone markers at the threat's epsilon are the RA of the bounded attacks and AutoAttack.
    """
    figure, panels = drawing.panel_grid(len(view.architectures), 2.6)
    threat, robust = view.results.dataset.threat, view.means("RA")
    curves = view.results.robustness_curves()
    measured, proved = set(curves), view.results.certified_curves()
    for panel, architecture in zip(panels, view.architectures, strict=True):
        panel.set_title(view.network(architecture))
        norm = view.labels.name("norms", threat.norm)
        panel.set_xlabel(view("figures.axes.epsilon", norm=norm))
        panel.set_ylim(0, 100)
        panel.axvline(threat.epsilon, color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        if not any((architecture, defense) in measured for defense in view.defenses):
            drawing.say_nothing(view, panel)
        for index, (defense, look) in enumerate(view.looks.items()):
            place = (architecture, defense)
            if place in measured:
                line = 100 * curves[place].dropna()
                panel.plot(line.index, line, color=look.colour, linewidth=1.2,
                           linestyle=look.dashes, marker=look.marker, markersize=4,
                           markevery=(2 + index % 9, 9), markeredgewidth=0)  # fmt: skip
            if place in set(proved):
                # A radius is the largest that was proved: what holds at it holds below it.
                steps = 100 * proved[place].dropna()
                panel.plot(steps.index, steps, color=look.colour, linewidth=0.9,
                           drawstyle="steps-pre", alpha=0.8)  # fmt: skip
            if place in robust:
                panel.plot([threat.epsilon], [100 * robust[place].mean], marker=look.marker,
                           markersize=6.5, color=look.colour, markeredgecolor=INK,
                           markeredgewidth=0.9, zorder=3)  # fmt: skip
    drawing.number_axes(view, panels[0])
    panels[0].set_xlim(left=0)
    panels[0].set_ylabel(view("figures.axes.RA"))
    drawing.legend(view, figure, lines=True)
    return figure


def description(view: View) -> str:
    """RA from minimum norms at the threat's epsilon, by architecture and defense."""
    curves = view.results.robustness_curves()
    if curves.empty:
        return view.per_architecture("curve", {})
    gaps = abs(curves.index.to_numpy(dtype=float) - view.results.dataset.threat.epsilon)
    at_epsilon = curves.iloc[int(gaps.argmin())].dropna()
    values = {place: {"ra": view.labels.percent(at_epsilon[place])}
              for place in view.places() if place in at_epsilon}  # fmt: skip
    return view.per_architecture("curve", values)
