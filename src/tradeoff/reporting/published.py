"""What others have published, from report_templates/published.yaml, beside this study's numbers."""

from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Literal

from pydantic import Field

from tradeoff.core.schema import Fraction, Positive, PositiveInt, Section, read_yaml, validate
from tradeoff.reporting.estimates import Estimate, Scale
from tradeoff.reporting.setting import radius, standard_autoattack
from tradeoff.reporting.table import Block, Column, Number, Row, Table
from tradeoff.reporting.view import View

FILE = "published.yaml"
AUTOATTACK = "AutoAttack"


class Published(Section):
    """A published result.

    Attributes:
        method, network: as the source calls them, or a module's name.
        defense: the module of the method, if there is one.
        dataset: where the numbers come from; `near` are data sets beside which they stand too.
        clean, robust: accuracies in [0, 1]; robust under the attack `under`.
        seeds, sd: over how many trainings robust is a mean, and its standard deviation.
        epoch: which one was evaluated; None: the source does not say.
    """

    method: str
    network: str
    defense: str | None = None
    dataset: str
    near: list[str] = Field(default_factory=list)
    norm: Literal["l0", "l2", "linf"]
    epsilon: Positive
    clean: Fraction | None = None
    robust: Fraction
    under: str
    images: PositiveInt = 10000
    seeds: PositiveInt = 1
    sd: Fraction | None = None
    epoch: Literal["best", "last"] | None = None
    source: str


class _File(Section):
    results: list[Published]


def load_published(folder: Path) -> list[Published]:
    """The entries of the file.

    Raises:
        BadParams: it is not YAML, or an entry is not what it should be; the message names the
            file, and where there is one the key and value.
    """
    file: _File = validate(_File, {"results": read_yaml(folder / FILE)}, file=FILE)
    return file.results


def published_table(view: View, entries: Sequence[Published]) -> Table | None:
    """Published numbers, ours of the same defense and network, and the gap in standard errors, or
    in grey why there is none; None if nothing is published.

    Where nothing is published of the data set, each defense has what is published of it elsewhere:
    the first entry in the file.
    """
    name = view.results.dataset.name
    chosen = [entry for entry in entries if name in (entry.dataset, *entry.near)]
    if not chosen:
        first = {entry.defense: entry for entry in reversed(entries)}
        chosen = [first[defense] for defense in view.defenses if defense in first]
    if not chosen:
        return None
    keys = ("clean", "robust", "under", "ours_clean", "ours", "gap", "source")
    columns = [Column(view(f"published.{key}")) for key in keys]
    block = Block("", [_row(view, entry) for entry in chosen])
    return Table("published", view("tables.published"), view("words.defense"), columns, [block])


def standard_errors(ours: Estimate, images: int, entry: Published) -> float:
    """Ours less theirs, over the standard error of this difference: of the seeds, where several
    were trained, and of the choice of test images."""
    our_variance = (ours.sd or 0) ** 2 / ours.seeds + ours.mean * (1 - ours.mean) / images
    sampling = entry.robust * (1 - entry.robust) / entry.images
    their_variance = (entry.sd or 0) ** 2 / entry.seeds + sampling
    return (ours.mean - entry.robust) / sqrt(our_variance + their_variance)


def why_not_comparable(view: View, entry: Published) -> str:
    """The first thing in which a published number is of something else; empty if it is not."""
    dataset = view.results.dataset
    threat = dataset.threat
    if entry.dataset != dataset.name:
        return view("published.other_data", dataset=view.labels.name("datasets", entry.dataset))
    if entry.norm != threat.norm or abs(entry.epsilon - threat.epsilon) > 0.001:
        return view("published.other_threat", norm=view.labels.name("norms", entry.norm),
                    radius=radius(view, entry.epsilon))  # fmt: skip
    if entry.defense not in view.defenses:
        return view("published.no_row")
    if entry.network not in view.architectures:
        return view("published.other_network")
    if dataset.models[entry.network].width != 1:
        width = view.labels.number(dataset.models[entry.network].width)
        return view("published.width", width=width)
    if entry.under != AUTOATTACK:
        return view("published.other_attack")
    if entry.epoch == "last":
        return view("published.last")
    if not standard_autoattack(view):
        return view("published.budget")
    return ""


def _row(view: View, entry: Published) -> Row:
    percent, network = view.labels.percent, view.network(entry.network)
    alone = view.architectures[0] if len(view.architectures) == 1 else entry.network
    place = (alone, entry.defense or "")
    natural, robust = view.means("NA").get(place), view.means("RA").get(place)
    reason = why_not_comparable(view, entry)
    if robust is None:
        reason = reason or view("words.missing")
    gap = reason
    if robust is not None and not reason:
        images = int(view.results.cells["images"].min())
        gap = view.labels.formatted(standard_errors(robust, images, entry), Scale(1, 1))
    seeds = f"; {view.labels.seeds(entry.seeds)}" if entry.seeds > 1 else ""
    sd = f" ± {percent(entry.sd)}" if entry.sd is not None else ""
    numbers = (
        "" if entry.clean is None else percent(entry.clean),
        percent(entry.robust) + sd,
        entry.under,
        "" if natural is None else percent(natural.mean),
        "" if robust is None else percent(robust.mean),
        gap,
        entry.source + seeds,
    )
    header = f"{entry.method}, {network}"
    return Row(header, list(map(Number, numbers)), minor=bool(reason))
