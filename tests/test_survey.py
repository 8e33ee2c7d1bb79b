"""The survey of all defenses: its rows, and how it is told that its pages are stale."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

sys.path.insert(0, str(Path(__file__).parents[1] / "studies"))

import survey

from tradeoff.core import foundations
from tradeoff.core.plugins import constant, module_names
from tradeoff.core.study import Study


def test_it_has_every_defense_but_those_that_bounds_train(tmp_path: Path) -> None:
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(survey.params([0, 1]), file)
    study = Study.load(tmp_path / "params.yaml")
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "KEPT", tmp_path)
    assert survey.main(["--check"]) == 1
    (tmp_path / "made_from.json").write_text(json.dumps(survey.made_from([0])))
    assert survey.main(["--check"]) == 0
    params = survey.params

    def other(seeds: list[int]) -> Any:
        changed = params(seeds)
        changed["fgsm"]["weight"] = 0.25
        return changed

    monkeypatch.setattr(survey, "params", other)
    assert survey.main(["--check"]) == 1
    assert survey.main(["all"]) == 2, "what is no seed is refused before any work"
