"""notebooks/colab.ipynb, its code run on a toy whose stages pretend, cut off once in the middle.

A plain folder stands for the mounted one. A cut takes the clone away, and every process.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
from toys import ROOT, SMALL, Toy, wait_for

NOTEBOOK = ROOT / "notebooks" / "colab.ipynb"
FIRST, SECOND = "at-resnet18-digits-0", "trades-resnet18-digits-0"
# The second cell waits for its cut, the first time.
TRAIN = f"""
    if names[0] == {SECOND!r} and not Path(os.environ["TRADEOFF_CHECKPOINTS"], "cut").exists():
        time.sleep(600)
"""


def code_of_it(**parameters: object) -> str:
    """The notebook's code, with parameters written behind its first cell."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    given = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    assert all(f"{name} = " in code[0] for name in parameters)
    return "\n\n".join([code[0], given, *code[1:]])


def session(folder: Path, keep: Path, study: Path, log: Path) -> subprocess.Popen[bytes]:
    """A hosted session: runs all its cells, in a clone of its own."""
    parameters = {"REPOSITORY": str(study), "KEEP": str(keep), "CLONE": str(folder / "clone")}
    script = code_of_it(**parameters)
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


def files(folder: Path) -> dict[Path, bytes]:
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_the_notebook_refuses_a_torch_that_is_too_old(tmp_path: Path) -> None:
    project = '[project]\ndependencies = ["torch>=99", "torchvision>=0.26"]\n'
    (tmp_path / "pyproject.toml").write_text(project)
    given = {"KEEP": str(tmp_path / "keep"), "CLONE": str(tmp_path)}
    script = code_of_it(**given)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "and the study needs >=99. Choose a newer runtime" in done.stderr
    assert "pip install 'torch>=99'" in done.stderr


def test_the_notebook_goes_on_after_a_cut(toy: Callable[..., Toy], tmp_path: Path) -> None:
    keep, study = tmp_path / "keep", toy({"train": ("", TRAIN)}, **SMALL)
    states = keep / "checkpoints" / "state"
    first = session(tmp_path / "first", keep, study.folder, tmp_path / "first.log")
    begun = states / f"train@{SECOND}.json"
    wait_for(lambda: begun.exists() or first.poll() is not None, 200)
    assert first.poll() is None, (tmp_path / "first.log").read_text()
    cut(first)
    assert not (keep / "results").exists()
    trained = (states / f"train@{FIRST}.json").read_text()

    (keep / "checkpoints" / "cut").touch()
    log = tmp_path / "second.log"
    second = session(tmp_path / "second", keep, study.folder, log)
    assert second.wait(timeout=240) == 0, log.read_text()
    assert (states / f"train@{FIRST}.json").read_text() == trained, "it was trained again"
    clone = Toy(tmp_path / "second" / "clone")
    assert "2 done" in clone.tradeoff("status", TRADEOFF_CHECKPOINTS=str(keep / "checkpoints"))
    for name in ("metrics", "plots", "reports"):
        taken, made = files(keep / "results" / name), files(clone.folder / name)
        assert taken == made and made, name
    assert (keep / "results" / "dvc.lock").read_text() == (clone.folder / "dvc.lock").read_text()
