"""`dvc repro` as a command."""

import subprocess
from collections.abc import Iterable
from pathlib import Path


def dvc_repro(root: Path, arguments: Iterable[str]) -> int:
    """`dvc repro` in the repository; shown is what it does, not what it skips."""
    command = ["dvc", "repro", *arguments]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if not line.endswith(" didn't change, skipping\n"):
                print(line, end="", flush=True)
    return process.returncode
