"""Studies beside the table: the study's own flow with other rows, in a folder of its own.

The folder is checkpoints/NAME, which git does not see; it shares DVC's cache with the study, so
that no cell is computed twice; interrupted, it goes on there. What is found is kept in
reports/NAME: the pages, the dvc.lock that says of which code and params each stage is, and a hash
of all of it, by which one tells whether the pages are stale; and in plots/beside/NAME.json what the
first page and the chapter tell of it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tradeoff.core import code, foundations  # noqa: E402
from tradeoff.core.study import Study  # noqa: E402
from tradeoff.reporting.beside import sum_up, write_beside  # noqa: E402

LINKS = (".dvcignore", "dvc.yaml", "src", "stages", "report_templates")
Change = Callable[[Any], None]


def reproduce(name: str, dataset: str, change: Change) -> int:
    """Compute what is not there yet; the status of `tradeoff reproduce`.

    Args:
        change: gives the study's params, in place, the rows of this one.
    """
    folder, kept = ROOT / "checkpoints" / name, ROOT / "reports" / name
    _lay_out(folder, kept)
    write_params(folder, change)
    command = [sys.executable, "-m", "tradeoff", "reproduce", dataset]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if (folder / "reports" / dataset).exists():
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(folder / "reports" / dataset, kept)
        shutil.copy(folder / "dvc.lock", kept)
        if status == 0:
            (kept / "made_from.json").write_text(json.dumps(made_from(change)) + "\n")
            write_beside(sum_up(name, dataset, folder), ROOT)
        print(f"{name}: {kept.relative_to(ROOT)}/report.en.html")
    return status


def write_params(folder: Path, change: Change) -> Path:
    """Write the study's params.yaml with the rows of another one to a folder."""
    params = YAML().load((ROOT / "params.yaml").read_text("utf-8"))
    change(params)
    with (folder / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    return folder / "params.yaml"


def list_trained(study: Any, defenses: Collection[str]) -> None:
    """Give section `study` of the params the lists of what is trained, in place."""
    for name in study["trained"]:
        study["trained"][name] = [d for d in defenses if foundations.list_of(d) == name]


def made_from(change: Change) -> dict[str, Any]:
    """The seeds, and a hash of what decides the pages: params, code and templates."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_params(Path(folder), change)
        listed, params = code.texts(ROOT, Study.load(file)), YAML(typ="safe").load(file)
    parts = [json.dumps(params, sort_keys=True)]
    parts += [text for use, text in sorted(listed.items()) if use.name not in ("chapter", "index")]
    parts += [path.read_text("utf-8") for path in sorted(ROOT.glob("report_templates/*"))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return {"seeds": list(params["study"]["seeds"]), "sha256": digest}


def kept_from(name: str) -> dict[str, Any]:
    """What `made_from` returned when the kept pages were made; {} if that was not recorded."""
    file = ROOT / "reports" / name / "made_from.json"
    return dict(json.loads(file.read_text())) if file.exists() else {}


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
