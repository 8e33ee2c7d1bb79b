"""The tables of a report, with every number already printed; HTML and LaTeX only lay them out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from tradeoff.reporting.estimates import Estimate, best, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.study import Study


@dataclass(frozen=True)
class Number:
    """A table's entry: "85.3", its "0.4", or two empty texts where nothing is known."""

    mean: str = ""
    sd: str = ""
    best: bool = False
    note: str = ""
    """The letter of a note below the table."""


@dataclass(frozen=True)
class Column:
    """A column; `spread` tells whether its entries are mean ± sd."""

    header: str
    spread: bool


@dataclass(frozen=True)
class Group:
    """Neighbouring columns under a common header, which may be empty."""

    header: str
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Row:
    header: str
    numbers: tuple[Number, ...]
    note: str = ""


@dataclass(frozen=True)
class Block:
    """Rows under a common header, which may be empty."""

    header: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Note:
    letter: str
    text: str


@dataclass(frozen=True)
class Table:
    key: str
    caption: str
    corner: str
    groups: tuple[Group, ...]
    blocks: tuple[Block, ...]
    notes: tuple[Note, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        return tuple(column for group in self.groups for column in group.columns)

    @property
    def spread(self) -> bool:
        """Whether any entry has a standard deviation; a single seed has none."""
        return any(
            number.sd for block in self.blocks for row in block.rows for number in row.numbers
        )


@dataclass(frozen=True)
class Metric:
    """A column of the results: its label, and which direction is better (None: neither)."""

    key: str
    higher_is_better: bool | None
    spread: bool = True


MAIN = (
    Metric("NA", True),
    Metric("RA", True),
    Metric("RD", False, spread=False),
    Metric("ASR", False, spread=False),
    Metric("RA_worst_class", True, spread=False),
)


def main_table(study: Study, results: Results, labels: Labels) -> Table:
    """Defenses down, architectures across: NA and RA with sd, RD, ASR and the worst class's RA."""
    axes = study.axes
    notes = seed_notes(study, results, labels)
    columns: list[list[Number]] = []
    groups = []
    for architecture in axes.architectures:
        for metric in MAIN:
            estimates = [
                estimate(results.group(defense, architecture)[metric.key])
                for defense in axes.defenses
            ]
            letters = [_letter(notes, d, architecture) if metric.spread else ""
                       for d in axes.defenses]  # fmt: skip
            columns.append(_column(estimates, metric, letters, labels))
        headers = tuple(Column(labels(f"metrics.{m.key}"), m.spread) for m in MAIN)
        groups.append(Group(labels.name("architectures", architecture), headers))
    rows = tuple(
        Row(labels.name("defenses", defense), tuple(column[index] for column in columns))
        for index, defense in enumerate(axes.defenses)
    )
    return Table(
        "main", labels("tables.main"), labels("words.defense"), tuple(groups),
        (Block("", rows),), tuple(notes.values()),
    )  # fmt: skip


def attack_table(study: Study, results: Results, labels: Labels) -> Table:
    """Accuracy of the selected models under each attack, and how often right ones were fooled."""
    attacks = ["natural", *results.attack_names, "all"]
    metrics = [Metric(name, True) for name in attacks] + [Metric("ASR_correct", False)]

    def values(defense: str, architecture: str, metric: Metric) -> Estimate | None:
        if metric.key == "ASR_correct":
            return estimate(results.group(defense, architecture)["ASR_correct"])
        return estimate(results.accuracies(defense, architecture, metric.key))

    headers = [*(labels.name("attacks", name) for name in attacks), labels("metrics.ASR_correct")]
    return _blocks("attacks", metrics, headers, values, study, results, labels)


def overfitting_table(study: Study, results: Results, labels: Labels) -> Table:
    """The model selected on validation against the last epoch's, and the mean of last - best."""
    keys = ("NA", "NA_last", "NA_change", "RA", "RA_last", "RA_change")

    def values(defense: str, architecture: str, metric: Metric) -> Estimate | None:
        rows = results.group(defense, architecture)
        if metric.key.endswith("_change"):
            name = metric.key.removesuffix("_change")
            return estimate(rows[f"{name}_last"] - rows[name])
        return estimate(rows[metric.key])

    metrics = [Metric(key, None) for key in keys]
    headers = [labels(f"tables.overfitting_columns.{key}") for key in keys]
    return _blocks("overfitting", metrics, headers, values, study, results, labels)


def class_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """RA of every class, the numbers of the figure; None if there is none by class."""
    found = {
        (defense, architecture): results.class_accuracies(defense, architecture)
        for architecture in study.axes.architectures
        for defense in study.axes.defenses
    }
    classes = sorted({index for values in found.values() for index in values.index})
    if not classes:
        return None

    def values(defense: str, architecture: str, metric: Metric) -> Estimate | None:
        row = found[defense, architecture]
        return estimate([row[int(metric.key)]]) if int(metric.key) in row.index else None

    metrics = [Metric(str(index), None, spread=False) for index in classes]
    headers = [labels("words.class_index", index=index) for index in classes]
    return _blocks("classes", metrics, headers, values, study, results, labels)


def seed_notes(study: Study, results: Results, labels: Labels) -> dict[tuple[str, str], Note]:
    """For each (defense, architecture) that lacks seeds: on how many its means rest."""
    notes: dict[tuple[str, str], Note] = {}
    seeds = study.axes.seeds
    for architecture in study.axes.architectures:
        for defense in study.axes.defenses:
            there = set(results.group(defense, architecture)["seed"])
            missing = [seed for seed in seeds if seed not in there]
            if missing:
                key = "notes.no_seed" if not there else "notes.seeds"
                text = labels(
                    key,
                    defense=labels.name("defenses", defense),
                    architecture=labels.name("architectures", architecture),
                    there=len(seeds) - len(missing),
                    all=len(seeds),
                    missing=labels.enumerate([str(seed) for seed in missing]),
                )
                notes[defense, architecture] = Note(_nth_letter(len(notes)), text)
    return notes


def _blocks(
    key: str,
    metrics: Sequence[Metric],
    headers: Sequence[str],
    values: Callable[[str, str, Metric], Estimate | None],
    study: Study,
    results: Results,
    labels: Labels,
) -> Table:
    """A table with one block of rows for each architecture; the best is sought in each block."""
    notes = seed_notes(study, results, labels)
    blocks = []
    for architecture in study.axes.architectures:
        columns = [
            _column(
                [values(defense, architecture, metric) for defense in study.axes.defenses],
                metric,
                [""] * len(study.axes.defenses),
                labels,
            )
            for metric in metrics
        ]
        rows = tuple(
            Row(
                labels.name("defenses", defense),
                tuple(column[index] for column in columns),
                _letter(notes, defense, architecture),
            )
            for index, defense in enumerate(study.axes.defenses)
        )
        blocks.append(Block(labels.name("architectures", architecture), rows))
    pairs = zip(headers, metrics, strict=True)
    group = Group("", tuple(Column(header, metric.spread) for header, metric in pairs))
    return Table(
        key, labels(f"tables.{key}"), labels("words.defense"), (group,), tuple(blocks),
        tuple(notes.values()),
    )  # fmt: skip


def _column(
    estimates: list[Estimate | None], metric: Metric, letters: list[str], labels: Labels
) -> list[Number]:
    if metric.higher_is_better is None:
        winners = [False] * len(estimates)
    else:
        winners = best(estimates, metric.higher_is_better)
    return [
        _number(one, winner, letter, metric.spread, labels)
        for one, winner, letter in zip(estimates, winners, letters, strict=True)
    ]


def _number(
    one: Estimate | None, winner: bool, letter: str, spread: bool, labels: Labels
) -> Number:
    if one is None:
        return Number(note=letter)
    sd = labels.percent(one.sd) if spread and one.sd is not None else ""
    return Number(labels.percent(one.mean), sd, winner, letter)


def _letter(notes: dict[tuple[str, str], Note], defense: str, architecture: str) -> str:
    note = notes.get((defense, architecture))
    return note.letter if note else ""


def _nth_letter(index: int) -> str:
    """a, b, ..., z, aa, ab, ..."""
    more, last = divmod(index, len(ascii_lowercase))
    return (_nth_letter(more - 1) if more else "") + ascii_lowercase[last]
