"""What runs on a GPU: the same as on a CPU, and nothing left behind on the other device.

On a machine without a GPU one is pretended (tests/pretended_gpu.py).
"""

import copy
import importlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.attacks import trained as networks
from tests.attacks.calls import square
from tests.attacks.trained import LINF, trained
from tests.pretended_gpu import OnGpu, any_gpu
from tests.training.test_loop import KNOBS, Watched, train
from tests.training.test_resume import After
from tradeoff.attacks.outcome import is_fooled
from tradeoff.attacks.suites.ledger import Ledger
from tradeoff.attacks.suites.run import run_suite
from tradeoff.core.schema import Section
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import Subset
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.transfer import transfer
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.randomness import generator
from tradeoff.networks.threat import Threat
from tradeoff.running.estimate import estimate
from tradeoff.running.training_checkpoints import TrainingCheckpoint, checkpoint_path
from tradeoff.training import loop
from tradeoff.training.acceleration import emulates
from tradeoff.training.contract import Loss
from tradeoff.training.loop import Interrupted, Trained, fit
from tradeoff.training.plan import Plan

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    with any_gpu() as device:
        yield device


# --- the pretence itself -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "mixture",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: here[there.long()],
        lambda here, there: there.masked_fill(here > 0, 1),
        lambda here, there: nn.functional.cross_entropy(there[None], here.softmax(0)[None]),
        lambda here, there: there.numpy(),
        lambda here, there: np.asarray(there),
        lambda here, there: torch.rand(3, generator=generator("x", device=there.device)),
        lambda here, there: torch.rand(3, device=there.device, generator=generator("x")),
        lambda here, there: torch.arange(3, device=there.device) + there.cpu(),
    ],
)
def test_devices_do_not_mix(gpu: torch.device, mixture: Any) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        mixture(torch.zeros(3), torch.zeros(3, device=gpu))


def test_what_a_gpu_allows_is_allowed(gpu: torch.device) -> None:
    there = torch.ones(3, device=gpu)
    assert there.device.type == (there * 2).device.type == torch.zeros_like(there).device.type
    assert there[torch.tensor([0, 1])].device.type == "cuda"
    assert (there * torch.tensor(2.0)).tolist() == [2.0] * 3
    assert there.cpu().device.type == "cpu"
    assert there.to(gpu) is there
    there[0] = 5
    view = there.view(3, 1)
    view[1] = 7
    assert there.tolist() == [5, 7, 1]
    model = nn.Linear(3, 1).to(gpu)
    model(there).sum().backward()
    assert model.weight.grad is not None
    assert model.weight.grad.device.type == "cuda"


# --- training ----------------------------------------------------------------------------------


def fitted(device: torch.device, name: str, **changes: Any) -> Trained:
    return train(name, model=place(tiny.network(), device), **changes)


RICH = {
    "augment": "crop_flip",
    "clip_gradient": 1.0,
    "ema_decay": 0.9,
    "micro_batch": 6,
    "precision": "bf16",
}


@pytest.mark.parametrize("name", KNOBS)
@pytest.mark.parametrize("changes", [{}, RICH, {"optimizer": "sgd", "precision": "tf32"}])
def test_every_defense_trains(gpu: torch.device, name: str, changes: dict[str, Any]) -> None:
    trained = fitted(gpu, name, **changes)
    for state in (trained.best, trained.last):
        for tensor in state.values():
            assert tensor.device.type == "cpu" and not isinstance(tensor, OnGpu)
            assert tensor.isfinite().all()
    assert all("peak_memory_mib" in row for row in trained.history)
    if not changes:
        expected = fitted(CPU, name).history[0]
        for column in ("loss", "validation_natural_accuracy"):
            assert trained.history[0][column] == pytest.approx(expected[column], rel=0.02)


@pytest.mark.parametrize("name", KNOBS)
def test_the_time_is_estimated(gpu: torch.device, name: str) -> None:
    defense, knobs = KNOBS[name]
    plan = Plan(defense, knobs, tiny.settings(), tiny.THREAT, 0)
    assert estimate(place(tiny.network(), gpu), tiny.made_up(), plan).fastest > 0


def test_the_estimate_waits_for_the_device_and_counts_no_image_as_slow_as_a_few(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU a step of few images takes nearly as long as one of many."""
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    watched = Watched()
    plan = Plan(watched, None, tiny.settings(), tiny.THREAT, 0)
    estimate(place(tiny.network(), gpu), tiny.made_up(), plan)
    assert [len(labels) for labels in watched.labels] == [16] * 4
    assert waited == [gpu] * 8, "a first step and three more, and as many passes of validation"


def test_an_interrupted_training_goes_on(gpu: torch.device, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    cell = partial(fitted, gpu, "trades", ema_decay=0.9)
    whole = cell()
    with pytest.raises(Interrupted):
        cell(checkpoint=TrainingCheckpoint(path, After(6)))
    state = TrainingCheckpoint(path).load()
    assert state is not None and state["epoch"] == 1
    resumed = cell(checkpoint=TrainingCheckpoint(path))
    for name, tensor in whole.last.items():
        torch.testing.assert_close(resumed.last[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("capability", "precision"), [((8, 0), "bf16"), ((8, 0), "float32"), ((7, 5), "bf16")]
)
def test_training_has_the_layout_of_its_precision_and_validation_that_of_float32(
    gpu: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    precision: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    last = capability == (8, 0) and precision == "bf16"
    layout = training_layout(gpu, precision)
    validated: list[tuple[bool, int]] = []

    class Noted(Watched):
        def training_loss(self, model: nn.Module, images: Tensor, *given: Any) -> Loss:
            attacked = given[1].frozen
            for tensor in (images, kernel(model), kernel(attacked), given[1].random_start(images)):
                assert tensor.is_contiguous(memory_format=layout)
                assert tensor.is_contiguous() is not last
            return super().training_loss(model, images, *given)

    def kernel(model: nn.Module) -> Tensor:
        return next(weight for weight in model.state_dict().values() if weight.dim() == 4)

    def noted(model: nn.Module, *given: Any) -> dict[str, float]:
        validated.append((kernel(model).is_contiguous(), given[3]))
        return {"natural": 0.5, "robust": 0.5}

    monkeypatch.setattr(loop, "accuracies", noted)
    model = place(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 4)), gpu, layout)
    settings = tiny.settings(precision=precision, epochs=1)
    data = tiny.made_up()
    data = replace(data, train=coloured(data.train), validation=coloured(data.validation))
    fit(model, data, Plan(Noted(), None, settings, tiny.THREAT, 0), lambda *told: None)
    assert validated == [(True, 512)], "and more images at once than training takes"


def coloured(subset: Subset) -> Subset:
    return replace(subset, pixels=subset.pixels.repeat(1, 3, 1, 1))


def test_where_bf16_is_emulated_nothing_is_compiled(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's compiler would leave the networks as they are without an error."""
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)
    for capability, expected in (
        ((7, 5), "not compiled: this GPU has no bf16"),
        ((8, 0), "compiled"),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, is_=capability: is_)
        assert emulates("bf16", gpu) is (capability < (8, 0)) and not emulates("tf32", gpu)
        assert fitted(gpu, "at", compile="on", precision="bf16").compilation == expected


def test_a_checkpoint_is_found_whatever_the_processor_beside_the_gpu(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Study.load(ROOT / "params.yaml").cells("digits")[0]
    plan = Plan(*KNOBS["at"], tiny.settings(), tiny.THREAT, 0)
    places = set()
    for threads in (2, 8):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        model = place(tiny.network(), gpu)
        places.add(checkpoint_path(cell, model, tiny.made_up(), plan))
    assert len(places) == 1


# --- evaluation --------------------------------------------------------------------------------


def on(device: torch.device, count: int = 16) -> networks.Trained:
    """The trained network and some images on a device."""
    model, *tensors = trained().first(count)
    return networks.Trained(place(copy.deepcopy(model), device), *(t.to(device) for t in tensors))


def ledger(device: torch.device, suite: str) -> Ledger:
    """All attacks of a suite with few steps, on a few images."""
    attacks = Study.load(ROOT / "params.yaml").dataset("digits").suite(suite)
    short = tuple(replace(attack, knobs=shorter(attack.knobs)) for attack in attacks.attacks)
    model, images, labels, _ = on(device, 6)
    return run_suite(
        {"best": model}, images, labels, LINF, replace(attacks, attacks=short), about={}
    )


def shorter(knobs: Section) -> Section:
    budget = {name: min(value, 6) for name, value in knobs if isinstance(value, int)}
    return knobs.model_copy(update=budget)


@pytest.mark.parametrize("suite", ["bounded", "autoattack", "minimal"])
def test_every_attack_finds_the_same(gpu: torch.device, suite: str) -> None:
    found, expected = ledger(gpu, suite), ledger(CPU, suite)
    assert found.attacks == expected.attacks
    for name in ("fooled", "attempted", "clean_prediction"):
        assert (found[name] == expected[name]).mean() > 0.98
    for name in ("linf", "l2"):
        np.testing.assert_allclose(found[name].mean(), expected[name].mean(), rtol=0.05)


def test_square_l2(gpu: torch.device) -> None:
    def fooled(device: torch.device) -> Tensor:
        model, images, labels, keys = on(device)
        found = square(model, images, labels, Threat("l2", 0.8), keys=keys, queries=30).images
        assert found.device.type == device.type
        return is_fooled(model(found), labels).cpu()

    assert (fooled(gpu) == fooled(CPU)).sum() >= 15


def test_transfer(gpu: torch.device) -> None:
    def fooled(device: torch.device) -> np.ndarray:
        model, images, labels, keys = on(device)
        outcome = transfer(
            {"a": model, "b": copy.deepcopy(model)}, images, labels,
            InnerAttack(LINF, 3, 0.5 * LINF.epsilon), keys=keys, batch_size=5,
        )  # fmt: skip
        return outcome.fooled["a", "b"]

    assert (fooled(gpu) == fooled(CPU)).sum() >= 15


def test_anybodys_model(gpu: torch.device) -> None:
    def metrics(device: torch.device) -> Any:
        model, images, labels, _ = on(device)
        return evaluate(model, images, labels, LINF, "bounded")[1]

    found, expected = metrics(gpu), metrics(CPU)
    assert found["NA"] == expected["NA"]
    assert found["RA"] == pytest.approx(expected["RA"], abs=1.1 / 16)


# --- benchmarks --------------------------------------------------------------------------------


def test_the_benchmarks_of_a_gpu(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    step, autoattack = map(importlib.import_module, ("step", "autoattack"))
    monkeypatch.setattr(step, "matrix_rate", lambda device: 1e12)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # the benchmark leaves it on
    sizes = ["--size=8", "--width=0.125", "--batch=4", "--steps=1", "--rounds=1", "--threads=1"]
    rows = step.measure(step.arguments().parse_args(["--device=cuda", "--precision=bf16", *sizes]))
    assert all(row.share > 0 for row in rows)
    step.print_rows(rows, "cuda")
    step.print_layouts(step.arguments().parse_args(["--device=cuda", *sizes]))
    small = ["--scale=0.02", "--samples=4", "--batches=2", "--threads=1"]
    ours = autoattack.compare(autoattack.arguments().parse_args(["--device=cuda", *small]))[-1]
    assert ours.seconds > 0
    printed = capsys.readouterr().out
    assert "ratio" in printed and "trades, contiguous (ours): " in printed
