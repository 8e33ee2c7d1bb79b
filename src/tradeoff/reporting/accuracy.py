"""The tables of accuracies and cost: a row for each defense, or one for each attack."""

import pandas as pd

from tradeoff.reporting import evidence
from tradeoff.reporting.coverage import known_seeds, seed_remarks
from tradeoff.reporting.estimates import Scale
from tradeoff.reporting.table import (
    Block,
    Column,
    Measure,
    Number,
    Row,
    Table,
    cells_measure,
    defense_table,
    ranked_column,
    wide_or_tall,
)
from tradeoff.reporting.view import View, means

PASSES = Scale(1, 1)


def main_table(view: View) -> Table:
    """NA and RA with sd, RD, ASR, the worst class's RA, APN in the threat's norm, ECE.

    The worst class and ECE are one number per seed, which nothing tests: there is no best.
    """
    norm = view.results.dataset.threat.norm
    norm_name = view.labels.name("norms", norm)
    measures = [
        cells_measure(view, "NA", True),
        cells_measure(view, "RA", True),
        cells_measure(view, "RD", False),
        # As RA's: ASR = 1 - RA.
        cells_measure(view, "ASR", False, spread=False, metric="RA"),
        cells_measure(view, "RA_worst_class"),
        evidence.average_norm(view, norm, view("metrics.APN_named", norm=norm_name)),
        cells_measure(view, "ECE"),
    ]
    seeds, flags = seed_remarks(view), evidence.flag_remarks(view)
    remarks = {place: [*seeds.get(place, ()), *flags.get(place, ())] for place in view.places()}
    return defense_table(
        view, "main", measures, remarks,
        images=view.labels.counts(view.results.cells["images"]),
        natural=view.labels.counts(view.results.cells["images_bounded"]),
        norms=view.labels.counts(view.results.norms["images"]),
        seeds=view.labels.seeds(len(view.seeds)),
        norm=norm_name,
    )  # fmt: skip


def attack_table(view: View) -> Table:
    """Accuracy of the selected models under each attack, attacks down and defenses across; last
    how often right images were fooled, and where seeds are missing, of how many it all is."""
    results = view.results
    attacks = (*results.bounded_attacks, *results.further_attacks, *results.autoattack_parts)
    measures = [
        under_attack(view, "natural", metric="NA"),
        *(under_attack(view, attack) for attack in attacks),
        under_attack(view, "all", metric="RA"),
        cells_measure(view, "ASR_correct"),
    ]
    blocks = []
    for architecture in view.architectures:
        rows = []
        for measure in measures:
            numbers, limit = ranked_column(view, architecture, measure)
            rows.append(Row(measure.header, [*numbers, Number(limit)]))
        counts = [len(known_seeds(view, "cells", (architecture, name))) for name in view.defenses]
        if min(counts) < len(view.seeds):
            texts = [view("notes.count", there=count, all=len(view.seeds)) for count in counts]
            row = [Number(text) for text in (*texts, "")]
            rows.append(Row(view("words.seeds"), row, minor=True))
        blocks.append(Block(view.network(architecture), rows))
    columns = [Column(view.name(defense), spread=True) for defense in view.defenses]
    columns.append(Column(view("words.detectable_short")))
    table = Table("attacks", view("tables.attacks"), view("words.attack"), columns, blocks)
    return wide_or_tall(table, view("words.defense"))


def under_attack(view: View, attack: str, metric: str = "", group: str = "") -> Measure:
    """Accuracy under an attack; `metric` is its name among the results if that is another."""
    return Measure(view.labels.name("attacks", attack), means(view.results.accuracy(attack)), True,
                   metric=metric or f"accuracy_{attack}", group=group)  # fmt: skip


def beyond_table(view: View) -> Table | None:
    """Accuracy under the attacks that RA does not count, beside NA and RA; None without any."""
    beyond = view.results.attacks_beyond
    if not beyond:
        return None
    beside = [cells_measure(view, name, True) for name in ("NA", "RA")]
    group = view("metrics.beyond")
    measures = [under_attack(view, attack, group=group) for attack in beyond]
    return defense_table(view, "beyond", [*beside, *measures], seed_remarks(view))


def overfitting_table(view: View) -> Table:
    """The model selected on validation against the last epoch's, and the mean of last - best.

    Both on the images of the suite that attacks both of them, and under its attacks alone.
    """
    results = view.results
    best = {"NA": results.accuracy("natural"), "RA": results.metric("RA_bounded")}
    measures = []
    for metric, chosen in best.items():
        last = results.metric(f"{metric}_last")
        group = view(f"tables.overfitting_groups.{metric}")
        measures += [
            Measure(view(f"tables.overfitting_columns.{kind}"), means(values), group=group)
            for kind, values in (("best", chosen), ("last", last), ("change", last - chosen))
        ]
    return defense_table(view, "overfitting", measures, seed_remarks(view))


def class_table(view: View) -> Table | None:
    """RA of every class, the numbers of the figure; None if there is none by class."""
    accuracies = view.results.class_accuracies()
    if accuracies.empty:
        return None
    measures = [
        Measure(view("words.class_index", index=index), means(accuracies[index]), spread=False)
        for index in accuracies
    ]
    return defense_table(view, "classes", measures, seed_remarks(view))


def fairness_table(view: View) -> Table | None:
    """RA of the worst and of the best class, their gap and the spread over the classes, of each
    seed and then averaged; None if there is no RA by class."""
    accuracies = view.results.class_accuracies()
    if accuracies.empty:
        return None
    low, high = accuracies.min(axis=1), accuracies.max(axis=1)
    measures = [
        cells_measure(view, "RA", True),
        Measure(view("fairness.worst"), means(low)),
        Measure(view("fairness.best"), means(high)),
        Measure(view("fairness.gap"), means(high - low)),
        Measure(view("fairness.spread"), means(accuracies.std(axis=1, ddof=0))),
    ]
    return defense_table(view, "fairness", measures, seed_remarks(view))


def passes(view: View) -> pd.Series:
    """Network passes for each training image, forward and backward together and validation
    excluded, of each model with a history that tells them: the mean of its epochs."""
    images = view.results.size("images", "train")
    rows = {}
    for cell in view.results.expected:
        history = view.results.histories.get(cell.key, pd.DataFrame())
        if images and {"forward_passes", "backward_passes"} <= set(history):
            count = (history["forward_passes"] + history["backward_passes"]).mean() / images
            rows[cell.architecture, cell.defense, cell.seed] = count
    index = pd.MultiIndex.from_tuples(list(rows), names=["architecture", "defense", "seed"])
    return pd.Series(list(rows.values()), index, dtype=float)


def cost_table(view: View) -> Table | None:
    """Passes of an epoch by architecture and defense; None if the histories do not tell them."""
    counts = means(passes(view)) if view.results.histories else {}
    if not counts:
        return None
    measure = Measure(view("cost.columns.passes"), counts, scale=PASSES)
    return defense_table(view, "cost", [measure], seed_remarks(view, "histories"))
