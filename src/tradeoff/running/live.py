"""Live curves: the rows of a training history while they are made, for TensorBoard or DVCLive.

TRADEOFF_LIVE says which; unset, nothing is written. The curves decide nothing, and no result holds
them: they lie beside the checkpoints, in live/CELL.
"""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from tradeoff.core.files import checkpoints_folder

VARIABLE = "TRADEOFF_LIVE"

Curves = Callable[[int, Mapping[str, float]], None]


class NoCurves(Exception):
    """TRADEOFF_LIVE cannot be followed; says what is allowed or missing."""


def live_curves(cell: str) -> Curves:
    """What takes each epoch's number, from 0, and its row of the history.

    Raises:
        NoCurves: TRADEOFF_LIVE names no known library, or one that is not installed.
    """
    library = os.environ.get(VARIABLE)
    if not library:
        return lambda epoch, row: None
    known = {"tensorboard": _tensorboard, "dvclive": _dvclive}
    if library not in known:
        raise NoCurves(f"{VARIABLE} is {library!r}; allowed are {', '.join(known)}")
    try:
        return known[library](str(checkpoints_folder() / "live" / cell))
    except ImportError:
        raise NoCurves(
            f"{VARIABLE} is {library}, which is missing: pip install {library}"
        ) from None


def _tensorboard(folder: str) -> Curves:
    writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter(folder)

    def write(epoch: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return write


def _dvclive(folder: str) -> Curves:
    """Rows alone: no commit, no dvc.yaml and no experiment of DVC's."""
    library: Any = importlib.import_module("dvclive")
    live = library.Live(folder, resume=True, save_dvc_exp=False, dvcyaml=None)

    def write(epoch: int, row: Mapping[str, float]) -> None:
        live.step = epoch
        for name, value in row.items():
            live.log_metric(name, value)
        live.make_summary()

    return write
