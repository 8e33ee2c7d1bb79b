"""The study's evaluation of a model that is not the study's, from Python and from the shell."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from torch import Tensor, nn

from tests.small import keep_few_attacks
from tradeoff.attacks.suites.ledger import CHECKS, Ledger
from tradeoff.cli import main
from tradeoff.core.plugins import knobs_class
from tradeoff.core.study import Attack, Study, Suite
from tradeoff.datasets import digits
from tradeoff.datasets.prepared import save_prepared, split
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.command import _threat
from tradeoff.networks.device import matrix_precision
from tradeoff.networks.models import Assembly, new_networks, save_model
from tradeoff.networks.threat import Threat
from tradeoff.running.attack_checkpoints import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
THREAT = Threat("linf", 0.1)


def foreign() -> nn.Module:
    """A network of nobody's making: no preprocessing, no BatchNorm, other activations."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(54, 10)
    )


def data(count: int = 24) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(count) % 10


def suite(batch_size: int = 8) -> Suite:
    pgd = {"loss": "cross_entropy", "steps": 5, "relative_step_size": 0.3, "restarts": 1}
    auto = {"apgd_steps": 4, "fab_steps": 3, "targets": 2, "square_queries": 10}
    entries = {
        "fgsm": ("fgsm", {}),
        "pgd": ("pgd", pgd),
        "autoattack": ("autoattack", {"version": "standard", "plus_restarts": 1, **auto}),
        "fmn": ("fmn", {"norm": "linf", "steps": 10, "step_size": 1.0, "gamma": 0.05}),
    }
    attacks = tuple(
        Attack(name, module, knobs_class("attacks", module)(**values))
        for name, (module, values) in entries.items()
    )
    return Suite("mine", None, batch_size, ["best"], None, attacks)


def equal(one: Ledger, other: Ledger) -> bool:
    same = {name: np.array_equal(one[name], other[name], equal_nan=True) for name in one.columns}
    return one.attacks == other.attacks and all(same.values())


def test_any_model_in_five_lines() -> None:
    model, (images, labels) = foreign(), data()
    ledger, metrics = evaluate(model, images, labels, THREAT, suite())
    assert model.training
    with torch.no_grad():
        natural = (model.eval()(images).argmax(1) == labels).numpy()
    assert metrics["NA"] == natural.mean()
    assert ledger.attacks == ("fgsm", "pgd", "apgd-ce", "apgd-t", "fab-t", "square", "fmn")
    held = natural & ~ledger["fooled"][0].any(0)
    assert metrics["RA"] == held.mean()
    assert set(metrics["norms"]) == {"l0", "l2", "linf"}
    assert all(np.isnan(ledger[name]).all() for name in CHECKS)


def test_a_suite_by_name_is_that_of_params() -> None:
    ledger, _ = evaluate(foreign(), *data(4), THREAT, "bounded")
    known = Study.load(ROOT / "params.yaml").suite("bounded")
    assert list(ledger.attacks) == [attack.name for attack in known.attacks]
    assert not np.isnan(ledger["check_fosc"]).any()


class Shuffled(nn.Module):
    """Its BatchNorm is defined after the convolution and applied before it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 1, 3)
        self.norm = nn.BatchNorm2d(1)
        self.norm.running_mean.fill_(0.4)  # type: ignore[union-attr]
        self.norm.running_var.fill_(0.1)  # type: ignore[union-attr]
        self.head = nn.Linear(36, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.convolution(self.norm(images)).flatten(1))


def test_a_model_that_cannot_be_folded_is_attacked_as_it_is() -> None:
    model, (images, labels) = Shuffled().eval(), data()
    ledger, _ = evaluate(model, images, labels, THREAT, suite())
    row = ledger.attacks.index("fgsm")
    one_step = images.clone().requires_grad_()
    nn.functional.cross_entropy(model(one_step), labels).backward()
    assert one_step.grad is not None
    stepped = (images + 0.1 * one_step.grad.sign()).clamp(0, 1)
    with torch.no_grad():
        assert np.array_equal(ledger["prediction"][0, row], model(stepped).argmax(1).numpy())


def test_a_frozen_module_without_a_mode_is_attacked() -> None:
    images, labels = data()
    frozen = torch.jit.freeze(torch.jit.trace(foreign().eval(), images))
    assert not hasattr(frozen, "training")
    found, _ = evaluate(frozen, images, labels, THREAT, suite())
    expected, _ = evaluate(foreign(), images, labels, THREAT, suite())
    assert np.array_equal(found["clean_prediction"], expected["clean_prediction"])
    assert (found["fooled"] == expected["fooled"]).mean() > 0.95


def test_an_ensemble_attacks_only_what_is_still_robust() -> None:
    ledger, _ = evaluate(foreign(), *data(), THREAT, suite())
    parts = [ledger.attacks.index(name) for name in ("apgd-ce", "apgd-t", "fab-t", "square")]
    robust = ledger["clean_prediction"][0] == ledger["labels"]
    for part in parts:
        assert np.array_equal(ledger["attempted"][0, part], robust)
        robust = robust & ~ledger["fooled"][0, part]


def test_flags_are_of_the_images_that_all_attacks_were_tried_on() -> None:
    images, labels = data()
    attacks = suite().attacks
    limited = (*attacks[:2], dataclasses.replace(attacks[2], images=10))
    found = evaluate(
        foreign(), images, labels, THREAT, dataclasses.replace(suite(), attacks=limited)
    )
    assert found.ledger.about["attacks"]["autoattack"]["images"] == 10
    fewer = dataclasses.replace(suite(), attacks=attacks[:3])
    alone = evaluate(foreign(), images[:10], labels[:10], THREAT, fewer)
    names = ("square_alone", "single_step_stronger")
    numbers = [[one.metrics["flags"][name]["number"] for name in names] for one in (found, alone)]
    assert numbers[0] == numbers[1]


def test_the_batch_size_changes_nothing() -> None:
    whole, _ = evaluate(foreign(), *data(), THREAT, suite(24))
    pieces, _ = evaluate(foreign(), *data(), THREAT, suite(5))
    assert np.array_equal(whole["fooled"], pieces["fooled"])


def test_of_too_many_images_class_balanced_ones_are_attacked() -> None:
    images, labels = data(40)
    order = labels.argsort(stable=True)
    images, labels = images[order], labels[order]
    few = dataclasses.replace(suite(), images=20)
    ledger, _ = evaluate(foreign(), images, labels, THREAT, few)
    chosen = ledger.about["chosen"]
    assert len(set(chosen)) == 20
    assert np.array_equal(ledger["labels"], labels[chosen])
    assert np.bincount(ledger["labels"]).tolist() == [2] * 10
    expected, _ = evaluate(foreign(), images[chosen], labels[chosen], THREAT, suite())
    assert expected.about["chosen"] is None
    assert np.array_equal(ledger["clean_margin"], expected["clean_margin"])
    assert evaluate(foreign(), images, labels, THREAT, few).ledger.about["chosen"] == chosen


def test_a_cells_threat_is_its_own_unless_another_is_given() -> None:
    cells = Study.load(ROOT / "params.yaml").datasets
    assert _threat(None, None, cells["mnist"]) == Threat("linf", 0.3)
    assert _threat("linf", None, cells["digits"]) == Threat("linf", 0.12)
    assert _threat("l2", "1/2", cells["mnist"]) == Threat("l2", 0.5)
    assert _threat(None, "4/255", None) == Threat("linf", 4 / 255)
    for norm, epsilon, dataset in (
        (None, None, None), ("l2", None, cells["mnist"]), (None, "1/0", None), (None, "x", None)
    ):  # fmt: skip
        with pytest.raises(ValueError, match="such as 8/255"):
            _threat(norm, epsilon, dataset)


def test_a_cell_from_the_shell_has_the_budgets_of_its_data_set(tmp_path: Path) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    settings = params["datasets"]["digits"]
    keep_few_attacks(params)
    settings["suites"]["bounded"] |= {"images": 20, "attacks": {"pgd": {"steps": 4}}}
    settings["suites"]["minimal"] = {}
    (tmp_path / "params.yaml").write_text(json.dumps(params))
    study = Study.load(tmp_path / "params.yaml")
    cell = study.cell("at-vgg16-digits-0")
    prepared = split("digits", digits.read(tmp_path), 150, 400, None)
    save_prepared(prepared, tmp_path / cell.dataset.prepared)
    assembly = Assembly.of(cell, prepared)
    (model,) = new_networks(assembly, prepared)
    save_model(model.state_dict(), assembly, tmp_path / cell.model("best"), cell=cell.key)
    done = shell(tmp_path, cell.key, "--suite", "bounded", "--out", "ledger.npz")
    assert done.returncode == 0, done.stderr
    assert "20 images" in done.stdout and "linf 0.12" in done.stdout
    with np.load(tmp_path / "ledger.npz", allow_pickle=False) as ledger:
        about = json.loads(str(ledger["about"]))
        assert np.array_equal(ledger["labels"], prepared.test.labels[:20])
    assert about["threat"] == {"norm": "linf", "epsilon": 0.12}
    assert about["attacks"] == cell.dataset.evaluation("bounded")["attacks"]


def test_an_interrupted_suite_goes_on_where_it_was(tmp_path: Path) -> None:
    undisturbed, _ = evaluate(foreign(), *data(), THREAT, suite())

    def stop(version: str, attack: str, done: int, images: int) -> None:
        if attack == "autoattack" and done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(foreign(), *data(), THREAT, suite(), checkpoints=tmp_path, report=stop)
    (folder,) = tmp_path.iterdir()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert {"pgd-16.npz", "autoattack-0.npz"} <= set(kept)

    def look(version: str, attack: str, done: int, images: int) -> None:
        now = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert all(now[name] == when for name, when in kept.items()), "computed again"

    resumed, _ = evaluate(foreign(), *data(), THREAT, suite(), checkpoints=tmp_path, report=look)
    assert equal(undisturbed, resumed)
    assert not list(tmp_path.iterdir()), "a finished suite leaves nothing"


def test_checkpoints_belong_to_one_model_and_survive_a_torn_file(tmp_path: Path) -> None:
    images, labels = data()
    logits = torch.zeros(len(labels), 10)
    mine = Checkpoints(tmp_path).of(foreign(), images, labels, logits, {})
    other = foreign()
    with torch.no_grad():
        other[0].weight[0, 0, 0, 0] += 1e-6  # type: ignore[index]
    theirs = Checkpoints(tmp_path).of(other, images, labels, logits, {})
    assert mine.get("pgd-0", lambda: {"pgd": {"fooled": np.ones(2)}})["pgd"]["fooled"].all()
    assert not theirs.get("pgd-0", lambda: {"pgd": {"fooled": np.zeros(2)}})["pgd"]["fooled"].any()
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:40])
    again = mine.get("pgd-0", lambda: {"pgd": {"fooled": np.full(2, 7)}})
    assert (again["pgd"]["fooled"] == 7).all()


def short_params(folder: Path) -> None:
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    keep_few_attacks(params)
    params["suites"]["bounded"]["gradient_checks"] = {"steps": 2, "relative_step_size": 0.1}
    params["datasets"]["digits"]["suites"] = {"bounded": {}, "autoattack": {}, "minimal": {}}
    (folder / "params.yaml").write_text(json.dumps(params))


def shell(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tradeoff", "evaluate", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TRADEOFF_DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def write_torchscript(path: Path, images: Tensor) -> None:
    torch.jit.trace(foreign().eval(), images).save(str(path))


def write_exported(path: Path, images: Tensor) -> None:
    shapes = ({0: torch.export.Dim("images")},)
    with matrix_precision("tf32"):  # torch's own default, and what its exporter asks for
        program = torch.export.export(foreign().eval(), (images,), dynamic_shapes=shapes)
    torch.export.save(program, path)


@pytest.mark.parametrize(
    ("name", "write"), [("model.ts", write_torchscript), ("model.pt2", write_exported)]
)
def test_an_exported_model_from_the_shell(
    tmp_path: Path, name: str, write: Callable[[Path, Tensor], None]
) -> None:
    images, labels = data(6)
    np.savez(tmp_path / "data.npz", images=images.numpy(), labels=labels.numpy())
    write(tmp_path / name, images)
    short_params(tmp_path)
    done = shell(
        tmp_path, name, "data.npz", "--suite", "bounded", "--epsilon", "8/255",
        "--out", "ledger.npz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, metrics = evaluate(foreign(), images, labels, Threat("linf", 8 / 255), suite())
    assert f"NA: {metrics['NA']:.4f}" in done.stdout
    with np.load(tmp_path / "ledger.npz", allow_pickle=False) as ledger:
        assert json.loads(str(ledger["about"]))["threat"]["epsilon"] == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    ("model", "file", "suite_name", "message"),
    [
        ("model.ts", "none.npz", "bounded", "an .npz file with `images` and `labels` is needed"),
        ("data.npz", "data.npz", "bounded", "neither TorchScript nor torch.export"),
        ("model.ts", "data.npz", "bonded", "did you mean bounded?"),
        ("model.ts", "wide.npz", "bounded", "outside [0, 1]"),
    ],
)
def test_unusable_input_is_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    file: str,
    suite_name: str,
    message: str,
) -> None:
    images, labels = data(4)
    np.savez(tmp_path / "data.npz", images=images.numpy(), labels=labels.numpy())
    np.savez(tmp_path / "wide.npz", images=255 * images.numpy(), labels=labels.numpy())
    torch.jit.trace(foreign().eval(), images).save(str(tmp_path / "model.ts"))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADEOFF_DEVICE", "cpu")
    arguments = [model, file, "--suite", suite_name, "--epsilon", "0.1"]
    monkeypatch.setattr(sys, "argv", ["tradeoff", "evaluate", *arguments])
    with pytest.raises(SystemExit, match=re.escape(message)):
        main()
