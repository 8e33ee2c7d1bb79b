"""A small study of real stages, done once, and what its processes did meanwhile."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from toys import Toy

DVC = ("dvc", "repro")

# Run at the start of every Python process. The clock that stages take seconds from stands still, so
# that runs can be compared byte by byte: reports show seconds. And what is written or connected to
# anywhere is noted.
CUSTOM = """
import json, os, sys, time
time.perf_counter = lambda: 0.0
LOG = {log!r}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
def note(event, arguments):
    if event.startswith("socket."):
        name = getattr(arguments[0], "family", None)
        if event in ("socket.bind", "socket.connect", "socket.sendto", "socket.sendmsg"):
            if getattr(name, "name", "") == "AF_UNIX":
                return
        elif event not in ("socket.getaddrinfo", "socket.gethostbyname"):
            return
        where = repr(arguments[1:])
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & WRITING:
        where = os.fsdecode(arguments[0])
    elif event in ("os.mkdir", "sqlite3.connect"):
        where = os.fsdecode(arguments[0])
    elif event in ("os.rename", "os.link", "os.symlink"):
        where = os.fsdecode(arguments[1])
    else:
        return
    if where != LOG:
        line = json.dumps([event, where if "socket" in event else os.path.abspath(where)])
        file = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, line.encode() + b"\\n")
        os.close(file)
sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Surroundings:
    """Folders of its own for everything that a run may use, and its environment variables."""

    folder: Path
    variables: dict[str, str]

    @property
    def noted(self) -> list[tuple[str, str]]:
        """Events and where: a path, or an address."""
        lines = (self.folder / "noted").read_text().splitlines()
        return [tuple(json.loads(line)) for line in lines]


@contextmanager
def surroundings(study: Toy, folder: Path) -> Iterator[Surroundings]:
    """Surroundings of runs in a study, in a folder of their own."""
    for name in ("start", "home", "tmp", "site"):
        (folder / name).mkdir(parents=True)
    custom = CUSTOM.format(log=str(folder / "noted"))
    (folder / "start" / "sitecustomize.py").write_text(custom)
    plain = study.environment()
    changed = {
        "PYTHONPATH": f"{folder / 'start'}{os.pathsep}{plain['PYTHONPATH']}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }
    # Other folders: of the desktop, and of torch's compiler, which names them once it has run.
    elsewhere = [name for name in plain if name.startswith(("XDG_", "TORCHINDUCTOR_", "TRITON_"))]
    variables = {name: text for name, text in plain.items() if name not in elsewhere}
    with pytest.MonkeyPatch.context() as patch:
        for name in elsewhere:
            patch.delenv(name, raising=False)
        for name, text in changed.items():
            patch.setenv(name, text)
        yield Surroundings(folder, variables | changed)


class Run:
    """A command at work in a study."""

    def __init__(self, study: Toy, command: tuple[str, ...], variables: dict[str, str]) -> None:
        self.study, self.began = study, time.time()
        self.log = study.folder.with_suffix(".log")
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                command, cwd=study.folder, env=variables, stdout=file, stderr=file
            )

    def begun(self) -> list[str]:
        """The stages that it has begun, in this order."""
        logs = [self.log, *(self.study.folder / "checkpoints" / "logs").glob("*.log")]
        text = "".join(log.read_text() for log in logs if log.stat().st_mtime >= self.began)
        return list(dict.fromkeys(re.findall(r"^Running stage '(\S+)':", text, flags=re.MULTILINE)))


@dataclass(frozen=True)
class Done:
    """A study that was run once and left alone.

    Attributes:
        before: as it was, with nothing computed.
        took: seconds of every stage with DVC's own after it, in the order run.
    """

    before: Toy
    study: Toy
    took: dict[str, float]
    around: Surroundings


def do_once(folder: Path) -> Done:
    """Make a study in `folder` and have `dvc repro` do all of it."""
    before = Toy(folder / "before")
    before.folder.mkdir()
    before.build_real()
    study = before.copy(folder / "study")
    began: dict[str, float] = {}
    with surroundings(study, folder / "around") as around:
        run = Run(study, DVC, around.variables)
        while run.process.poll() is None:
            for stage in run.begun():
                began.setdefault(stage, time.monotonic())
            time.sleep(0.02)
    assert run.process.returncode == 0, run.log.read_text()
    ends = [*list(began.values())[1:], time.monotonic()]
    took = {stage: end - began[stage] for stage, end in zip(began, ends, strict=True)}
    return Done(before, study, took, around)
