"""The tables of the committed results against the JSON files of the cells, computed from these
by themselves."""

import json
from pathlib import Path

import pytest

from tradeoff.core.study import Study
from tradeoff.reporting.accuracy import main_table, overfitting_table
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(
        not (ROOT / "metrics" / "digits").exists(), reason="no results of digits are committed"
    ),
]


@pytest.fixture(scope="module")
def committed(templates):
    study = Study.load(ROOT / "params.yaml")
    return study, read_results(study, "digits", ROOT), load_labels("en", templates)


def mean_of(metric, suite, defense, architecture, study):
    """From the JSON files, over the seeds."""
    values = []
    for seed in study.axes.seeds:
        name = f"{defense}-{architecture}-digits-{seed}-{suite}.json"
        values.append(json.loads((ROOT / "metrics" / "digits" / name).read_text())[metric])
    return sum(values) / len(values)


def rows_of(table, study):
    for block, architecture in zip(table.blocks, study.axes.architectures, strict=True):
        rows = [row for row in block.rows if not row.minor]
        for row, defense in zip(rows, study.axes.defenses, strict=True):
            numbers = [float(number.mean.replace("\N{MINUS SIGN}", "-")) for number in row.numbers]
            yield defense, architecture, numbers


def test_the_main_table_is_that_of_the_json_files(committed):
    study, results, labels = committed
    suites = study.dataset("digits").suites
    assert suites["bounded"].images == suites["autoattack"].images, "NA is then that of both"
    for defense, architecture, numbers in rows_of(main_table(View(study, results, labels)), study):
        natural, robust, drop, success, worst, norm = numbers[:6]
        place = (defense, architecture, study)
        # Half a unit of the last printed digit.
        assert natural == pytest.approx(100 * mean_of("NA", "bounded", *place), abs=0.0501)
        # The table also knows the examples of the other suites, which may be nearer.
        assert 0 < norm <= mean_of("APN_linf", "minimal", *place) + 0.0000511
        for suite in ("bounded", "autoattack"):
            assert robust <= 100 * mean_of("RA", suite, *place) + 0.0501
        assert drop == pytest.approx(natural - robust, abs=0.1501)
        assert success == pytest.approx(100 - robust, abs=0.1001)
        assert 0 <= worst <= robust + 0.1


def test_the_table_of_overfitting_is_that_of_the_json_files(committed):
    study, results, labels = committed
    for defense, architecture, numbers in rows_of(
        overfitting_table(View(study, results, labels)), study
    ):
        place = (defense, architecture, study)
        selected, last, change = numbers[3:6]
        assert selected == pytest.approx(100 * mean_of("RA", "bounded", *place), abs=0.0501)
        assert last == pytest.approx(100 * mean_of("RA_last", "bounded", *place), abs=0.0501)
        assert change == pytest.approx(last - selected, abs=0.1501)
