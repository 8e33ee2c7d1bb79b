"""dvc.lock is written by one at a time: DVC, or us."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dvc.lock
import pytest

from tradeoff.cluster import lockfile, repair
from tradeoff.cluster.worktrees import CannotStart, adopt

ENTRY = """  {name}:
    cmd: python stages/{name}.py
    outs:
    - path: results/{name}
      hash: md5
      md5: abc
      size: 3
"""
# As DVC does, cut short: takes the lock, has written half, and goes on when it is told to.
DVC = """
import sys
from pathlib import Path
from dvc.repo import Repo
text = sys.stdin.readline()[:-1].encode().decode("unicode_escape")
with Repo(".").lock:
    Path("dvc.lock").write_text(text[:60])
    print("held", flush=True)
    sys.stdin.readline()
    Path("dvc.lock").write_text(text)
"""


def entry(name: str) -> str:
    return ENTRY.format(name=name)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of DVC with nothing in it."""
    folder = tmp_path / "root"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (folder / "params.yaml").write_text("")
    monkeypatch.setattr(dvc.lock, "DEFAULT_TIMEOUT", 0.3)
    return folder


@contextmanager
def dvc_writes(root: Path, entries: lockfile.Entries) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds DVC's lock, and has written half of dvc.lock when this begins."""
    text = lockfile.HEADER + "".join(entries.values())
    process = subprocess.Popen(
        [sys.executable, "-c", DVC],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(text.encode("unicode_escape").decode() + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def go_on(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n")
    assert process.returncode == 0


def test_what_dvc_is_writing_is_not_mended(root: Path) -> None:
    entries = {name: entry(name) for name in ("prepare", "train")}
    with dvc_writes(root, entries) as process:
        half = (root / lockfile.FILE).read_text()
        with pytest.raises(CannotStart, match="DVC is at work here"):
            list(repair.after_a_kill(root))
        assert (root / lockfile.FILE).read_text() == half
        go_on(process)
    assert list(repair.after_a_kill(root)) == []
    assert lockfile.read(root) == entries
    with dvc_writes(root, entries):
        lockfile.write(entries, root)
        assert "intact" in repair.mend_lock(root), "it asks for what it does not need"


def test_results_are_adopted_when_dvc_has_written(root: Path, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    (worktree / "results").mkdir(parents=True)
    (worktree / "results" / "train").write_text("new")
    lockfile.write({"train": entry("train")}, worktree)
    said: list[str] = []
    waits = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    adopts = threading.Thread(target=adopt, args=(root, worktree, ("train",), say))
    with dvc_writes(root, {"prepare": entry("prepare")}) as process:
        adopts.start()
        assert waits.wait(30), "it did not wait"
        assert not (root / "results").exists()
        go_on(process)
        adopts.join(30)
    assert "waiting until it lets go of dvc.lock" in " ".join(said)
    assert lockfile.read(root) == {name: entry(name) for name in ("prepare", "train")}
    assert (root / "results" / "train").read_text() == "new"
