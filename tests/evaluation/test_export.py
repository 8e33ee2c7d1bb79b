"""What `tradeoff export` writes: evaluated again, it gives the same ledger."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from tests.small import keep_few_attacks
from tradeoff.core.study import Cell, Study
from tradeoff.datasets import digits
from tradeoff.datasets.prepared import Prepared, save_prepared, split
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.anymodel import Evaluation
from tradeoff.evaluation.export import export
from tradeoff.evaluation.sources import load_images, load_source
from tradeoff.networks.models import Assembly, load_classifier, new_networks, save_model
from tradeoff.networks.threat import Threat

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A cell of digits whose model has random weights, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADEOFF_DEVICE", "cpu")
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    settings = params["datasets"]["digits"]
    keep_few_attacks(params)
    settings["suites"]["bounded"] |= {"images": 20, "attacks": {"pgd": {"steps": 4}}}
    settings["suites"]["autoattack"]["images"] = 6
    settings["suites"]["minimal"] = {}
    Path("params.yaml").write_text(json.dumps(params))
    cell = Study.load().cell("at-vgg16-digits-0")
    data = split("digits", digits.read(tmp_path), 150, 400, None)
    save_prepared(data, Path(cell.dataset.prepared))
    assembly = Assembly.of(cell, data)
    (model,) = new_networks(assembly, data)
    save_model(model.state_dict(), assembly, cell.model("best"), {"torch": "2"}, cell.key)
    return cell


def evaluated(model: torch.nn.Module, cell: Cell, data: Prepared) -> Evaluation:
    test = data.test.first(20)
    threat = Threat(cell.dataset.threat.norm, cell.dataset.threat.epsilon)
    return evaluate(model, test.images, test.labels, threat, cell.dataset.suite("bounded"))


def test_what_is_exported_gives_the_same_ledger(cell: Cell) -> None:
    data = split("digits", digits.read(Path()), 150, 400, None)
    expected, _ = evaluated(load_classifier(cell, "best", data, CPU), cell, data)
    folder = Path("given")
    export(cell.key, folder)
    again, _ = evaluated(load_source(str(folder / "model.safetensors"), CPU), cell, data)
    for name, column in expected.columns.items():
        assert np.array_equal(column, again[name], equal_nan=True), name
    # A program is attacked as it is, not by its folded twin: the same up to rounding.
    program, _ = evaluated(load_source(str(folder / "model.pt2"), CPU), cell, data)
    np.testing.assert_allclose(program["clean_margin"], expected["clean_margin"], atol=1e-4)
    assert np.array_equal(program["fooled"], expected["fooled"])


def test_card_claim_and_adversarial_images(cell: Cell) -> None:
    export(cell.key, Path("given"))
    claim = json.loads(Path("given/robustbench.json").read_text())
    assert claim["eps"] == 0.12 and claim["threat_model"] == "Linf"
    assert claim["robust_accuracy"] is None, "there is no ledger yet"
    card = Path("given/README.md").read_text()
    assert card.startswith("# at-vgg16-digits-0") and "Nothing yet" in card
    images, labels = load_images(Path("given/adversarial.npz"), CPU)
    clean = split("digits", digits.read(Path()), 150, 400, None).test.first(6)
    assert torch.equal(labels, clean.labels)
    assert (images - clean.images).abs().amax() <= 0.12 + 1e-6
