"""What `tradeoff export` writes: evaluated again, it gives the same ledger."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from tests.small import keep_few_attacks
from tradeoff.core import foundations
from tradeoff.core.plugins import module_names
from tradeoff.core.study import Cell, Study
from tradeoff.datasets import digits
from tradeoff.datasets.prepared import Prepared, save_prepared, split
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.anymodel import Evaluation
from tradeoff.evaluation.export import export, write_program
from tradeoff.evaluation.sources import load_images, load_source
from tradeoff.networks.models import (
    Assembly,
    Blueprint,
    build_network,
    load_classifier,
    new_networks,
    save_model,
)
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


# What torch.export cannot follow: places of data, gradients inside, kernels of this package.
NO_PROGRAM = {"cascaded", "locally_biased", "purified"}


@pytest.mark.parametrize("classifier", module_names("classifiers", "build"))
def test_every_classifier_comes_back_as_it_was(classifier: str, tmp_path: Path) -> None:
    """As safetensors always; as a program where torch.export can, else it is told."""
    study = Study.load(ROOT / "params.yaml")
    defense = next(name for name in study.knobs if foundations.classifier(name) == classifier)
    knobs = getattr(study.knobs[defense], "classifier", None)
    assembly = Assembly(
        (Blueprint("wongsmall", "digits", (1, 8, 8), 10, 1.0),)
        * foundations.network_count(defense),
        classifier,
        {} if knobs is None else knobs.model_dump(),
    )
    torch.manual_seed(0)
    networks = [build_network(b, [0.5], [0.5], n) for n, b in enumerate(assembly.networks)]
    model = assembly.build(networks).eval().requires_grad_(False)
    save_model(model.state_dict(), assembly, tmp_path / "model.safetensors")
    images = torch.rand(5, 1, 8, 8)
    loaded = load_source(str(tmp_path / "model.safetensors"), CPU)
    torch.testing.assert_close(loaded(images), model(images))
    reason = write_program(loaded, images, tmp_path / "model.pt2")
    assert (reason is not None) == (classifier in NO_PROGRAM), reason
    assert (tmp_path / "model.pt2").exists() == (reason is None)
    if reason is None:
        program = load_source(str(tmp_path / "model.pt2"), CPU)
        torch.testing.assert_close(program(images[:3]), model(images[:3]))
    else:
        assert "\n" not in reason and "torch.export" in reason


def test_a_card_says_why_there_is_no_program(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise RuntimeError("cannot be followed\nin many lines")

    monkeypatch.setattr(torch.export, "export", refuses)
    names = {path.name for path in export(cell.key, Path("given"))}
    assert names == {"model.safetensors", "README.md", "robustbench.json", "adversarial.npz"}
    card = Path("given/README.md").read_text()
    assert "There is no model.pt2" in card and "cannot be followed." in card


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
