"""What a data set's report is made of: the CSV files that are in git, read and checked."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tradeoff.study import Cell, Study

KEY = ["defense", "architecture", "seed"]
ACCURACIES = ["NA", "RA", "RA_worst_class", "NA_last", "RA_last"]
RATES = [*ACCURACIES, "RD", "ASR", "ASR_correct"]
CELL_COLUMNS = [*KEY, "images", *RATES, "worst_class"]
ATTACK_COLUMNS = [*KEY, "version", "attack", "class", "images", "accuracy"]
HISTORY_COLUMNS = [
    "epoch", "validation_natural_accuracy", "validation_robust_accuracy", "selected",
]  # fmt: skip


class BadResults(Exception):
    """A file of results is missing or is not what the report expects; the message names it."""


@dataclass(frozen=True)
class Results:
    """The evaluated part of a data set's matrix.

    Attributes:
        expected: every cell that the study asks for, in the order of params.yaml.
        cells: one row per evaluated cell, CELL_COLUMNS.
        attacks: one row per cell, version, attack and class, ATTACK_COLUMNS.
        histories: the epochs of each cell whose training CSV exists, by the cell's key.
    """

    expected: list[Cell]
    cells: pd.DataFrame
    attacks: pd.DataFrame
    histories: dict[str, pd.DataFrame]

    @property
    def missing_cells(self) -> list[Cell]:
        there = set(self.cells[KEY].itertuples(index=False, name=None))
        return [cell for cell in self.expected if _key(cell) not in there]

    @property
    def missing_histories(self) -> list[Cell]:
        return [cell for cell in self.expected if cell.key not in self.histories]

    @property
    def attack_names(self) -> list[str]:
        """The attacks in the order of their suites, without "natural" and "all"."""
        names = self.attacks["attack"].unique()
        return [name for name in names if name not in ("natural", "all")]

    def group(self, defense: str, architecture: str) -> pd.DataFrame:
        """The rows of `cells` of one defense on one architecture, one for each evaluated seed."""
        return _select(self.cells, defense=defense, architecture=architecture)

    def accuracies(self, defense: str, architecture: str, attack: str) -> pd.Series:
        """Accuracy of the selected models under an attack, over all classes; one per seed."""
        rows = _select(
            self.attacks, defense=defense, architecture=architecture, version="best",
            attack=attack,
        )  # fmt: skip
        return rows.loc[rows["class"] == "all", "accuracy"]

    def class_accuracies(self, defense: str, architecture: str) -> pd.Series:
        """RA of the selected models by class (index: class, int), a mean over the seeds."""
        rows = _select(
            self.attacks, defense=defense, architecture=architecture, version="best", attack="all"
        )
        rows = rows[rows["class"] != "all"]
        return rows.groupby(rows["class"].astype(int))["accuracy"].mean().sort_index()


def read_results(study: Study, dataset: str, root: Path = Path()) -> Results:
    """Read plots/cells, plots/attacks and plots/training of one data set.

    Rows of cells that the study does not (any longer) ask for are left out; files of training are
    looked up cell by cell, because those of a dropped seed stay on disk.

    Raises:
        BadResults: a table is missing, lacks a column, has a cell twice, or holds something that
            is not a rate in [0, 1].
    """
    expected = study.cells(dataset)
    cells_file = root / study.dataset(dataset).table("cells")
    attacks_file = root / study.dataset(dataset).table("attacks")
    cells = _of_study(_read(cells_file, CELL_COLUMNS), expected)
    attacks = _of_study(_read(attacks_file, ATTACK_COLUMNS), expected)
    _check_rates(cells, RATES, cells_file)
    _check_rates(attacks, ["accuracy"], attacks_file)
    _check_distinct(cells, KEY, cells_file)
    _check_distinct(attacks, [*KEY, "version", "attack", "class"], attacks_file)
    histories = {
        cell.key: _read(root / cell.history, HISTORY_COLUMNS)
        for cell in expected
        if (root / cell.history).exists()
    }
    return Results(expected, cells, attacks, histories)


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    # Names are data: a defense called "null" must not become a missing value.
    text = dict.fromkeys(("defense", "architecture", "version", "attack", "class"), str)
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


def _of_study(table: pd.DataFrame, expected: list[Cell]) -> pd.DataFrame:
    wanted = {_key(cell) for cell in expected}
    mask = [key in wanted for key in table[KEY].itertuples(index=False, name=None)]
    return table[mask].reset_index(drop=True)


def _check_rates(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    for column in columns:
        try:
            values = table[column].astype(float)
        except ValueError as error:
            raise BadResults(f"{path}: column {column!r}: {error}") from None
        # RD alone may be negative: an attack's luck on other images than the clean ones.
        low = -1 if column == "RD" else 0
        wrong = values[(values < low) | (values > 1)]
        if len(wrong):
            raise BadResults(f"{path}: {column} is {wrong.iloc[0]}; it should be in [{low}, 1]")


def _check_distinct(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    twice = table[table.duplicated(columns)]
    if len(twice):
        raise BadResults(f"{path}: has more than one row for {list(twice[columns].iloc[0])}")


def _select(table: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        table = table[table[column] == value]
    return table


def _key(cell: Cell) -> tuple[str, str, int]:
    return cell.defense, cell.architecture, cell.seed
