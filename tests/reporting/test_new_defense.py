"""A defense of a dozen lines, added to a copy of the repository: its module, its telling, its
section and its name in params.yaml, and the report knows it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pages import Page
from ruamel.yaml import YAML

# Signs of formulas are what a page shows.
# ruff: noqa: RUF001

ROOT = Path(__file__).parents[2]

MODULE = '''"""Adversarial training whose loss is scaled: an example."""

import torch.nn.functional as F

from tradeoff.core.schema import Positive, Section
from tradeoff.training.contract import Loss

SELECT_BY = "robust"


class Knobs(Section):
    scale: Positive


def training_loss(model, images, labels, step, knobs):
    loss = knobs.scale * F.cross_entropy(model(step.random_start(images)), labels)
    return Loss(loss, {"cross_entropy": loss.detach()})
'''
TELLING = r"""
title: {en: Scaled training, es: Entrenamiento escalado}
family: trades
source: madry2018towards
equation: ['\sigma \max_{x''} \mathrm{CE}(f(x''), y)']
words:
  en: {scale: σ}
  es: {scale: σ}
"""
# Writes made-up results of the study that params.yaml describes, then its page and chapter.
BUILD = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import made_up
from tradeoff.core.study import Study
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View
study = Study.load()
small = made_up.made_up_study(study.axes.defenses, ["resnet18"], [0, 1])
small = replace(small, knobs=study.knobs)
made_up.write_made_up(small, Path("."))
results = read_results(small, "digits")
templates = Path("report_templates")
files = build_report(small, results, templates, ["en"])
files |= build_chapter(small, {"digits": results}, "en", templates)
for name, content in files.items():
    path = Path("out", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
print(View(small, results, load_labels("en", templates)).looks)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with the defense in it, and what the build printed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("src", "report_templates"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "src/tradeoff/defenses/scaled.py").write_text(MODULE)
    (folder / "src/tradeoff/defenses/scaled.yaml").write_text(TELLING)
    yaml = YAML()
    params = yaml.load((ROOT / "params.yaml").read_text())
    params["scaled"] = {"scale": 0.75}
    lists = [params["study"]["defenses"]]
    lists += [params["study"][key]["alone"] for key in ("trained",) if key in params["study"]]
    for names in lists:
        names.append("scaled")
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(ROOT / "tests" / "reporting")], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_new_defense_is_in_the_page(copy):
    folder, _ = copy
    page = Page((folder / "out" / "report.en.html").read_text("utf-8"))
    assert any(row[0] == "Scaled training" for row in page.tables["table-main"])
    assert "σ max" in page.text and "CE(f(x′), y)" in page.text
    assert "σ = 0.75" in page.text
    assert "AT, Scaled training" in page.text  # the source that both have
    assert "scaled" not in re.sub(r"scaled-resnet18-digits-\d", "", page.text)


def test_a_new_defense_is_in_the_chapter(copy):
    folder, _ = copy
    chapter = (folder / "out" / "chapter.en.tex").read_text("utf-8")
    assert r"\item[Scaled training~\cite{madry2018towards}]" in chapter
    assert r"\(\sigma \max_{x'} \mathrm{CE}(f(x'), y)\)" in chapter


def test_a_new_defense_has_the_colour_of_its_family_and_a_marker_of_its_own(copy):
    _, printed = copy
    looks = dict(re.findall(r"'(\w+)': Look\(colour='(#\w+)'", printed))
    markers = dict(re.findall(r"'(\w+)': Look\(colour='#\w+', marker='(.)'", printed))
    assert looks["scaled"] == looks["trades"]
    assert len(set(markers.values())) == len(markers) - 1  # that of the next family's first
    assert markers["scaled"] != markers["trades"]
