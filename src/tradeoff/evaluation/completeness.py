"""Which cells of a data set are complete, and why the others are not.

DVC removes the outputs of a stage before it runs it: a stage that failed leaves nothing but its
state file (see `running.state`).
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from tradeoff.core.study import Cell
from tradeoff.core.tables import TABLES
from tradeoff.running.state import state_file

# In place of an error where there is none. The sentences are keys of the reports' translations.
DID_NOT_RUN = "did not run"
DID_NOT_END = "did not end"
LONGEST = 300  # characters of an error that are kept


class NothingThere(Exception):
    """No cell has what is needed; the message names the data set and where to look."""


def needed(cell: Cell) -> dict[str, list[Path]]:
    """The files that make a cell complete, by the stage that writes them, in the order run."""
    models = [cell.model(version) for version in ("best", "last")]
    ledgers = {f"attack@{cell.key}-{suite}": [cell.ledger(suite)] for suite in cell.dataset.suites}
    return {f"train@{cell.key}": models} | ledgers


def unfinished(cell: Cell) -> list[str]:
    """The stages of a cell that have not written all their files.

    A cell without its model is not complete even if its ledgers are there: they are left from a
    training before the one that failed.
    """
    return [
        stage for stage, files in needed(cell).items() if not all(file.exists() for file in files)
    ]


def complete(cells: list[Cell]) -> list[Cell]:
    """The cells that can be evaluated: their models and all ledgers exist.

    Raises:
        NothingThere: no cell can.
    """
    return _some([cell for cell in cells if not unfinished(cell)], cells, "is trained and attacked")


def trained(cells: list[Cell]) -> list[Cell]:
    """The cells whose selected model exists.

    Raises:
        NothingThere: no cell has one.
    """
    return _some([cell for cell in cells if cell.model("best").exists()], cells, "is trained")


def _some(chosen: list[Cell], cells: list[Cell], what: str) -> list[Cell]:
    if not chosen:
        name = cells[0].dataset.name
        raise NothingThere(
            f"none of the {len(cells)} cells of {name} {what}: there is nothing to work on; "
            f"`tradeoff status {name}` says what became of them"
        )
    return chosen


def missing_table(cells: Iterable[Cell]) -> pd.DataFrame:
    """Why cells are not complete, as the table `missing`; no rows if all are.

    A cell has a row for each of its stages that failed, else one with DID_NOT_RUN or DID_NOT_END.
    """
    rows = [(cell.key, *row) for cell in cells for row in _reasons(cell)]
    return pd.DataFrame(rows, columns=TABLES["missing"].names)


def _reasons(cell: Cell) -> list[tuple[str, str]]:
    """(stage, error) of what kept a cell from being complete; empty if it is."""
    absent = unfinished(cell)
    if not absent:
        return []
    states = {stage: _state(stage) for stage in absent}
    ended_badly = {
        stage: state
        for stage, state in states.items()
        if state.get("status") in ("failed", "interrupted", "running")
    }
    if not ended_badly:
        return [(absent[0], DID_NOT_RUN)]
    newest = max(ended_badly, key=lambda stage: float(ended_badly[stage].get("began", 0)))
    training = absent[0] if absent[0].startswith("train@") else None
    if newest == training:  # attacks on an earlier model are of no interest any more
        return [(newest, _error(ended_badly[newest]))]
    return [(stage, _error(state)) for stage, state in ended_badly.items() if stage != training]


def _state(stage: str) -> dict[str, Any]:
    """The state that a stage wrote last; empty if none can be read."""
    try:
        about = json.loads(state_file(stage).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _error(state: dict[str, Any]) -> str:
    """A stage's error in one line of printable characters, shortened to LONGEST."""
    if state["status"] != "failed":
        return DID_NOT_END
    printable = "".join(c if c.isprintable() else " " for c in str(state.get("error", "")))
    text = " ".join(printable.split())
    if not text:
        return "no word of why"
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
