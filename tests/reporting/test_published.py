"""Published values beside ours: what is compared, and what is not and why."""

from dataclasses import replace
from math import sqrt

import pytest
from made_up import EPSILON, made_up_study, write_made_up

from tradeoff.core.plugins import module_names
from tradeoff.core.schema import BadParams
from tradeoff.core.settings import ModelSettings
from tradeoff.reporting.estimates import Estimate
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.published import (
    FILE,
    Published,
    load_published,
    published_table,
    standard_errors,
    why_not_comparable,
)
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

# ruff: noqa: RUF001


def entry(**changes) -> Published:
    values = {
        "method": "TRADES", "network": "vgg16", "defense": "trades", "dataset": "digits",
        "norm": "linf", "epsilon": EPSILON, "clean": 0.8, "robust": 0.5, "under": "AutoAttack",
        "source": "a paper",
    }  # fmt: skip
    return Published.model_validate(values | changes)


@pytest.fixture(scope="module")
def view(tmp_path_factory, templates) -> View:
    """Of a study whose networks have their full width."""
    root = tmp_path_factory.mktemp("published")
    study = made_up_study(["trades", "dtrades"], ["vgg16"])
    full = {"vgg16": ModelSettings(width=1.0, pretrained=None)}
    study = replace(study, datasets={"digits": replace(study.datasets["digits"], models=full)})
    write_made_up(study, root)
    return View(study, read_results(study, "digits", root), load_labels("en", templates))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"dataset": "mnist", "near": ["digits"]}, "of MNIST"),
        ({"epsilon": 0.3}, "ℓ∞, ε = 0.3"),
        ({"norm": "l2"}, "ℓ₂, ε = 24/255 ≈ 0.09412"),
        ({"defense": "mart"}, "no row of this study"),
        ({"network": "resnet18"}, "another network"),
        ({"under": "PGD"}, "another attack than AutoAttack"),
        ({"epoch": "last"}, "the last epoch"),
    ],
)
def test_what_is_of_something_else_is_told_and_not_compared(view, changes, reason) -> None:
    found = why_not_comparable(view, entry(**changes))
    assert found == reason
    table = published_table(view, [entry(**changes)])
    (row,) = table.blocks[0].rows
    assert row.minor == bool(reason)
    assert (row.numbers[5].mean == found) == bool(reason)


def test_a_narrow_network_is_not_the_published_one(complete, templates) -> None:
    study, results = complete
    view = View(study, results, load_labels("en", templates))
    assert why_not_comparable(view, entry()) == "our network has 0.25 of the width"


def test_the_gap_counts_seeds_and_images_of_both() -> None:
    ours, theirs = Estimate(0.52, 0.01, 4), entry(robust=0.5, seeds=9, sd=0.03, images=10000)
    variance = 0.01**2 / 4 + 0.52 * 0.48 / 1000 + 0.03**2 / 9 + 0.5 * 0.5 / 10000
    assert standard_errors(ours, 1000, theirs) == pytest.approx(0.02 / sqrt(variance))
    assert standard_errors(Estimate(0.52, None, 1), 1000, entry()) == pytest.approx(
        0.02 / sqrt(0.52 * 0.48 / 1000 + 0.25 / 10000)
    )


def test_other_data_sets_values_stand_where_there_are_none_of_this_one(view) -> None:
    """The first of each defense, beside ours on whatever network, and never compared."""
    assert published_table(view, [entry(dataset="cifar10", defense="mart")]) is None
    elsewhere = [
        entry(dataset="mnist", defense="dtrades", network="CNN"),
        entry(dataset="cifar10"),
        entry(dataset="mnist"),
    ]
    assert len(published_table(view, [entry(), *elsewhere]).blocks[0].rows) == 1
    rows = published_table(view, elsewhere).blocks[0].rows
    assert [row.numbers[5].mean for row in rows] == ["of CIFAR-10", "of MNIST"]
    assert all(row.minor and row.numbers[4].mean for row in rows)


def test_the_file_names_modules_that_there_are_and_a_wrong_key_is_told(templates, tmp_path) -> None:
    entries = load_published(templates)
    assert {one.defense for one in entries} - {None} <= set(module_names("defenses", "Knobs"))
    assert {one.dataset for one in entries} <= set(module_names("datasets", "read"))
    (tmp_path / FILE).write_text("- {method: AT, robust: 1.2}")
    with pytest.raises(BadParams, match=r"published.yaml: results.0.robust"):
        load_published(tmp_path)
    (tmp_path / FILE).write_bytes("- {source: Mądry}".encode("latin2"))
    with pytest.raises(BadParams, match=r"published.yaml, line 1: is not in UTF-8"):
        load_published(tmp_path)
