"""Live curves: the rows of a training history while they are made, for TensorBoard or DVCLive.

`live` in params.yaml says which; null: nothing is written. No cell depends on that value, so that a
change makes none stale: the curves decide nothing, and no result holds them. They lie beside the
checkpoints, in live/CELL.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from tradeoff.core.files import checkpoints_folder
from tradeoff.core.study import Study

Curves = Callable[[int, Mapping[str, float]], None]


class NoCurves(Exception):
    """The library that `live` names is not installed; says how to get it."""


def live_curves(cell: str) -> Curves:
    """What takes each epoch's number, from 0, and its row of the history.

    Raises:
        NoCurves: the library that params.yaml names is missing.
    """
    library = Study.load().live
    if library is None:
        return lambda epoch, row: None
    writer = {"tensorboard": _tensorboard, "dvclive": _dvclive}[library]
    try:
        return writer(str(checkpoints_folder() / "live" / cell))
    except ImportError:
        raise NoCurves(f"live is {library}, which is missing: pip install {library}") from None


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
