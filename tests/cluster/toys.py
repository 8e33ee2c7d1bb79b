"""A clone of the repository with a small matrix, whose stages write something made up."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import here
import psutil
from ruamel.yaml import YAML

from tests.small import keep_defenses, keep_few_attacks, shrink
from tests.stubs import OUTPUTS, replace_stages

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"defenses": ["at", "trades"], "seeds": [0]}

STUB = '''
"""A stage of the toy: waits, then writes what its name and its inputs determine."""
import hashlib, os, sys, time
from pathlib import Path
import _environment
{before}
{outputs}
def main(**names):
    work(*names.values())
    params = Path("params.yaml").read_text()
    for out in map(Path, outputs(Path(sys.argv[0]).stem, list(names.values()))):
        out.parent.mkdir(parents=True, exist_ok=True)
        value = hashlib.md5(f"{{out}} {{params}}".encode()).hexdigest()
        out.write_text('{{"value": "%s"}}\\n' % value)

def work(*names):
    {work}

_environment.run(main, "toy", **dict.fromkeys("ab"[: len(sys.argv) - 1], "name"))
'''

# What the commands need besides code.
NAMES = (
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvcignore",
    ".gitignore",
    "data/own/README.md",
    "dvc.yaml",
    "params.yaml",
    "pyproject.toml",
    "requirements.lock",
)


def working_in(folder: Path) -> list[int]:
    """Living processes below a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != "zombie" and Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(done: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that happens in another process."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


class Toy:
    """A repository of its own, in which `tradeoff` and `dvc` can be run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def build(self, stages: dict[str, tuple[str, str]], **axes: object) -> "Toy":
        """Make the repository, with stages that only pretend.

        Args:
            stages: script name: code at its top, and code of its work; nothing for the others.
            axes: replacements in section `study` of params.yaml.
        """
        self._lay_out()

        def stub(stage: str) -> str:
            before, work = stages.get(stage, ("", "pass"))
            return STUB.format(before=before, outputs=OUTPUTS, work=work)

        replace_stages(self.folder / "stages", stub)

        def edit(params: Any) -> None:
            small = {"datasets": ["digits"], "architectures": ["resnet18"]} | axes
            params["study"].update(small)
            if "trained" not in axes:
                keep_defenses(params, params["study"]["defenses"])
            # DVC reads and writes all of it anew for every stage: half of a toy's time.
            params["datasets"] = {name: params["datasets"][name] for name in small["datasets"]}
            for dataset in params["datasets"].values():
                dataset["suites"] = {suite: {} for suite in dataset["suites"]}
            keep_few_attacks(params)
            params["report"]["languages"] = ["en"]

        self.change(edit)
        return self._begin()

    def build_real(self) -> "Toy":
        """Make the repository, with the real stages and little to do."""
        self._lay_out()
        self.change(shrink)
        return self._begin()

    def _lay_out(self) -> None:
        for name in NAMES:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        for name in ("src", "stages", "report_templates"):
            skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, self.folder / name, ignore=skip)

    def _begin(self) -> "Toy":
        self.run("git", "init", "-q")
        self.commit()
        return self

    def change(self, edit: Callable[[Any], object]) -> None:
        """Edit params.yaml in place."""
        yaml = YAML()
        path = self.folder / "params.yaml"
        params = yaml.load(path.read_text())
        edit(params)
        with path.open("w") as file:
            yaml.dump(params, file)

    def commit(self) -> None:
        self.run("git", "add", "-A")
        identity = ("-c", "user.name=toy", "-c", "user.email=toy@localhost")
        self.run("git", *identity, "commit", "-qm", "toy", "--allow-empty")

    def copy(self, folder: Path) -> "Toy":
        """The same repository elsewhere."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Toy(folder)

    def environment(self, **more: str) -> dict[str, str]:
        path = [*map(str, (self.folder / "src",)), *filter(None, sys.path[1:])]
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path),
            "CUDA_VISIBLE_DEVICES": "",
            **more,
        }

    def run(self, *command: str, ok: bool | None = True, **more: str) -> str:
        """The output of a command, which must succeed; fail, if `ok` is False; None: or fail."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ok is None or (done.returncode == 0) is ok, done.stdout
        return done.stdout

    def tradeoff(self, *arguments: str, ok: bool | None = True, **more: str) -> str:
        """What `tradeoff` says; in this process, but for Ray, Slurm and the DVC of `verify`, which
        speak for themselves."""
        if {"--ray", "--slurm", "verify"} & set(arguments):
            return self.run(sys.executable, "-m", "tradeoff", *arguments, ok=ok, **more)
        succeeded, said = here.tradeoff(self.folder, arguments, self.environment(**more))
        assert ok in (None, succeeded), said
        return said

    def up_to_date(self, *targets: str) -> bool:
        """As `dvc status` says it."""
        return here.up_to_date(self.folder, *targets)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`tradeoff` in the background."""
        return subprocess.Popen(
            [sys.executable, "-m", "tradeoff", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def results(self) -> dict[str, bytes]:
        """Every output, and dvc.lock with its stages sorted."""
        folders = ("data", "models", "ledgers", "metrics", "plots", "reports")
        files = {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in folders
            for path in (self.folder / folder).rglob("*")
            if path.is_file()
        }
        lock = YAML(typ="safe").load((self.folder / "dvc.lock").read_text())
        files["dvc.lock"] = repr(sorted(lock["stages"].items())).encode()
        return files
