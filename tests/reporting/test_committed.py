"""The tables of the committed results against the means that are committed beside them."""

import html
import json
from pathlib import Path

import pytest

from tradeoff.core.study import Study
from tradeoff.reporting.accuracy import main_table, overfitting_table
from tradeoff.reporting.beside import read_beside
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def committed(templates):
    study = Study.load(ROOT / "params.yaml")
    return View(study, read_results(study, "digits", ROOT), load_labels("en", templates))


def rows_of(table, view):
    """(means in percent as committed, numbers as printed) of each row of defenses."""
    for block, architecture in zip(table.blocks, view.architectures, strict=True):
        rows = [row for row in block.rows if not row.minor]
        for row, defense in zip(rows, view.defenses, strict=True):
            numbers = [float(number.mean.replace("\N{MINUS SIGN}", "-")) for number in row.numbers]
            file = ROOT / "metrics" / "means" / "digits" / f"{defense}-{architecture}.json"
            yield json.loads(file.read_text()), numbers


def test_the_main_table_has_the_committed_means(committed):
    for means, (natural, robust, drop, success, worst, *_) in rows_of(
        main_table(committed), committed
    ):
        printed = {"NA": natural, "RA": robust, "RD": drop, "ASR": success, "RA worst class": worst}
        for metric, number in printed.items():
            assert number == pytest.approx(means[metric], abs=0.1001), metric
        assert success == pytest.approx(100 - robust, abs=0.1001)
        assert 0 <= worst <= robust + 0.1


def test_the_table_of_overfitting_fits_the_committed_means(committed):
    for means, (*_, selected, last, change) in rows_of(overfitting_table(committed), committed):
        assert selected >= means["RA"] - 0.1001, "RA counts AutoAttack too"
        assert change == pytest.approx(last - selected, abs=0.1501)


def test_what_is_told_of_the_studies_beside_stands_on_their_pages():
    told = read_beside(ROOT)
    assert {study.name for study in told} == {
        folder.parent.name for folder in (ROOT / "reports").glob("*/made_from.json")
    }
    assert any(study.said["en"] for study in told)
    for study in told:
        for language, sentences in study.said.items():
            page = ROOT / "reports" / study.name / f"report.{language}.html"
            text = html.unescape(page.read_text("utf-8"))
            assert all(sentence in text for sentence in sentences)
