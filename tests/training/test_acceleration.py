"""What makes training faster or smaller must not change what it computes."""

import os
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from tests import tiny
from tests.training.test_loop import KNOBS, Watched, train, watch
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy, ascend_divergence
from tradeoff.networks.device import MATRIX_BACKENDS
from tradeoff.training import acceleration, loop
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan, batch_sizes, batches_per_epoch, micro_batches
from tradeoff.training.run import State
from tradeoff.training.validation import accuracies


def without_norm() -> nn.Module:
    """Without BatchNorm, whose statistics are those of a micro-batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, tiny.CLASSES),
        )


def assert_same(state: State, other: State, tolerance: float) -> None:
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("name", "size"),
    # 6: parts of 5, 5 and 6 images, which count by their shares.
    [("standard", 5), ("at", 6), ("trades", 2), ("trades", 5), ("trades", 16), ("dtrades", 5),
     ("mart", 5)],
)  # fmt: skip
def test_micro_batches_give_the_result_of_the_batch(name: str, size: int) -> None:
    changes: dict[str, Any] = {"optimizer": "sgd", "clip_gradient": 1.0, "epochs": 2}
    whole = train(name, model=without_norm(), **changes)
    parts = train(name, model=without_norm(), micro_batch=size, **changes)
    assert_same(whole.last, parts.last, 1e-4)
    for row, other in zip(whole.history, parts.history, strict=True):
        assert row.keys() == other.keys()
        for column in row.keys() - {"seconds"}:
            # Rounding may turn the sign of a gradient that is nearly zero.
            assert row[column] == pytest.approx(other[column], rel=0.02, abs=1e-3), column


def test_micro_batches_are_small_and_none_is_a_single_image() -> None:
    assert micro_batches(16, None) == micro_batches(16, 16) == [slice(0, 16)]
    for images in range(2, 40):
        for size in range(2, 20):
            parts = micro_batches(images, size)
            sizes = [part.stop - part.start for part in parts]
            assert sum(sizes) == images and min(sizes) >= 2 and max(sizes) <= size + 1
            assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]


def test_the_sizes_of_an_epochs_batches() -> None:
    expected = {2: [2], 15: [15], 16: [16], 17: [16], 18: [16, 2], 64: [16], 71: [16, 7]}
    for images, sizes in expected.items():
        assert batch_sizes(images, 16) == sizes
        assert batches_per_epoch(images, 16) >= len(sizes)


def test_the_defense_sees_no_more_images_than_a_micro_batch() -> None:
    watched, _ = watch(micro_batch=4, epochs=1)
    assert [len(labels) for labels in watched.labels] == [4] * 16
    assert len({weights.sum().item() for weights in watched.weights}) == 4, "4 optimiser steps"


@pytest.mark.parametrize(("micro_batch", "expected"), [(None, 16), (4, 4)])
def test_validation_takes_no_more_images_at_once_than_training(
    micro_batch: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def noted(*given: Any) -> dict[str, float]:
        sizes.append(given[4])
        return {"natural": 0.5, "robust": 0.5}

    monkeypatch.setattr(loop, "accuracies", noted)
    train("standard", micro_batch=micro_batch, epochs=1)
    assert sizes == [expected]


def test_no_accuracy_depends_on_how_many_images_validation_takes_at_once() -> None:
    """Each has its own random start; on a GPU more at once are faster."""
    model, subset = tiny.network(), tiny.made_up(validation=60).validation
    model.load_state_dict(train("at").last)
    budget, calm = tiny.settings().selection, tiny.calm(model)
    first, *others = (accuracies(calm, subset, tiny.THREAT, budget, size) for size in (7, 16, 512))
    assert others == [first, first] and 0 < first["robust"] < 1


@pytest.mark.parametrize("name", ["standard", "at", "trades", "dtrades", "mart", "faal"])
def test_bf16_trains_to_nearly_the_same(name: str) -> None:
    plain = train(name)
    short = train(name, precision="bf16")
    assert short.last["0.weight"].dtype == torch.float32
    assert not torch.equal(plain.last["0.weight"], short.last["0.weight"])
    assert short.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=0.02)
    assert short.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.1)


def test_an_ascent_begins_in_full_precision_where_its_gradient_is_nearly_0() -> None:
    """That of a divergence, which half floats would lose; later steps have their precision."""
    model, (images, labels) = tiny.calm(tiny.network()), tiny.batch(4)
    clean, inner = model(images).log_softmax(1), InnerAttack(tiny.THREAT, 3, 0.05)
    seen: list[torch.dtype] = []
    model[0].register_forward_hook(lambda _layer, _images, maps: seen.append(maps.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        ascend_divergence(model, images, clean, images, inner)
        ascend_cross_entropy(model, images, labels, images, inner)
    assert seen == [torch.float32, *[torch.bfloat16] * 5]


def test_tf32_is_for_the_step_alone() -> None:
    before = [backend.fp32_precision for backend in MATRIX_BACKENDS]
    with acceleration.precision("tf32", torch.device("cpu")):
        assert [backend.fp32_precision for backend in MATRIX_BACKENDS] == ["tf32", "tf32"]
    assert [backend.fp32_precision for backend in MATRIX_BACKENDS] == before


def test_short_training_on_a_cpu_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *rest, **options: 1 / 0)
    assert "not compiled" in train("at", compile="auto").compilation


def test_where_compiling_fails_training_goes_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(network: nn.Module, **options: Any) -> nn.Module:
        class Broken(nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                network(images)  # counts a batch in the BatchNorm statistics before it fails
                raise RuntimeError("no compiler\nand a long trace")

        return Broken()

    plain = train("trades")
    monkeypatch.setattr(torch, "compile", broken)
    trained = train("trades", compile="on")
    assert trained.compilation == "not compiled: RuntimeError: no compiler"
    assert_same(plain.last, trained.last, 0.0)


@pytest.mark.parametrize(
    "backend",
    [
        # What is traced is the same; torch's own C++ for it takes a minute to compile.
        "aot_eager",
        pytest.param(
            "inductor",
            marks=pytest.mark.skipif("TRADEOFF_SLOW" not in os.environ, reason="TRADEOFF_SLOW=1"),
        ),
    ],
)
def test_compiled_training_computes_the_same(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train("trades", epochs=2)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    trained = train("trades", epochs=2, compile="on")
    if trained.compilation != "compiled":
        pytest.skip(f"this machine cannot compile: {trained.compilation}")
    assert_same(plain.last, trained.last, 1e-3)


def test_all_variants_of_the_networks_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 16 in parts of 5 and 6 images and a last one of 7 in parts of 3 and 4."""
    from torch import _dynamo
    from torch._dynamo.utils import counters

    def trivial(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        return graph.forward

    def reported(*_: Any) -> None:
        frames.append(counters["frames"]["total"])

    frames: list[int] = []
    compile_with = partial(torch.compile, backend=trivial)
    monkeypatch.setattr(torch, "compile", lambda network, **_: compile_with(network, dynamic=False))
    monkeypatch.setattr(_dynamo.config, "recompile_limit", 8)
    _dynamo.reset()
    counters.clear()
    settings = tiny.settings(compile="on", micro_batch=6, epochs=1)
    plan = Plan(*KNOBS["trades"], settings, tiny.THREAT, 0)
    trained = fit(tiny.network(), tiny.made_up(train=71), plan, reported)
    assert trained.compilation == "compiled"
    assert frames[0] == frames[-1], "all before the first step, whose seconds count"
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 8


def test_passes_are_counted_in_images() -> None:
    """2 attack steps: TRADES p(x), 2 ascents, 2 in the objective; AT one less of both kinds."""
    expected = {"standard": (1, 1), "at": (3, 3), "trades": (5, 4), "dtrades": (6, 5)}
    for name, (forward, backward) in expected.items():
        for row in train(name).history:
            assert (row["forward_passes"], row["backward_passes"]) == (64 * forward, 64 * backward)


def test_a_watched_network_shows_its_parameters() -> None:
    watched, _ = watch(Watched(), epochs=1)
    assert watched.weights[0].shape == (4, 1, 3, 3)
