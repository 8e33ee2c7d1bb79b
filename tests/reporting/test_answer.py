"""The answer, by rules: from made-up differences between the proposal and its controls."""

from dataclasses import replace
from pathlib import Path

import pytest
from made_up import made_up_study, write_made_up

from tradeoff.reporting.accuracy import main_table
from tradeoff.reporting.answer import adapting, answer
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

# ruff: noqa: RUF001

CONTROLS = ["dtrades_shuffled", "dtrades_batch_mean"]
# Difference, low, high, detectable and whether it is resolved, in RA.
HIGHER = (0.031, 0.010, 0.052, 0.028, True)
LOWER = (-0.031, -0.052, -0.010, 0.028, True)
NEAR = (0.002, -0.006, 0.010, 0.015, False)
WIDE = (0.002, -0.050, 0.054, 0.074, False)


def compared(tmp_path: Path, *tested: tuple[float, float, float, float, bool], language="en"):
    """The view of a study on one network, in which each control was tested like this."""
    study = made_up_study(["trades", "dtrades", *CONTROLS[: len(tested)]], ["vgg16"])
    axes = study.axes.model_copy(update={"controls_of_proposal": CONTROLS})
    study = replace(study, axes=axes)
    write_made_up(study, tmp_path)
    results = read_results(study, "digits", tmp_path)
    differences, detectable = results.differences.copy(), results.detectable.copy()
    for control, numbers in zip(CONTROLS, tested, strict=False):
        row = (differences["other"] == control) & (differences["metric"] == "RA")
        differences.loc[row, ["difference", "low", "high", "detectable"]] = numbers[:4]
        pair = (detectable[["one", "other"]] == control).any(axis=1)
        pair &= (detectable[["one", "other"]] == "dtrades").any(axis=1)
        pair &= detectable["metric"] == "RA"
        detectable.loc[pair, "resolved"] = str(numbers[4])
    results = replace(results, differences=differences, detectable=detectable)
    return View(study, results, load_labels(language, Path("report_templates")))


@pytest.mark.parametrize(
    ("tested", "concluded"),
    [
        ([HIGHER, HIGHER], "Adapting the weight to the image helps."),
        ([NEAR, LOWER], "Adapting the weight to the image does not help, not by 2.0 points."),
        ([HIGHER, NEAR], "Whether adapting the weight helps, this study cannot tell below 2.8 po"),
        ([WIDE, NEAR], "Whether adapting the weight helps, this study cannot tell below 7.4 po"),
        ([], "This study cannot tell: none of its rows differs from D-TRADES only in a weight"),
    ],
    ids=["helps", "does not", "they do not agree", "too few seeds", "no controls"],
)
def test_what_follows_from_the_controls(tmp_path: Path, tested, concluded: str) -> None:
    view = compared(tmp_path, *tested)
    conclusion, against, unseen = answer(view)
    assert "D-TRADES differs from TRADES in robust accuracy (RA) by" in against
    assert conclusion.startswith(concluded)
    assert "3 seeds" in unseen
    assert len(adapting(view)) == len(tested)


def test_a_comparison_tells_its_test_seeds_images_and_detectable_difference(tmp_path: Path) -> None:
    (text,) = adapting(compared(tmp_path, WIDE))
    images = int(compared(tmp_path, WIDE).results.differences["images"].iloc[0])
    assert text == (
        "VGG16: D-TRADES less D-TRADES, λ shuffled is +0.2 points of RA [−5.0; +5.4], of 3 seeds "
        f"and {images} images; the smallest detectable difference is 7.4 points. Whether adapting "
        "the weight helps, this study cannot tell below 7.4 points."
    )


def test_a_control_that_was_not_tested_says_nothing(tmp_path: Path) -> None:
    untested = (0.1, 0.0, 0.2, float("nan"), False)
    view = compared(tmp_path, untested)
    assert adapting(view) == []
    assert answer(view)[0].startswith("This study cannot tell")


def test_the_page_begins_with_question_and_answer_and_then_says_what_was_run(
    tmp_path: Path,
) -> None:
    view = compared(tmp_path, NEAR)
    pages = build_report(view.study, view.results, Path("report_templates"), ["es"])
    page = pages["report.es.html"].decode()
    places = [page.index(text) for text in (
        "¿Ayuda a la robustez", "difiere de TRADES en precisión robusta (RA)", "<figure", "<table",
        'id="adapting"', "D-TRADES, λ barajada son +0,2 puntos", 'id="setting"',
    )]  # fmt: skip
    assert places == sorted(places)


@pytest.mark.parametrize("language", ["en", "es"])
def test_one_seed_is_a_singular(tmp_path: Path, language: str) -> None:
    study = made_up_study(["trades", "dtrades"], ["vgg16"], seeds=[0])
    write_made_up(study, tmp_path)
    labels = load_labels(language, Path("report_templates"))
    view = View(study, read_results(study, "digits", tmp_path), labels)
    texts = " ".join([*answer(view), *adapting(view), main_table(view).caption])
    singular = {"en": "1 seed", "es": "1 semilla"}[language]
    assert singular in texts and f"{singular}s" not in texts
