"""What a data set's report is made of: the CSV files that are in git, read and checked."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tradeoff.core import foundations
from tradeoff.core.study import Cell, Dataset, Study
from tradeoff.core.tables import CELL, ENSEMBLE, EXTRACTION, FURTHER_ATTACKS, TABLES, Columns

ROLES = (
    "gray_box", "natural_source", "other_architecture", "other_defense", "ensemble", "extraction",
)  # fmt: skip
NEEDED = ("cells", "attacks")  # every other table may be missing or empty
MODEL = ["architecture", "defense", "seed"]
# Names are data: a defense called "null" must not become a missing value.
TEXTS = {name for columns in TABLES.values() for name in (*columns.key, *columns.texts)}
TEXTS |= {"python", "torch", "arithmetic", "device", "deterministic", "compilation"}
TEXTS -= {"seed", "epsilon", "image"}
HISTORY_COLUMNS = Columns(
    ("epoch",), (), ("validation_natural_accuracy", "validation_robust_accuracy", "selected")
)


class BadResults(Exception):
    """A file of results is missing or is not what the report expects; the message names it."""


@dataclass(frozen=True)
class Results:
    """The evaluated part of a data set's matrix.

    Attributes:
        dataset: the data set with its settings.
        expected: every cell that the study asks for, in the order of params.yaml.
        sheet: the adversarial examples' PNG; None if there is none.
        gradient_sheet: that of input gradients.
        histories: the epochs of each cell whose training CSV exists, by the cell's key.
        cells, ..., missing: the tables of `core.tables`, rows of the study's cells only; in
            "raised" and "resolved" stands "True", "False" or NaN.
    """

    dataset: Dataset
    expected: list[Cell]
    sheet: bytes | None
    gradient_sheet: bytes | None
    histories: dict[str, pd.DataFrame]
    cells: pd.DataFrame
    attacks: pd.DataFrame
    norms: pd.DataFrame
    curve: pd.DataFrame
    certified: pd.DataFrame
    detection: pd.DataFrame
    asking: pd.DataFrame
    differences: pd.DataFrame
    detectable: pd.DataFrame
    masking: pd.DataFrame
    transfer: pd.DataFrame
    examples: pd.DataFrame
    gradients: pd.DataFrame
    sizes: pd.DataFrame
    provenance: pd.DataFrame
    missing: pd.DataFrame

    def keys_in(self, table: str) -> set[str]:
        """The keys of the cells that have rows in a table: of transfer as targets, and of
        "histories" one of their own."""
        if table == "histories":
            return set(self.histories)
        if table == "transfer":
            return set(self.transfer["target"])
        rows: pd.DataFrame = getattr(self, table)
        there = set(rows[list(CELL)].itertuples(index=False, name=None))
        return {cell.key for cell in self.expected
                if (cell.defense, cell.architecture, cell.seed) in there}  # fmt: skip

    @cached_property
    def missing_cells(self) -> list[Cell]:
        evaluated = self.keys_in("cells")
        return [cell for cell in self.expected if cell.key not in evaluated]

    @property
    def missing_histories(self) -> list[Cell]:
        """The cells that train and of which no history is there."""
        lacking = (cell for cell in self.expected if cell.key not in self.histories)
        return [cell for cell in lacking if foundations.trains(cell.defense)]

    @property
    def bounded_attacks(self) -> list[str]:
        """The attacks of the suites that RA counts, in their order."""
        return [name for name in self._attack_names if name in self._suite_attacks(beyond=False)]

    @property
    def autoattack_parts(self) -> list[str]:
        """The parts of AutoAttack in their order; its suite does not name them."""
        others = {*self.bounded_attacks, *self.attacks_beyond, *FURTHER_ATTACKS}
        return [name for name in self._attack_names if name not in others]

    @property
    def further_attacks(self) -> list[str]:
        """The attacks made only on classifiers that defend themselves at inference."""
        return [name for name in FURTHER_ATTACKS if name in self._attack_names]

    @property
    def attacks_beyond(self) -> list[str]:
        """The attacks of suite beyond, which RA does not count."""
        return [name for name in self._attack_names if name in self._suite_attacks(beyond=True)]

    @property
    def _attack_names(self) -> list[str]:
        names = self.attacks["attack"].unique()
        return [name for name in names if name not in ("natural", "all")]

    def _suite_attacks(self, beyond: bool) -> set[str]:
        suites = self.dataset.suites.values()
        return {
            a.name for suite in suites if (suite.name == "beyond") == beyond for a in suite.attacks
        }

    @property
    def judged(self) -> pd.DataFrame:
        """The rows of `masking` whose number could be measured; here "raised" is True or False."""
        rows = self.masking.dropna(subset="raised")
        return rows.assign(raised=rows["raised"] == "True")

    def metric(self, column: str) -> pd.Series:
        """A column of `cells`, one number per model."""
        return self.cells.set_index(MODEL)[column]

    def accuracy(self, attack: str) -> pd.Series:
        """Accuracy of the selected models under an attack, over all classes."""
        rows = select(self.attacks, version="best", attack=attack)
        return rows[rows["class"] == "all"].set_index(MODEL)["accuracy"]

    def class_accuracies(self) -> pd.DataFrame:
        """RA of the selected models, models down and classes (int) across."""
        rows = select(self.attacks, version="best", attack="all")
        rows = rows[rows["class"] != "all"].assign(label=lambda table: table["class"].astype(int))
        return rows.pivot(index=MODEL, columns="label", values="accuracy").sort_index(axis=1)

    def norm(self, norm: str, column: str) -> pd.Series:
        """A column of `norms` in one norm, one number per model."""
        return select(self.norms, norm=norm).set_index(MODEL)[column].astype(float)

    def robustness_curves(self) -> pd.DataFrame:
        """RA by epsilon (down) of each (architecture, defense), means over the seeds."""
        return _by_epsilon(self.curve, "RA")

    def certified_curves(self) -> pd.DataFrame:
        """Certified accuracy by epsilon (down) of each (architecture, defense) that has any."""
        return _by_epsilon(self.certified, "certified_accuracy")

    def transfer_matrix(self) -> pd.DataFrame:
        """Mean share fooled; sources down, first by defense; target defenses across."""
        defenses = list(dict.fromkeys(cell.defense for cell in self.expected))
        pairs = self.transfer.groupby(["source_defense", "target_defense"])["fooled"].mean()
        sources = [*defenses, *(name for name in (ENSEMBLE, EXTRACTION) if name in pairs.index)]
        return pairs.unstack().reindex(index=sources, columns=defenses).astype(float)

    def difference(self, architecture: str, other: str, metric: str) -> pd.Series | None:
        """The row of `differences` of the proposal and another defense, on the seeds that both
        have; None if they were not compared."""
        rows = select(self.differences, architecture=architecture, other=other, metric=metric)
        return None if rows.empty else rows.iloc[0]

    def detectable_difference(
        self, architecture: str, metric: str, first: str, second: str
    ) -> float | None:
        """The smallest difference of two defenses that would be detected; None if not known."""
        limit, _ = self._pair(architecture, metric, first, second)
        return None if pd.isna(limit) else float(limit)

    def resolved(self, architecture: str, metric: str, first: str, second: str) -> bool | None:
        """Whether the difference of two defenses is resolved; None if it was not tested.

        Every mark and every sentence asks here: a t test decides, adjusted for how many there are
        (`evaluation.summary.detectable_table`).
        """
        _, verdict = self._pair(architecture, metric, first, second)
        return None if pd.isna(verdict) else verdict == "True"

    def status(self, architecture: str, metric: str, first: str, second: str) -> str:
        """The same in a word: resolved; open, if the test did not find a difference; untested."""
        words = {True: "resolved", False: "open", None: "untested"}
        return words[self.resolved(architecture, metric, first, second)]

    def _pair(self, architecture: str, metric: str, first: str, second: str) -> Any:
        """The detectable difference of two defenses and whether theirs is resolved, or NaN."""
        return self._pairs.get((architecture, metric, *sorted((first, second))), (None, None))

    @cached_property
    def _pairs(self) -> dict[Any, Any]:
        """By (architecture, metric, one, other): thousands are asked for."""
        table = self.detectable
        columns = zip(table["detectable"], table["resolved"], strict=True)
        keys = table[list(TABLES["detectable"].key)].itertuples(index=False, name=None)
        return dict(zip(keys, columns, strict=True))

    def size(self, kind: str, name: str) -> int | None:
        """How many images a split has or how many parameters a network; None if not known."""
        counts = select(self.sizes, kind=kind, name=name)["count"]
        return None if counts.empty else int(counts.iloc[0])

    @property
    def class_names(self) -> list[str]:
        """What the classes are called, such as "ship", in the order of their numbers; [] if that is
        not known."""
        return list(select(self.sizes, kind="class")["name"])

    def class_name(self, number: int) -> str:
        """A class by the number that figures have, and its name, such as "8 (ship)"; by its number
        alone where it has no other name."""
        name = dict(enumerate(self.class_names)).get(number, str(number))
        return name if name == str(number) else f"{number} ({name})"


def worst(accuracies: pd.Series) -> pd.Series:
    """Whether a class has the least accuracy, up to rounding; never one without accuracy (NaN)."""
    return pd.Series(np.isclose(accuracies, accuracies.min()), accuracies.index)


def read_results(study: Study, dataset: str, root: Path = Path()) -> Results:
    """Read the tables of one data set, plots/summary/DATASET, and its plots/training.

    Rows of cells that the study does not (any longer) ask for are left out; files of training are
    looked up cell by cell, because those of a dropped seed stay on disk.

    Raises:
        BadResults: a table is missing, lacks a column, has a row twice, or holds something that
            is not a rate in [0, 1].
    """
    settings, expected = study.dataset(dataset), study.cells(dataset)
    # Without rows, or without a file, where nothing was trained.
    histories = {cell.key: _read(root / cell.history, HISTORY_COLUMNS, needed=False)
                 for cell in expected}  # fmt: skip
    tables = {name: _read(root / settings.table(name), columns, name in NEEDED)
              for name, columns in TABLES.items()}  # fmt: skip
    return Results(
        settings,
        expected,
        _picture(root / settings.table("examples")),
        _picture(root / settings.table("gradients")),
        {key: history for key, history in histories.items() if len(history)},
        **{name: _of_the_study(table, expected) for name, table in tables.items()},
    )


def _picture(table: Path) -> bytes | None:
    """The PNG beside a table; None if there is none."""
    path = table.with_suffix(".png")
    return path.read_bytes() if path.exists() else None


def _by_epsilon(table: pd.DataFrame, column: str) -> pd.DataFrame:
    means = table.groupby(["epsilon", *MODEL[:2]])[column].mean()
    return means.unstack(MODEL[:2]) if len(means) else pd.DataFrame()


def read_evaluated(study: Study, root: Path = Path()) -> dict[str, Results]:
    """The results of every data set that has any, in the order of params.yaml.

    Raises:
        BadResults: as `read_results`.
    """
    evaluated = [name for name in study.axes.datasets
                 if (root / study.dataset(name).table("cells")).exists()]  # fmt: skip
    return {name: read_results(study, name, root) for name in evaluated}


def _of_the_study(table: pd.DataFrame, expected: list[Cell]) -> pd.DataFrame:
    """The rows whose cell, defense and architecture the study asks for."""
    keys = {cell.key for cell in expected}
    wanted: dict[str, set[Any]] = {
        "cell": keys,
        "source": keys | _made_sources(table),
        "target": keys,
        "architecture": {cell.architecture for cell in expected},
        "defense": {cell.defense for cell in expected},
        "other": {cell.defense for cell in expected},
        "seed": {cell.seed for cell in expected},
    }
    masks = [table[column].isin(values) for column, values in wanted.items() if column in table]
    return table[np.logical_and.reduce(masks)].reset_index(drop=True) if masks else table


def _made_sources(table: pd.DataFrame) -> set[str]:
    """The names of the ensembles and of the substitutes among the sources of transfer."""
    if "source_defense" not in table:
        return set()
    return set(table[table["source_defense"].isin([ENSEMBLE, EXTRACTION])]["source"])


def _read(path: Path, columns: Columns, needed: bool) -> pd.DataFrame:
    """A table; where it is not needed it may be missing or without rows and even a header."""
    if not needed and not (path.exists() and path.read_text("utf-8").strip()):
        return pd.DataFrame(columns=columns.names)
    try:
        table = pd.read_csv(
            path, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=[""]
        )
    except FileNotFoundError:
        raise BadResults(f"{path}: not found; the stage summarize writes it") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise BadResults(f"{path}: is not readable as CSV: {error}") from None
    for column in columns.names:
        if column not in table.columns:
            raise BadResults(f"{path}: has no column {column!r}")
    for low, names in ((0, columns.rates), (-1, columns.signed)):
        for column in names:
            _check_rates(table[column], low, path)
    twice = table[table.duplicated(list(columns.key))]
    if len(twice):
        key = ", ".join(map(str, twice[list(columns.key)].iloc[0]))
        raise BadResults(f"{path}: has more than one row for {key}")
    return table


def _check_rates(column: pd.Series, low: int, path: Path) -> None:
    try:
        values = column.astype(float)
    except ValueError as error:
        raise BadResults(f"{path}: column {column.name!r}: {error}") from None
    wrong = values[(values < low) | (values > 1)]
    if len(wrong):
        raise BadResults(f"{path}: {column.name} is {wrong.iloc[0]}; it should be in [{low}, 1]")


def select(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows in which each column has the value given."""
    masks = [(table[column] == value).to_numpy() for column, value in values.items()]
    return table[np.logical_and.reduce(masks)]
