"""Studies beside the table: the study's own flow with other rows, in a folder of its own.

The folder is checkpoints/NAME, which git does not see; it shares DVC's cache with the study, so
that no cell is computed twice. What is found is kept in reports/NAME: the pages, and the dvc.lock
that says of which code and params they are.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
LINKS = (".dvcignore", "dvc.yaml", "src", "stages", "report_templates")


def reproduce(name: str, dataset: str, change: Callable[[Any], None]) -> int:
    """Compute what is not there yet; the status of `tradeoff reproduce`.

    Args:
        change: gives the study's params, in place, the rows of this one.
    """
    folder, kept = ROOT / "checkpoints" / name, ROOT / "reports" / name
    _lay_out(folder, kept)
    params = YAML().load((ROOT / "params.yaml").read_text("utf-8"))
    change(params)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    command = [sys.executable, "-m", "tradeoff", "reproduce", dataset]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if (folder / "reports" / dataset).exists():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "reports" / dataset, kept)
        shutil.copy(folder / "dvc.lock", kept)
        print(f"{name}: {kept.relative_to(ROOT)}/report.en.html")
    return status


def _lay_out(folder: Path, kept: Path) -> None:
    """Make the folder, with the study's own files by links."""
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    for name in LINKS:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    (folder / "data" / "own").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "data" / "own" / "README.md", folder / "data" / "own")
    config = (
        f"[core]\n    no_scm = true\n    analytics = false\n[cache]\n    dir = {ROOT}/.dvc/cache\n"
    )
    (folder / ".dvc" / "config").write_text(config)
    if (kept / "dvc.lock").exists() and not (folder / "dvc.lock").exists():
        shutil.copy(kept / "dvc.lock", folder)
