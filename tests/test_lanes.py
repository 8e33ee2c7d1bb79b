"""Lanes: every cell in one of them, and an interruption stops what they started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tradeoff.cluster.lanes import lanes
from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[1]


def test_each_cell_is_wholly_in_one_lane() -> None:
    study = Study.load(ROOT / "params.yaml")
    shares = lanes(study, "digits", 2)
    stages = [stage for share in shares for stage in share]
    cells = study.cells("digits")
    assert len(stages) == len(set(stages))
    assert abs(len(shares[0]) - len(shares[1])) <= 1 + len(cells[0].dataset.suites)
    for cell in cells:
        own = [[stage for stage in share if f"@{cell.key}" in stage] for share in shares]
        (there,) = [stages for stages in own if stages]
        assert there[0] == f"train@{cell.key}"
        assert set(there[1:]) == {f"attack@{cell.key}-{suite}" for suite in cell.dataset.suites}


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
