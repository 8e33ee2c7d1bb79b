"""How tables of results become CSV files that are kept in git."""

from pathlib import Path

import pandas as pd

from tradeoff.core.files import atomic_write

DIGITS = 6  # enough to tell any two accuracies apart


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, whole or not at all."""
    with atomic_write(path) as partial:
        table.round(DIGITS).to_csv(partial, index=False, lineterminator="\n")
