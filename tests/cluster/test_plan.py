"""What may be asked of `tradeoff reproduce`."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tradeoff.cluster.plan import stage_targets
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Study

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.load(ROOT / "params.yaml")


def test_every_stage_of_a_data_set_is_a_target(study: Study) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    of_datasets = [n for n, stage in stages.items() if list(stage.get("matrix", ())) == ["dataset"]]
    assert {"prepare", "transfer", "examples", "summarize", "report"} <= set(of_datasets)
    targets = [f"{name}@digits" for name in of_datasets]
    assert stage_targets(study, targets) == tuple(targets)


def test_a_target_that_is_not_there_is_told(study: Study) -> None:
    cell = study.cells("digits")[0].key
    with pytest.raises(BadParams, match=f"Did you mean {cell}"):
        stage_targets(study, [cell.replace("digits", "digist")])
