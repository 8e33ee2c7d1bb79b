"""The survey of all defenses: its rows, and how it is told that its pages are stale."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

import beside
import survey

from tradeoff.core import foundations
from tradeoff.core.plugins import constant, module_names
from tradeoff.core.study import Study


def test_it_has_every_defense_but_those_that_bounds_train(tmp_path: Path) -> None:
    study = Study.load(beside.write_params(tmp_path, partial(survey.change, seeds=[0, 1])))
    bases = {"tempered", "tempered_10", "labeller"}  # which are no rows
    rows = {name for name in module_names("defenses", "Knobs") if not on_bounds(name, study)}
    assert rows - bases == {*study.axes.defenses}
    trained = list(study.trained_cells("digits"))
    assert len(trained) == 2 * (len(study.axes.defenses) + len(bases))
    assert "beyond" in study.datasets["digits"].suites


def on_bounds(name: str, study: Study) -> bool:
    """Whether a defense is trained with bounds, or stands on one that is."""
    bases = (study.axes.bases[role] for role in foundations.roles(name))
    return bool(constant("defenses", name, "TRAINS_ON_BOUNDS")) or any(
        on_bounds(base, study) for base in bases
    )


def test_pages_of_other_params_or_of_none_that_are_told_are_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(survey, "kept_from", lambda name: {})
    assert survey.main(["--check"]) == 1
    kept = survey.made_from(partial(survey.change, seeds=[0]))
    monkeypatch.setattr(survey, "kept_from", lambda name: kept)
    assert survey.main(["--check"]) == 0
    rows = survey.change

    def other(params: Any, seeds: list[int]) -> None:
        rows(params, seeds)
        params["fgsm"]["weight"] = 0.25

    monkeypatch.setattr(survey, "change", other)
    assert survey.main(["--check"]) == 1
    assert survey.main(["all"]) == 2, "what is no seed is refused before any work"
