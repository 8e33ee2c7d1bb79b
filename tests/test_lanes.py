"""Lanes: every cell in one of them, and an interruption stops what they started."""

import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tradeoff.cluster.lanes import lanes
from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("seeds", [[0, 1, 2], [0, 1, 10, 100]])
def test_each_cell_is_wholly_in_one_lane(seeds: list[int]) -> None:
    study = Study.load(ROOT / "params.yaml")
    study.axes.seeds[:] = seeds
    shares = lanes(study, "digits", 2)
    cells = study.cells("digits")
    matched = []
    for share in shares:
        for cell in study.cells():
            suites = [f"attack@{cell.key}-{suite}" for suite in cell.dataset.suites]
            stages = [f"train@{cell.key}", *suites]
            hits = [sum(fnmatch(stage, pattern) for pattern in share) for stage in stages]
            assert hits in ([0] * 4, [1] * 4)
            matched += [cell.key] * hits[0]
    assert sorted(matched) == sorted(cell.key for cell in cells)
    assert abs(len(shares[0]) - len(shares[1])) <= 4


def test_more_lanes_than_cells_leaves_none_empty() -> None:
    study = Study.load(ROOT / "params.yaml")
    assert len(lanes(study, "digits", 1000)) == len(study.cells("digits"))


def test_an_interruption_stops_the_trainers(tmp_path: Path) -> None:
    dvc = tmp_path / "bin" / "dvc"
    dvc.parent.mkdir()
    dvc.write_text(
        f"#!{sys.executable}\n"
        "import subprocess, sys\n"
        "if '--single-item' in sys.argv:\n"  # a lane: its trainer is a child of its own
        "    trainer = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "    open('pids', 'a').write(f'{trainer.pid}\\n')\n"
        "    trainer.wait()\n"
    )
    dvc.chmod(0o755)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    environment = {
        **os.environ,
        "PATH": f"{dvc.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    command = [sys.executable, "-m", "tradeoff.cluster.lanes", "digits", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    pids = tmp_path / "pids"
    for _ in range(200):
        if pids.exists() and len(pids.read_text().split()) == 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, message = process.communicate(timeout=20)
    assert b"run the same command again" in message
    assert process.returncode == 1
    trainers = [int(pid) for pid in pids.read_text().split()]
    assert not [pid for pid in trainers if alive(pid)]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().split()[2]
    except FileNotFoundError:
        return False
    return state != "Z"
