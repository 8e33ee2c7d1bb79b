"""notebooks/colab.ipynb, its code run on a small digits study, cut off once in the middle.

A plain folder stands for the mounted one. A cut takes the clone away, and every process.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from tests.small import CELLS, shrink

ROOT = Path(__file__).resolve().parents[2]


def code_of(notebook: Path, **parameters: object) -> str:
    """The notebook's code, with parameters written behind its first cell."""
    cells = json.loads(notebook.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    assert all(f"{name} = " in code[0] for name in parameters)
    return "\n\n".join([code[0], given, *code[1:]])


def small_study(folder: Path) -> None:
    """A repository with two cells that take seconds, as a commit."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for path in ("src", "stages", "report_templates"):
        subprocess.run(["cp", "-r", str(ROOT / path), str(folder)], check=True)
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    shrink(params)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    identity = ["-c", "user.name=toy", "-c", "user.email=toy@localhost"]
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "small"], cwd=folder, check=True)


def session(folder: Path, keep: Path, study: Path, log: Path) -> subprocess.Popen[bytes]:
    """A hosted session: runs all cells of the notebook, in a clone of its own."""
    parameters = {"REPOSITORY": str(study), "KEEP": str(keep), "CLONE": str(folder / "clone")}
    script = code_of(ROOT / "notebooks" / "colab.ipynb", **parameters)
    folder.mkdir()
    # One cell of the study after the other, so that the cut comes between the two.
    script = script.replace('"--per-gpu"', '"--jobs", "1", "--per-gpu"')
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TRADEOFF_DEVICE": "cpu",
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=folder,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def cut(process: subprocess.Popen[bytes]) -> None:
    """End everything at once, as the host does."""
    everything = [process.pid, *(p.pid for p in psutil.Process(process.pid).children(True))]
    for pid in everything:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def test_the_notebook_refuses_a_torch_that_is_too_old(tmp_path: Path) -> None:
    project = '[project]\ndependencies = ["torch>=99", "torchvision>=0.26"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    given = {"KEEP": str(tmp_path / "keep"), "CLONE": str(tmp_path)}
    script = code_of(ROOT / "notebooks" / "colab.ipynb", **given)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "and the study needs >=99. Choose a newer runtime" in done.stderr
    assert "pip install 'torch>=99'" in done.stderr


def test_the_notebook_goes_on_after_a_cut(tmp_path: Path) -> None:
    keep, study = tmp_path / "keep", tmp_path / "study"
    small_study(study)
    states = keep / "checkpoints" / "state"

    log = tmp_path / "first.log"
    first = session(tmp_path / "first", keep, study, log)
    end = time.monotonic() + 200
    while not (states / f"train@{CELLS[1]}.json").exists():  # the second cell has begun
        assert first.poll() is None and time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    cut(first)
    assert not (keep / "results").exists()
    (trained,) = [p.read_text() for p in states.glob(f"train@{CELLS[0]}.json")]

    log = tmp_path / "second.log"
    second = session(tmp_path / "second", keep, study, log)
    assert second.wait(timeout=240) == 0, log.read_text()
    assert (states / f"train@{CELLS[0]}.json").read_text() == trained, "it was trained again"
    report = keep / "results" / "reports" / "digits" / "report.en.html"
    assert "trades" in report.read_text().lower()
    assert (keep / "results" / "plots" / "summary" / "digits" / "cells.csv").exists()
    assert (
        "2 done"
        in subprocess.run(
            [sys.executable, "-m", "tradeoff", "status"],
            cwd=tmp_path / "second" / "clone",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "second" / "clone" / "src")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
