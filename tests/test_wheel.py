"""The wheel holds what `tradeoff evaluate` needs, and works where nothing else of the study is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, built from a copy of what git has."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    for name in ("src", "report_templates"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE", "params.yaml"):
        shutil.copyfile(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-c", BUILD, str(target)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = target.glob("*.whl")
    with ZipFile(wheel) as file:
        file.extractall(target)
    return target


def test_suites_and_templates_are_in_it(installed: Path) -> None:
    packed = installed / "tradeoff/evaluation/params.yaml"
    assert packed.read_bytes() == (ROOT / "params.yaml").read_bytes()
    style = installed / "tradeoff/reporting/style.css.j2"
    assert style.read_bytes() == (ROOT / "report_templates/style.css.j2").read_bytes()
    assert (installed / "tradeoff/reporting/evaluation.html.j2").exists()


def test_it_works_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tradeoff.evaluation.anymodel import suite_named\n"
         "print(suite_named('autoattack').attacks[0].knobs.square_queries)\n"
         "import tradeoff.reporting.page; print(tradeoff.__file__)"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    queries, place = done.stdout.split()
    assert queries == "5000" and place.startswith(str(installed))
