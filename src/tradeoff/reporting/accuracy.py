"""The tables of accuracies: the main one, each attack, best against last, each class."""

from collections.abc import Callable

import pandas as pd

from tradeoff.core.study import Study
from tradeoff.reporting import evidence
from tradeoff.reporting.estimates import Estimate, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import seed_remarks, seeds_there
from tradeoff.reporting.results import Results
from tradeoff.reporting.tables import (
    Block,
    Column,
    Group,
    Measure,
    Number,
    Row,
    Table,
    contest,
    defense_table,
)

Of = Callable[[str, str], Estimate | None]


def main_table(study: Study, results: Results, labels: Labels) -> Table:
    """NA and RA with sd, RD, ASR, the worst class's RA, APN in the threat's norm, ECE.

    The worst class and ECE are one number per seed, which nothing tests: there is no best.
    """

    def of(column: str) -> Of:
        return lambda defense, architecture: estimate(results.group(defense, architecture)[column])

    measures = [
        Measure(labels("metrics.NA"), of("NA"), True, metric="NA"),
        Measure(labels("metrics.RA"), of("RA"), True, metric="RA"),
        Measure(labels("metrics.RD"), of("RD"), False, metric="RD"),
        # As RA's: ASR = 1 - RA.
        Measure(labels("metrics.ASR"), of("ASR"), False, spread=False, metric="RA"),
        Measure(labels("metrics.RA_worst_class"), of("RA_worst_class"), None),
        evidence.average_norm(results.dataset.threat.norm, results, labels, named=True),
        Measure(labels("metrics.ECE"), of("ECE"), None),
    ]  # fmt: skip
    caption = labels(
        "tables.main",
        images=image_counts("images", results, labels),
        natural=image_counts("images_bounded", results, labels),
        norms=evidence.norm_images(results, labels),
        seeds=len(study.axes.seeds),
        norm=labels.name("norms", results.dataset.threat.norm),
    )
    seeds = seed_remarks(study, results, labels)
    flags = evidence.flag_remarks(study, results, labels)
    places = [*seeds, *flags]
    remarks = {place: [*seeds.get(place, ()), *flags.get(place, ())] for place in places}
    return defense_table("main", caption, [("", measures)], remarks, study, results, labels)


def attack_table(study: Study, results: Results, labels: Labels) -> Table:
    """Accuracy of the selected models under each attack, attacks down and defenses across; last
    how often right images were fooled, and where seeds are missing, of how many it all is."""

    def under(attack: str) -> Measure:
        def of(defense: str, architecture: str) -> Estimate | None:
            return estimate(results.accuracies(defense, architecture, attack))

        name = labels.name("attacks", attack)
        metric = {"natural": "NA", "all": "RA"}.get(attack, f"accuracy_{attack}")
        return Measure(name, of, True, metric=metric)

    def fooled(defense: str, architecture: str) -> Estimate | None:
        return estimate(results.group(defense, architecture)["ASR_correct"])

    names = ["natural", *results.bounded_attacks, *results.autoattack_parts, "all"]
    measures = [*map(under, names), Measure(labels("metrics.ASR_correct"), fooled, None)]
    blocks = []
    for architecture in study.axes.architectures:
        rows = []
        for measure in measures:
            numbers, limit = contest(architecture, measure, study, results, labels)
            rows.append(Row(measure.header, (*numbers, Number(limit))))
        rows += _seeds_row(architecture, study, results, labels)
        blocks.append(Block(labels.name("architectures", architecture), tuple(rows)))
    columns = [Column(labels.name("defenses", name), spread=True) for name in study.axes.defenses]
    columns.append(Column(labels("words.detectable_short"), spread=False))
    return Table(
        "attacks", labels("tables.attacks"), labels("words.attack"),
        (Group("", tuple(columns)),), tuple(blocks), (),
    )  # fmt: skip


def _seeds_row(architecture: str, study: Study, results: Results, labels: Labels) -> list[Row]:
    """A row that says of how many seeds each defense's means are; none if of all."""
    asked = len(study.axes.seeds)
    counts = [len(seeds_there("cells", name, architecture, results))
              for name in study.axes.defenses]  # fmt: skip
    if all(count == asked for count in counts):
        return []
    numbers = [Number(labels("notes.count", there=count, all=asked)) for count in counts]
    return [Row(labels("words.seeds"), (*numbers, Number()), minor=True)]


def overfitting_table(study: Study, results: Results, labels: Labels) -> Table:
    """The model selected on validation against the last epoch's, and the mean of last - best.

    Both on the images of the suite that attacks both of them, and under its attacks alone.
    """

    def best_of(name: str, defense: str, architecture: str) -> pd.Series:
        rows = results.group(defense, architecture).set_index("seed")
        if name == "RA":
            return rows["RA_bounded"]
        return results.accuracies(defense, architecture, "natural")

    def measure(name: str, kind: str) -> Measure:
        def of(defense: str, architecture: str) -> Estimate | None:
            last = results.group(defense, architecture).set_index("seed")[f"{name}_last"]
            chosen = best_of(name, defense, architecture)
            return estimate({"best": chosen, "last": last, "change": last - chosen}[kind])

        return Measure(labels(f"tables.overfitting_columns.{kind}"), of, None)

    groups = [
        (labels(f"tables.overfitting_groups.{name}"),
         [measure(name, kind) for kind in ("best", "last", "change")])
        for name in ("NA", "RA")
    ]  # fmt: skip
    return defense_table(
        "overfitting", labels("tables.overfitting"), groups,
        seed_remarks(study, results, labels), study, results, labels,
    )  # fmt: skip


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

    def of(index: int) -> Of:
        return lambda *place: estimate([found[place][index]]) if index in found[place] else None

    measures = [
        Measure(labels("words.class_index", index=index), of(index), None, spread=False)
        for index in classes
    ]
    return defense_table(
        "classes", labels("tables.classes"), [("", measures)],
        seed_remarks(study, results, labels), study, results, labels,
    )  # fmt: skip


def fairness_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """RA of the worst and of the best class, their gap and the spread over the classes, of each
    seed and then averaged; None if there is no RA by class."""
    if not any(
        len(results.class_accuracies(defense, architecture))
        for defense in study.axes.defenses
        for architecture in study.axes.architectures
    ):
        return None

    def over_classes(kind: str) -> Of:
        def of(defense: str, architecture: str) -> Estimate | None:
            rows = results.seed_class_accuracies(defense, architecture)
            low, high = rows.min(axis=1), rows.max(axis=1)
            numbers = {"worst": low, "best": high, "gap": high - low,
                       "spread": rows.std(axis=1, ddof=0)}  # fmt: skip
            return estimate(numbers[kind])

        return of

    measures = [
        Measure(labels("metrics.RA"), lambda *place: estimate(results.group(*place)["RA"]), True,
                metric="RA"),
        Measure(labels("fairness.worst"), over_classes("worst"), None),
        Measure(labels("fairness.best"), over_classes("best"), None),
        Measure(labels("fairness.gap"), over_classes("gap"), None),
        Measure(labels("fairness.spread"), over_classes("spread"), None),
    ]  # fmt: skip
    return defense_table(
        "fairness", labels("tables.fairness"), [("", measures)],
        seed_remarks(study, results, labels), study, results, labels,
    )  # fmt: skip


def image_counts(column: str, results: Results, labels: Labels) -> str:
    """On how many images RA ("images") or NA ("images_bounded") counts: a number, or those of
    several cells."""
    counts = sorted({int(count) for count in results.cells[column].dropna()})
    return labels.enumerate([str(count) for count in counts]) or "0"
