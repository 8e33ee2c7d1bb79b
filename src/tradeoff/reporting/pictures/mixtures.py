"""NA and RA of mixtures of two networks over the robust one's weight, beside the proposal."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tradeoff.core import foundations
from tradeoff.reporting.estimates import Estimate
from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.view import View


def pictures(view: View) -> list[Picture]:
    """One, if there are mixtures of two weights or more."""
    if len(mixtures(view)) < 2:
        return []
    return [picture(view, "mixtures", draw, description, means_of="cells",
                    proposal=view.proposal_name)]  # fmt: skip


def mixtures(view: View) -> dict[float, str]:
    """The mixtures of the study by weight, least first."""
    by_weight = {
        float(getattr(cell.knobs, "classifier").alpha): cell.defense  # noqa: B009
        for cell in view.results.expected
        if foundations.classifier(cell.defense) == "mixed"
    }
    return dict(sorted(by_weight.items()))


def with_ends(view: View) -> dict[float, str]:
    """The same with the networks that are mixed, at weights 0 and 1, if they are rows."""
    by_weight = mixtures(view)
    # Of the natural network, and of the robust one.
    roles = foundations.roles(next(iter(by_weight.values())))
    ends = dict(zip((0.0, 1.0), (view.study.axes.bases[role] for role in roles), strict=True))
    rows = {alpha: name for alpha, name in ends.items() if name in view.defenses}
    return dict(sorted((rows | by_weight).items()))


def draw(view: View) -> Figure:
    """A panel for each architecture: two lines over the weight, two levels of the proposal."""
    figure, panels = drawing.panel_grid(len(view.architectures), 2.4)
    mixed = with_ends(view)
    look = view.looks[next(iter(mixtures(view).values()))]
    measures = {"NA": (view.means("NA"), drawing.NATURAL), "RA": (view.means("RA"), drawing.ROBUST)}
    proposal = view.proposal
    handles = []
    for metric, (estimates, dashes) in measures.items():
        for panel, architecture in zip(panels, view.architectures, strict=True):
            means = points(mixed, estimates, architecture)
            panel.errorbar(
                list(means), [100 * value.mean for value in means.values()],
                yerr=[100 * (value.sd or 0.0) for value in means.values()],
                color=look.colour, linestyle=dashes, marker=look.marker, markersize=4,
                linewidth=1.2, elinewidth=0.8,
            )  # fmt: skip
            if proposal and (architecture, proposal) in estimates:
                level = 100 * estimates[architecture, proposal].mean
                panel.axhline(level, color=view.looks[proposal].colour, linestyle=dashes)
        name = view("figures.mixtures.line", metric=metric)
        handles.append(Line2D([], [], color=look.colour, linestyle=dashes, marker=look.marker,
                              markersize=4, label=name))  # fmt: skip
        if proposal:
            handles.append(Line2D([], [], color=view.looks[proposal].colour, linestyle=dashes,
                                  label=f"{view.proposal_name}, {metric}"))  # fmt: skip
    for panel, architecture in zip(panels, view.architectures, strict=True):
        panel.set_title(view.network(architecture))
        panel.set_xlabel(view("figures.axes.alpha"))
    drawing.number_axes(view, panels[0])
    panels[0].set_ylim(0, 101)
    panels[0].set_ylabel(view("figures.axes.accuracy"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def points(
    mixed: dict[float, str], estimates: dict[tuple[str, str], Estimate], architecture: str
) -> dict[float, Estimate]:
    """The estimate at each weight that has one."""
    return {
        alpha: estimates[architecture, name]
        for alpha, name in mixed.items()
        if (architecture, name) in estimates
    }


def description(view: View) -> str:
    """NA and RA of each mixture."""
    natural, robust, percent = view.means("NA"), view.means("RA"), view.labels.percent
    values = {
        (architecture, name): {
            "na": percent(natural[architecture, name].mean),
            "ra": percent(robust[architecture, name].mean),
        }
        for architecture in view.architectures
        for name in mixtures(view).values()
        if (architecture, name) in natural and (architecture, name) in robust
    }
    return view.per_architecture("mixtures", values)
