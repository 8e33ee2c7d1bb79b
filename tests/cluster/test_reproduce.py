"""`tradeoff reproduce`: as `dvc repro`, but on many workers, and whatever happens to them."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cluster.conftest import Toy

SMALL = {"defenses": ["at", "trades"], "seeds": [0]}
DIE_ONCE = """
    mark = Path("checkpoints", "died-" + names[0])
    if "trades" in names[0] and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), 9)
"""


def sequential(toy: Toy, tmp_path: Path) -> dict[str, bytes]:
    """What plain `dvc repro` makes of a copy of the toy."""
    copy = toy.copy(tmp_path / "sequential")
    copy.run("dvc", "repro")
    return copy.results()


def working_in(folder: Path) -> list[psutil.Process]:
    """Living processes below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != "zombie" and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.mark.parametrize("engine", [(), ("--ray",), ("--slurm", "cluster=local")])
def test_two_workers_one_of_which_dies_make_what_dvc_repro_makes(
    toy: Callable[..., Toy], tmp_path: Path, engine: tuple[str, ...]
) -> None:
    if engine:
        pytest.importorskip({"--ray": "ray", "--slurm": "submitit"}[engine[0]])
    study = toy({"train": ("", DIE_ONCE)}, **SMALL)
    expected = sequential(study, tmp_path) if False else None
    said = study.tradeoff("reproduce", "--jobs", "2", *engine)
    assert "trades-resnet18-digits-0: its worker died" in said
    assert "[2/2]" in said
    expected = sequential(study, tmp_path)
    assert study.results() == expected
    assert "up to date" in study.run("dvc", "status")
    assert not list((study.folder / ".dvc" / "tmp" / "cells").glob("*"))
    assert study.run("git", "worktree", "list").count("\n") == 1
