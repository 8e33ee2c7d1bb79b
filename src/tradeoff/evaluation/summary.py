"""From the ledgers of a data set's cells to its tables, which are in git and feed the report."""

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

from tradeoff.attacks.suites.ledger import Array, BadLedger, Ledger, load_ledger
from tradeoff.core.schema import dotted
from tradeoff.core.settings import MaskingSettings, StatisticsSettings
from tradeoff.core.study import Cell
from tradeoff.core.tables import HEADLINE
from tradeoff.evaluation.calibration import clean_calibration_error
from tradeoff.evaluation.masking import attack_numbers, flags, gradient_checks, gradient_numbers
from tradeoff.evaluation.metrics import (
    accuracies,
    by_class,
    correct_images,
    robust_images,
    under_both_suites,
    worst_class,
)
from tradeoff.evaluation.norms import NORMS, average_norms, minimum_norms, nearest, robust_accuracy
from tradeoff.evaluation.statistics import (
    Interval,
    holm,
    minimum_detectable_difference,
    t_interval,
    t_test,
)

CURVE_POINTS = 41
CONFUSION_IMAGES = 1000


@dataclass(frozen=True)
class CellLedgers:
    """A cell and the ledgers of its suites."""

    cell: Cell
    bounded: Ledger
    autoattack: Ledger
    minimal: Ledger
    beyond: Ledger | None = None

    @property
    def identity(self) -> dict[str, Any]:
        cell = self.cell
        return {"defense": cell.defense, "architecture": cell.architecture, "seed": cell.seed}

    @property
    def classes(self) -> int:
        return int(self.bounded.about["classes"])


def load_cell_ledgers(cell: Cell) -> CellLedgers:
    """Read the ledgers of a cell.

    Raises:
        BadLedger: a ledger is missing, damaged, or of another cell, threat or attacks than
            params.yaml has now.
    """
    return CellLedgers(cell, **{suite: _ledger(cell, suite) for suite in cell.dataset.suites})


def _ledger(cell: Cell, suite: str) -> Ledger:
    path = cell.ledger(suite)
    ledger = load_ledger(path, cell.key, suite)
    evaluation = cell.dataset.evaluation(suite)
    wanted, recorded = dotted(evaluation), dotted({n: ledger.about.get(n) for n in evaluation})
    for name in wanted | recorded:
        if recorded.get(name) != wanted.get(name):
            raise BadLedger(
                f"{path}: of another run: {name} was {recorded.get(name)}, params.yaml has "
                f"{wanted.get(name)}; delete it and run: dvc repro attack@{cell.key}-{suite}"
            )
    return ledger


def cell_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """One row per cell.

    Columns beside those of the cell:
        images_bounded, NA, ECE: the selected model on all images of the bounded suite.
        images, RA, RD, ASR, ASR_correct, RA_worst_class: under all bounded attacks and AutoAttack,
            on the images that both suites have, so that RD is NA - RA on these.
        RA_bounded: the selected model under the bounded suite alone.
        NA_last, RA_last: the last model under the bounded suite alone.
        queries, backward_passes: the cost of both suites.
    """
    rows = []
    for ledgers in cells:
        suites = ledgers.bounded, ledgers.autoattack
        correct, robust = under_both_suites(*suites)
        labels = ledgers.bounded["labels"][: len(correct)]
        rows.append(
            ledgers.identity
            | {"images": len(correct), "images_bounded": len(ledgers.bounded["labels"])}
            | accuracies(correct, robust)
            | {
                "NA": correct_images(ledgers.bounded, "best").mean(),
                "RA_worst_class": worst_class(robust, labels, ledgers.classes),
                "NA_last": correct_images(ledgers.bounded, "last").mean(),
                "RA_last": robust_images(ledgers.bounded, "last").mean(),
                "RA_bounded": robust_images(ledgers.bounded, "best").mean(),
                "ECE": clean_calibration_error(ledgers.bounded, "best"),
                "queries": sum(int(suite["queries"].sum()) for suite in suites),
                "backward_passes": sum(round(float(suite["gradients"].sum())) for suite in suites),
            }
        )
    return pd.DataFrame(rows)


def attack_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """Accuracy per cell, version, attack ("natural", each attack, "all") and class ("all", each).

    Parts of AutoAttack are cumulative: RA after the part and those before it. Attacks of suite
    `beyond` are none of "all".
    """
    rows: list[dict[str, Any]] = []
    for ledgers in cells:
        for version, attack, robust, labels in _accuracies(ledgers):
            about = ledgers.identity | {"version": version, "attack": attack}
            counts = np.bincount(labels, minlength=ledgers.classes)
            rows.append(about | {"class": "all", "images": len(labels), "accuracy": robust.mean()})
            rows += [
                about | {"class": str(label), "images": count, "accuracy": accuracy}
                for label, (count, accuracy) in enumerate(
                    zip(counts, by_class(robust, labels, ledgers.classes), strict=True)
                )
            ]
    return pd.DataFrame(rows)


def _accuracies(ledgers: CellLedgers) -> Iterator[tuple[str, str, Array, Array]]:
    """Yield (version, attack, which images are correct under it, labels) for each accuracy."""
    for version in ledgers.bounded.versions:
        labels = ledgers.bounded["labels"]
        yield version, "natural", correct_images(ledgers.bounded, version), labels
        for attack in ledgers.bounded.attacks:
            robust = robust_images(ledgers.bounded, version, attack)
            yield version, attack, robust, labels[: len(robust)]
        if version == "last":
            yield version, "all", robust_images(ledgers.bounded, version), labels
    for attack in ledgers.autoattack.attacks:
        robust = robust_images(ledgers.autoattack, "best", attack)
        yield "best", attack, robust, ledgers.autoattack["labels"][: len(robust)]
    _, robust = under_both_suites(ledgers.bounded, ledgers.autoattack)
    yield "best", "all", robust, ledgers.bounded["labels"][: len(robust)]
    if ledgers.beyond is not None:
        for attack in ledgers.beyond.attacks:
            robust = robust_images(ledgers.beyond, "best", attack)
            yield "best", attack, robust, ledgers.beyond["labels"]


def norm_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """APN (equation 5.5) per cell and norm, over all images and over the fooled ones."""
    rows = []
    for ledgers in cells:
        for norm in NORMS:
            minimum = _least_norms(ledgers, norm)
            about = ledgers.identity | {"norm": norm, "images": len(minimum)}
            rows.append(about | average_norms(minimum))
    return pd.DataFrame(rows)


def _least_norms(ledgers: CellLedgers, norm: Literal["l0", "l2", "linf"]) -> Array:
    """The least norm that fools the selected model, of the images of the minimal suite.

    An adversarial example of the other suites counts too: without it, AutoAttack could fool an
    image within epsilon and its minimum norm still call it robust at epsilon. Such an example is
    within the threat, even if its norm is rounded to more.
    """
    least = minimum_norms(ledgers.minimal, "best", norm)
    threat = ledgers.cell.dataset.threat
    for ledger in (ledgers.bounded, ledgers.autoattack):
        norms = nearest(ledger.first(len(least)), "best", norm)
        if norm == threat.norm:
            norms = np.where(np.isfinite(norms), np.minimum(norms, threat.epsilon), norms)
        least[: len(norms)] = np.minimum(least[: len(norms)], norms)
    return least


def curve_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """RA at radii up to twice the threat's epsilon, in its norm, computed from the least norms.

    At the threat's epsilon it is at most the RA under the bounded attacks and AutoAttack on these
    images.
    """
    rows = []
    for ledgers in cells:
        threat = ledgers.cell.dataset.threat
        # Multiplied, so that the radius in the middle is exactly the threat's epsilon.
        epsilons = np.linspace(0, 2, CURVE_POINTS) * threat.epsilon
        curve = robust_accuracy(_least_norms(ledgers, threat.norm), epsilons)
        rows += [
            ledgers.identity | {"epsilon": epsilon, "RA": value}
            for epsilon, value in zip(epsilons, curve, strict=True)
        ]
    return pd.DataFrame(rows)


def difference_table(
    cells: list[CellLedgers], settings: StatisticsSettings, seeds: int, proposal: str | None
) -> pd.DataFrame:
    """The proposal less each other defense in NA and RA, with t interval and detectable difference.

    A pair is compared on the seeds that both have; without any it has no row, and the table is
    empty if the study has no proposal. `detectable_table` tells which differences are resolved.

    Args:
        seeds: how many the study asks for; see `_tested`.
    """
    rows = []
    for architecture, _, other, numbers in _pairs(cells, lambda first, _: first == proposal):
        for metric in HEADLINE:
            ours, theirs = numbers[metric]
            interval = t_interval(ours, theirs, settings.level)
            limit, _ = _tested(ours, theirs, settings, seeds)
            rows.append((architecture, other, metric, *ours.shape, *interval, limit))
    columns = ["architecture", "other", "metric", "seeds", "images", *Interval._fields]
    return pd.DataFrame(rows, columns=[*columns, "detectable"])


def detectable_table(
    cells: list[CellLedgers], settings: StatisticsSettings, seeds: int, proposal: str | None
) -> pd.DataFrame:
    """The smallest detectable difference and a t test of every pair of defenses, by architecture
    and metric.

    Of NA, RA, RD, the accuracy under each attack ("accuracy_ATTACK") and APN_*, which are means of
    numbers of single images, with regard to seeds and images. The worst class's RA and ECE are one
    number per seed: three of them do not tell how much they vary, and they are not tested. Of the
    seeds that both have; a pair that has none in common is left out.

    Columns beside those: p, Holm-adjusted over all tests of the pair's family: those of the
    proposal's pairs in NA and RA, or else all those of the metric; and resolved, whether p is at
    most alpha. Both are missing where there is no test.

    Args:
        seeds: how many the study asks for; see `_tested`.
    """
    rows = [
        (architecture, metric, first, second, *_tested(*pair, settings, seeds))
        for architecture, first, second, numbers in _pairs(cells, operator.lt)
        for metric, pair in numbers.items()
    ]
    columns = ["architecture", "metric", "one", "other", "detectable", "p"]
    table = pd.DataFrame(rows, columns=columns)
    ours = (table["one"] == proposal) | (table["other"] == proposal)
    family = table["metric"].mask(ours & table["metric"].isin(HEADLINE), "of the proposal")
    for name in family.unique():
        table.loc[family == name, "p"] = holm(table.loc[family == name, "p"].to_numpy())
    table["resolved"] = (table["p"] <= settings.alpha).astype(object).where(table["p"].notna())
    return table


def _pairs(
    cells: list[CellLedgers], wanted: Callable[[str, str], bool]
) -> Iterator[tuple[str, str, str, dict[str, tuple[Array, Array]]]]:
    """The pairs of defenses that are wanted and share a seed: (architecture, first defense, second
    defense, numbers), the numbers by metric as two arrays (seeds, images) of the shared seeds."""
    by_place: dict[tuple[str, str], dict[int, dict[str, Array]]] = {}
    for ledgers in cells:
        place = by_place.setdefault((ledgers.cell.architecture, ledgers.cell.defense), {})
        place[ledgers.cell.seed] = _comparable(ledgers)
    for ((architecture, first), left), ((network, second), right) in product(
        by_place.items(), repeat=2
    ):
        shared = [seed for seed in left if seed in right]
        if network != architecture or first == second or not shared or not wanted(first, second):
            continue
        numbers = {
            metric: (
                np.stack([left[seed][metric] for seed in shared]),
                np.stack([right[seed][metric] for seed in shared]),
            )
            for metric in left[shared[0]]
            if metric in right[shared[0]]  # some attacks are of some classifiers alone
        }
        yield architecture, first, second, numbers


def _comparable(ledgers: CellLedgers) -> dict[str, Array]:
    """The selected model's numbers by metric, one number per image.

    NA and RA are the accuracies under "natural" and "all" attacks.
    """
    correct, robust = under_both_suites(ledgers.bounded, ledgers.autoattack)
    numbers: dict[str, Array] = {
        "NA": correct_images(ledgers.bounded, "best"),
        "RA": robust,
        "RD": correct.astype(int) - robust,
    }
    numbers |= {
        f"accuracy_{attack}": values
        for version, attack, values, _ in _accuracies(ledgers)
        if version == "best" and attack not in ("natural", "all")
    }
    return numbers | {f"APN_{norm}": _least_norms(ledgers, norm) for norm in NORMS}


def _tested(
    one: Array, other: Array, settings: StatisticsSettings, seeds: int
) -> tuple[float, float]:
    """The smallest detectable difference and the p value of a t test, NaN where not known.

    Both are NaN where one seed is left of several: the variance between seeds is then not known,
    and a limit without it would be lower than that of more seeds. Both are NaN where an image has
    no minimum norm. The limit is NaN where nothing varies.
    """
    unknown = len(one) == 1 < seeds or one.shape[1] < 2
    if unknown or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan"), float("nan")
    limit = minimum_detectable_difference(one, other, alpha=settings.alpha, power=settings.power)
    return limit or float("nan"), t_test(one, other)


def masking_table(cells: list[CellLedgers], settings: MaskingSettings) -> pd.DataFrame:
    """The masking flags of each cell: flag, number, threshold, raised, suggests."""
    rows = []
    for ledgers in cells:
        count = min(len(ledgers.bounded["labels"]), ledgers.autoattack.tried("square"))
        bounded, auto = ledgers.bounded.first(count), ledgers.autoattack.first(count)
        fooled, parts = (
            dict(zip(ledger.attacks, ledger["fooled"][ledger.version("best")], strict=True))
            for ledger in (bounded, auto)
        )
        square = parts.pop("square")
        numbers = attack_numbers(
            correct_images(bounded, "best"),
            fgsm=fooled["fgsm"],
            pgd=fooled["pgd"],
            square=square,
            white_box=np.any([*fooled.values(), *parts.values()], axis=0),
            autoattack=np.any([square, *parts.values()], axis=0),
        )
        numbers |= gradient_numbers(gradient_checks(ledgers.bounded, "best"))
        rows += [
            ledgers.identity | flag._asdict() for flag in flags(numbers, settings.model_dump())
        ]
    return pd.DataFrame(rows).rename(columns={"name": "flag"})


def confusion_table(cells: list[CellLedgers], proposal: str | None) -> pd.DataFrame:
    """What the proposal's selected models say under PGD, on each architecture that of the first
    seed there is: a row per image, with columns architecture, actual, predicted. No rows if the
    study has no such models."""
    first: dict[str, CellLedgers] = {}
    for ledgers in cells:
        place = ledgers.cell.architecture
        if ledgers.cell.defense == proposal and (
            place not in first or ledgers.cell.seed < first[place].cell.seed
        ):
            first[place] = ledgers
    rows = []
    for architecture, ledgers in first.items():
        bounded = ledgers.bounded.first(min(len(ledgers.bounded["labels"]), CONFUSION_IMAGES))
        pgd = bounded.version("best"), bounded.attacks.index("pgd")
        pairs = zip(bounded["labels"], bounded["prediction"][pgd], strict=True)
        rows += [(architecture, int(actual), int(predicted)) for actual, predicted in pairs]
    return pd.DataFrame(rows, columns=["architecture", "actual", "predicted"])


MEANS = {"NA": "NA", "RA": "RA", "RD": "RD", "ASR": "ASR", "RA_worst_class": "RA worst class"}


def means(cells: pd.DataFrame, seeds: int) -> dict[str, dict[str, float]]:
    """Means over the seeds in percent by "DEFENSE-ARCHITECTURE", as people read metrics.

    Where there are fewer seeds than the study asks for, "seeds" tells how many.
    """
    groups = cells.groupby(["defense", "architecture"], sort=False)
    percent = (100 * groups[list(MEANS)].mean()).round(1).rename(columns=MEANS)
    percent["seeds"] = groups.size()
    return {
        f"{row['defense']}-{row['architecture']}": {
            name: float(row[name]) for name in MEANS.values()
        }
        | ({"seeds": int(row["seeds"])} if row["seeds"] < seeds else {})
        for row in percent.reset_index().to_dict("records")
    }


def provenance_table(cells: list[CellLedgers]) -> pd.DataFrame:
    """One row per cell and stage: with which versions, on which device, repeatable or not."""
    rows = []
    for ledgers in cells:
        origins = {"train": ledgers.bounded.about.get("trained_with", {})}
        for ledger in (ledgers.bounded, ledgers.autoattack, ledgers.minimal, ledgers.beyond):
            if ledger is not None:
                origins[ledger.about["suite"]] = ledger.about.get("attacked_with", {})
        rows += [
            {"cell": ledgers.cell.key, "stage": stage} | origin for stage, origin in origins.items()
        ]
    return pd.DataFrame(rows)
