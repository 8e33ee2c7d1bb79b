"""What training costs: seconds, network passes and memory of an epoch."""

import pandas as pd

from tradeoff.core.study import Study
from tradeoff.core.tables import PROPOSAL
from tradeoff.reporting.estimates import Estimate, Scale, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import seed_remarks, seed_sentence
from tradeoff.reporting.results import Results
from tradeoff.reporting.setting import device_name, trained_on
from tradeoff.reporting.tables import Measure, Table, defense_table

# Passes first: they alone do not depend on what else the machine did.
SCALES = {"passes": Scale(1, 1), "seconds": Scale(1, 1), "memory": Scale(1, 0)}
DRAWN = ("passes", "seconds")


def cost(kind: str, defense: str, architecture: str, results: Results) -> list[float]:
    """One number per seed: the mean of its epochs, of seconds the median, because a first epoch may
    hold compilation. Passes are those of a training image, forward and backward together,
    validation excluded. Empty where the histories do not have it."""
    found = []
    for cell in results.cells_of(defense, architecture):
        history = results.histories.get(cell.key)
        values = None if history is None else _of(kind, history, results)
        if values is not None and values.notna().any():
            found.append(float(values.median() if kind == "seconds" else values.mean()))
    return found


def _of(kind: str, history: pd.DataFrame, results: Results) -> pd.Series | None:
    if kind == "seconds":
        return history.get("seconds")
    if kind == "memory":
        return history.get("peak_memory_mib")
    images = results.size("images", "train")
    if images is None or not {"forward_passes", "backward_passes"} <= set(history.columns):
        return None
    return (history["forward_passes"] + history["backward_passes"]) / images


def cost_is_known(kind: str, study: Study, results: Results) -> bool:
    """Whether any cell's history tells it."""
    axes = study.axes
    return any(cost(kind, defense, name, results)
               for defense in axes.defenses for name in axes.architectures)  # fmt: skip


def cost_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """Cost of an epoch by architecture and defense; None if nothing is known of it."""

    def measure(kind: str) -> Measure:
        def of(defense: str, architecture: str) -> Estimate | None:
            return estimate(cost(kind, defense, architecture, results))

        return Measure(labels(f"cost.columns.{kind}"), of, None, scale=SCALES[kind])

    kinds = [kind for kind in SCALES if cost_is_known(kind, study, results)]
    if not kinds:
        return None
    devices = [device_name(device, labels) for device in trained_on("device", results)]
    caption = labels("tables.cost",
                     device=labels.enumerate(devices) or labels("cost.unknown"))  # fmt: skip
    return defense_table(
        "cost", caption, [("", [measure(kind) for kind in kinds])],
        seed_remarks(study, results, labels, "histories"), study, results, labels,
    )  # fmt: skip


def cost_sentences(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture how many times as many passes an epoch of the proposal takes as others'
    do, then how many times as long."""
    if PROPOSAL not in study.axes.defenses:
        return []
    text = []
    for architecture in study.axes.architectures:
        parts = []
        for kind in DRAWN:
            mine = estimate(cost(kind, PROPOSAL, architecture, results))
            ratios = []
            for other in study.axes.defenses:
                theirs = estimate(cost(kind, other, architecture, results))
                if other != PROPOSAL and mine and theirs and theirs.mean > 0:
                    ratio = labels.printed(mine.mean / theirs.mean, Scale(1, 2))
                    ratios.append(labels("cost.ratio", ratio=ratio,
                                         other=labels.name("defenses", other)))  # fmt: skip
            if ratios:
                parts.append(labels(f"cost.{kind}_sentence", ratios=labels.enumerate(ratios),
                                    proposal=labels.name("defenses", PROPOSAL)))  # fmt: skip
        if parts:
            name = labels.name("architectures", architecture)
            text.append(labels("cost.of", architecture=name, parts=" ".join(parts)))
    fewer = seed_sentence("histories", study, results, labels)
    return [*text, fewer] if text and fewer else text
