"""What a data set's report is made of: the CSV files that are in git, read and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tradeoff.core.study import Cell, Dataset, Study
from tradeoff.core.tables import (
    ENSEMBLE,
    EXAMPLE_COLUMNS,
    MISSING_COLUMNS,
    PROPOSAL,
    SIZE_COLUMNS,
)

ROLES = ("gray_box", "natural_source", "other_architecture", "other_defense", "ensemble")

KEY = ["defense", "architecture", "seed"]
ACCURACIES = ["NA", "RA", "RA_worst_class", "NA_last", "RA_last", "RA_bounded"]
RATES = [*ACCURACIES, "RD", "ASR", "ASR_correct", "ECE"]
CELL_COLUMNS = [*KEY, "images", "images_bounded", *RATES]
ATTACK_COLUMNS = [*KEY, "version", "attack", "class", "images", "accuracy"]
NORM_COLUMNS = [
    *KEY, "norm", "images", "APN", "unfooled", "APN_fooled", "APN_fooled_median",
]  # fmt: skip
CURVE_COLUMNS = [*KEY, "epsilon", "RA"]
DIFFERENCE_COLUMNS = [
    "architecture", "other", "metric", "seeds", "images", "difference", "low", "high", "detectable",
]  # fmt: skip
MASKING_COLUMNS = [*KEY, "flag", "number", "threshold", "raised", "suggests"]
DETECTABLE_COLUMNS = ["architecture", "metric", "one", "other", "detectable", "resolved"]
PROVENANCE_COLUMNS = ["cell", "stage"]  # and what is known of python, torch, device, ...
SWEEP_COLUMNS = [
    "defense", "alpha", "beta", "differentiable", "architecture", "seed", "NA", "RA",
]  # fmt: skip
TRANSFER_COLUMNS = [
    "role", "source_defense", "source_architecture", "target_defense", "target_architecture",
    "source", "target", "images", "fooled", "RA",
]  # fmt: skip
# Names are data: a defense called "null" must not become a missing value.
TEXTS = [
    "defense", "architecture", "version", "attack", "class", "norm", "other", "metric", "flag",
    "raised", "suggests", *TRANSFER_COLUMNS[:7], "one", "resolved", "kind", "name",
    *PROVENANCE_COLUMNS, "python", "torch", "device", "deterministic", "error",
]  # fmt: skip
SIGNED = ("RD", "difference")
HISTORY_COLUMNS = [
    "epoch", "validation_natural_accuracy", "validation_robust_accuracy", "selected",
]  # fmt: skip


class BadResults(Exception):
    """A file of results is missing or is not what the report expects; the message names it."""


@dataclass(frozen=True)
class Difference:
    """PROPOSAL less another defense, with its interval and the smallest detectable difference, on
    the seeds that both have. Whether it is resolved, `Results.resolved` says."""

    difference: float
    low: float
    high: float
    detectable: float
    seeds: int


@dataclass(frozen=True)
class Results:
    """The evaluated part of a data set's matrix.

    Attributes:
        dataset: the data set with its settings.
        expected: every cell that the study asks for, in the order of params.yaml.
        cells: one row per evaluated cell, CELL_COLUMNS.
        attacks: one row per cell, version, attack and class, ATTACK_COLUMNS.
        norms: average perturbation norms, one row per cell and norm, NORM_COLUMNS.
        curve: RA over epsilon, one row per cell and epsilon, CURVE_COLUMNS.
        differences: PROPOSAL less each other defense, DIFFERENCE_COLUMNS.
        masking: one row per cell and flag, MASKING_COLUMNS; "raised" is "True", "False" or NaN.
        transfer: one row per source and target, TRANSFER_COLUMNS.
        detectable: of pairs of defenses the smallest detectable difference, and whether theirs is
            resolved, DETECTABLE_COLUMNS; "resolved" is "True", "False" or NaN.
        examples: what models say of the images on `sheet`, EXAMPLE_COLUMNS.
        sheet: the adversarial examples' PNG; None if there is none.
        sizes: images of each split and parameters of each network, SIZE_COLUMNS.
        provenance: where each cell was computed, one row per cell and stage, PROVENANCE_COLUMNS.
        missing: why cells are not evaluated, a row for each stage that failed, MISSING_COLUMNS.
        sweep: PROPOSAL and FIXED with other knobs, one row per experiment and cell, SWEEP_COLUMNS;
            FIXED has no alpha.
        histories: the epochs of each cell whose training CSV exists, by the cell's key.
    """

    dataset: Dataset
    expected: list[Cell]
    cells: pd.DataFrame
    attacks: pd.DataFrame
    norms: pd.DataFrame
    curve: pd.DataFrame
    differences: pd.DataFrame
    masking: pd.DataFrame
    transfer: pd.DataFrame
    detectable: pd.DataFrame
    examples: pd.DataFrame
    sheet: bytes | None
    sizes: pd.DataFrame
    provenance: pd.DataFrame
    missing: pd.DataFrame
    sweep: pd.DataFrame
    histories: dict[str, pd.DataFrame]

    @property
    def missing_cells(self) -> list[Cell]:
        there = set(self.cells[KEY].itertuples(index=False, name=None))
        return [cell for cell in self.expected if _key(cell) not in there]

    @property
    def missing_histories(self) -> list[Cell]:
        return [cell for cell in self.expected if cell.key not in self.histories]

    @property
    def bounded_attacks(self) -> list[str]:
        """The attacks of the suites, in their order, without "natural" and "all"."""
        return [name for name in self._attack_names if name in self._suite_attacks]

    @property
    def autoattack_parts(self) -> list[str]:
        """The parts of AutoAttack in their order; its suite does not name them."""
        return [name for name in self._attack_names if name not in self._suite_attacks]

    @property
    def _attack_names(self) -> list[str]:
        names = self.attacks["attack"].unique()
        return [name for name in names if name not in ("natural", "all")]

    @property
    def _suite_attacks(self) -> set[str]:
        return {attack.name for suite in self.dataset.suites.values() for attack in suite.attacks}

    def lacking(self, there: pd.DataFrame) -> list[Cell]:
        """The evaluated cells that have no row in a table with the columns KEY."""
        keys = set(there[KEY].itertuples(index=False, name=None))
        absent = {_key(cell) for cell in self.missing_cells}
        return [cell for cell in self.expected if _key(cell) not in keys | absent]

    def cells_of(self, defense: str, architecture: str) -> list[Cell]:
        """The expected cells of one defense on one architecture, in the order of their seeds."""
        return [cell for cell in self.expected
                if (cell.defense, cell.architecture) == (defense, architecture)]  # fmt: skip

    def group(self, defense: str, architecture: str) -> pd.DataFrame:
        """The rows of `cells` of one defense on one architecture, one for each evaluated seed."""
        return _select(self.cells, defense=defense, architecture=architecture)

    def accuracies(self, defense: str, architecture: str, attack: str) -> pd.Series:
        """Accuracy of the selected models under an attack, over all classes, by seed (index)."""
        rows = _select(
            self.attacks, defense=defense, architecture=architecture, version="best",
            attack=attack,
        )  # fmt: skip
        return rows[rows["class"] == "all"].set_index("seed")["accuracy"]

    def seed_class_accuracies(self, defense: str, architecture: str) -> pd.DataFrame:
        """RA of the selected models, seeds down and classes (int) across."""
        rows = _select(
            self.attacks, defense=defense, architecture=architecture, version="best", attack="all"
        )
        rows = rows[rows["class"] != "all"].assign(label=lambda table: table["class"].astype(int))
        return rows.pivot(index="seed", columns="label", values="accuracy").sort_index(axis=1)

    def class_accuracies(self, defense: str, architecture: str) -> pd.Series:
        """RA of the selected models by class (index: class, int), a mean over the seeds."""
        return self.seed_class_accuracies(defense, architecture).mean().sort_index()

    def average_norms(self, defense: str, architecture: str, norm: str) -> pd.DataFrame:
        """The rows of `norms` of one defense on one architecture, one per seed."""
        return _select(self.norms, defense=defense, architecture=architecture, norm=norm)

    def robustness_curve(self, defense: str, architecture: str) -> pd.Series:
        """RA by epsilon (index), a mean over the seeds."""
        rows = _select(self.curve, defense=defense, architecture=architecture)
        return rows.groupby("epsilon")["RA"].mean().sort_index()

    def difference(self, architecture: str, other: str, metric: str) -> Difference | None:
        """None if the two were not compared."""
        rows = _select(self.differences, architecture=architecture, other=other, metric=metric)
        if rows.empty:
            return None
        row = rows.iloc[0]
        return Difference(
            float(row["difference"]), float(row["low"]), float(row["high"]),
            float(row["detectable"]), int(row["seeds"]),
        )  # fmt: skip

    def detectable_difference(
        self, architecture: str, metric: str, one: str, other: str
    ) -> float | None:
        """The smallest difference of two defenses that would be detected; None if not known."""
        numbers = self._pair(architecture, metric, one, other)["detectable"].dropna()
        return None if numbers.empty else float(numbers.iloc[0])

    def resolved(self, architecture: str, metric: str, one: str, other: str) -> bool | None:
        """Whether the difference of two defenses is resolved; None if it was not tested.

        Every mark and every sentence asks here: a t test decides, adjusted for how many there are
        (`evaluation.summary.detectable_table`).
        """
        said = self._pair(architecture, metric, one, other)["resolved"].dropna()
        return None if said.empty else bool(said.iloc[0] == "True")

    def _pair(self, architecture: str, metric: str, one: str, other: str) -> pd.DataFrame:
        first, second = sorted((one, other))
        return _select(
            self.detectable, architecture=architecture, metric=metric, one=first, other=second
        )

    def size(self, kind: str, name: str) -> int | None:
        """How many images a split has or how many parameters a network; None if not known."""
        counts = _select(self.sizes, kind=kind, name=name)["count"]
        return None if counts.empty else int(counts.iloc[0])

    def flags(self, defense: str, architecture: str) -> pd.DataFrame:
        """The rows of `masking` of one defense on one architecture, one per seed and flag."""
        return _select(self.masking, defense=defense, architecture=architecture)

    def transferred(self, defense: str, architecture: str, role: str) -> pd.Series:
        """Shares of a target's right images that were fooled, one per source and target."""
        rows = _select(
            self.transfer, target_defense=defense, target_architecture=architecture, role=role
        )
        return rows["fooled"]

    def swept_proposal(self) -> pd.DataFrame:
        """The rows of `sweep` of the proposal as it is, without a gradient through lambda."""
        mine = (self.sweep["defense"] == PROPOSAL) & ~self.sweep["differentiable"].astype(bool)
        return self.sweep[mine]

    def transfer_matrix(self) -> pd.DataFrame:
        """Mean share fooled; source defenses and ENSEMBLE down, target defenses across."""
        defenses = list(dict.fromkeys(cell.defense for cell in self.expected))
        pairs = self.transfer.groupby(["source_defense", "target_defense"])["fooled"].mean()
        sources = [*defenses, *([ENSEMBLE] if ENSEMBLE in pairs.index else [])]
        return pairs.unstack().reindex(index=sources, columns=defenses).astype(float)


def worst(accuracies: pd.Series) -> pd.Series:
    """Which of the classes no other is below, bool, by class as `accuracies`: several where they
    are equal but for rounding, never one without an accuracy (NaN)."""
    return pd.Series(np.isclose(accuracies, accuracies.min()), accuracies.index)


def read_results(study: Study, dataset: str, root: Path = Path()) -> Results:
    """Read the tables of one data set, plots/summary/DATASET, and its plots/training.

    Rows of cells that the study does not (any longer) ask for are left out; files of training are
    looked up cell by cell, because those of a dropped seed stay on disk. Tables other than cells
    and attacks may be missing or empty.

    Raises:
        BadResults: a table is missing, lacks a column, has a cell twice, or holds something that
            is not a rate in [0, 1].
    """
    settings, expected = study.dataset(dataset), study.cells(dataset)
    wanted, keys = {_key(cell) for cell in expected}, {cell.key for cell in expected}

    def cell_rows(table: pd.DataFrame) -> pd.Series:
        there = [key in wanted for key in table[KEY].itertuples(index=False, name=None)]
        return pd.Series(there, table.index, dtype=bool)

    def everything(table: pd.DataFrame) -> pd.Series:
        return pd.Series(True, table.index, dtype=bool)

    def model_rows(table: pd.DataFrame) -> pd.Series:
        axes = study.axes
        return table["architecture"].isin(axes.architectures) & table["defense"].isin(axes.defenses)

    def pair_rows(table: pd.DataFrame) -> pd.Series:
        known = table["source"].isin(keys) | (table["source_defense"] == ENSEMBLE)
        return known & table["target"].isin(keys)

    def difference_rows(table: pd.DataFrame) -> pd.Series:
        axes = study.axes
        return table["architecture"].isin(axes.architectures) & table["other"].isin(axes.defenses)

    def read(
        name: str, columns: list[str], rows: Callable[[pd.DataFrame], pd.Series], rates: list[str],
        key: list[str], needed: bool = False,
    ) -> pd.DataFrame:  # fmt: skip
        path = root / settings.table(name)
        table = _read(path, columns) if needed else _read_if_any(path, columns)
        table = table[rows(table)].reset_index(drop=True)
        _check_rates(table, rates, path)
        _check_distinct(table, key, path)
        return table

    sheet = root / settings.table("examples").with_suffix(".png")
    return Results(
        settings,
        expected,
        cells=read("cells", CELL_COLUMNS, cell_rows, RATES, KEY, needed=True),
        attacks=read("attacks", ATTACK_COLUMNS, cell_rows, ["accuracy"],
                     [*KEY, "version", "attack", "class"], needed=True),
        norms=read("norms", NORM_COLUMNS, cell_rows, ["unfooled"], [*KEY, "norm"]),
        curve=read("curve", CURVE_COLUMNS, cell_rows, ["RA"], [*KEY, "epsilon"]),
        differences=read("differences", DIFFERENCE_COLUMNS, difference_rows, ["difference"],
                         ["architecture", "other", "metric"]),
        masking=read("masking", MASKING_COLUMNS, cell_rows, [], [*KEY, "flag"]),
        transfer=read("transfer", TRANSFER_COLUMNS, pair_rows, ["fooled", "RA"],
                      ["source", "target"]),
        detectable=read("detectable", DETECTABLE_COLUMNS, everything, [],
                        DETECTABLE_COLUMNS[:-2]),
        examples=read("examples", EXAMPLE_COLUMNS, model_rows,
                      ["clean_confidence", "confidence"], ["architecture", "defense", "image"]),
        sheet=sheet.read_bytes() if sheet.exists() else None,
        sizes=read("sizes", SIZE_COLUMNS, everything, [], ["kind", "name"]),
        provenance=read("provenance", PROVENANCE_COLUMNS,
                        lambda table: table["cell"].isin(keys), [], ["cell", "stage"]),
        missing=read("missing", MISSING_COLUMNS,
                     lambda table: table["cell"].isin(keys), [], ["cell", "stage"]),
        sweep=read("sweep", SWEEP_COLUMNS, everything, ["NA", "RA"], SWEEP_COLUMNS[:-2]),
        histories={
            cell.key: _read(root / cell.history, HISTORY_COLUMNS)
            for cell in expected
            if (root / cell.history).exists()
        },
    )  # fmt: skip


def read_evaluated(study: Study, root: Path = Path()) -> dict[str, Results]:
    """The results of every data set that has any, in the order of params.yaml.

    Raises:
        BadResults: as `read_results`.
    """
    there = [name for name in study.axes.datasets
             if (root / study.dataset(name).table("cells")).exists()]  # fmt: skip
    return {name: read_results(study, name, root) for name in there}


def _read_if_any(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table of which nothing may be there: a comparison of one defense has no rows, and a table
    without rows no header."""
    if not path.exists() or not path.read_text("utf-8").strip():
        return pd.DataFrame(columns=columns)
    return _read(path, columns)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    text = dict.fromkeys(TEXTS, str)
    try:
        table = pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise BadResults(f"{path}: not found; the stage summarize writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise BadResults(f"{path}: is not readable as CSV: {error}") from None
    for column in columns:
        if column not in table.columns:
            raise BadResults(f"{path}: has no column {column!r}")
    return table


def _check_rates(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    for column in columns:
        try:
            values = table[column].astype(float)
        except ValueError as error:
            raise BadResults(f"{path}: column {column!r}: {error}") from None
        low = -1 if column in SIGNED else 0
        wrong = values[(values < low) | (values > 1)]
        if len(wrong):
            raise BadResults(f"{path}: {column} is {wrong.iloc[0]}; it should be in [{low}, 1]")


def _check_distinct(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    twice = table[table.duplicated(columns)]
    if len(twice):
        key = ", ".join(map(str, twice[columns].iloc[0]))
        raise BadResults(f"{path}: has more than one row for {key}")


def _select(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    masks = [(table[column] == value).to_numpy() for column, value in values.items()]
    return table[np.logical_and.reduce(masks)]


def _key(cell: Cell) -> tuple[str, str, int]:
    return cell.defense, cell.architecture, cell.seed
