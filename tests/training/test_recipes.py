"""What `train` adds to any defense: weight perturbation, label smoothing, averaging of weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from tests import golden, tiny
from tests.training.test_loop import KNOBS, Watched, digest, train, watch
from tradeoff.defenses import at, trades
from tradeoff.networks.ascent import Replay
from tradeoff.training.contract import Loss, Step
from tradeoff.training.perturbation import perturbed_weights

INPUTS = "digits/"
PERTURBED: dict[str, Any] = {"weight_perturbation": {"gamma": 0.01, "begins": 0}}


@pytest.mark.parametrize("name", ["at", "trades"])
def test_perturbed_loss_and_gradients_equal_those_of_the_authors(name: str) -> None:
    key, model = f"digits/awp/{name}", golden.network("digits/state").double()
    beta = golden.number("digits/awp/beta_trades")
    knobs: Any = at.Knobs() if name == "at" else trades.Knobs(beta=beta)
    defense: Any = at if name == "at" else trades
    images, labels = golden.images(INPUTS).double(), golden.labels(INPUTS)
    step, replay = golden.step(tiny.calm(model), INPUTS), Replay()
    object.__setattr__(step.inner, "replay", replay)

    def loss() -> Tensor:
        total: Tensor = defense.training_loss(model, images, labels, step, knobs).total
        return total

    first = loss()
    golden.assert_close(first.detach(), golden.tensor(f"{key}/loss_unperturbed"))
    expected = golden.tensor(f"{key}/x_adv").double()
    torch.testing.assert_close(replay.found[0], expected, atol=2e-6, rtol=0)
    first.backward()
    replay.repeats = True
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    rate, momentum, decay = (
        golden.number(f"digits/awp/{name}")
        for name in ("learning_rate", "momentum", "weight_decay")
    )
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum, weight_decay=decay)
    with perturbed_weights(model, golden.number(f"{key}/gamma")):
        for parameter, weight in model.named_parameters():
            moved, kept = weight.detach() - before[parameter], torch.zeros_like(weight)
            if weight.dim() > 1:
                kept = golden.tensor(f"{key}/perturbation/{parameter}").double()
            torch.testing.assert_close(moved, kept, rtol=1e-5, atol=1e-9)
        golden.assert_loss_and_gradients(key, model, loss())
        optimizer.step()
    if name == "at":
        for parameter, weight in model.named_parameters():
            golden.assert_close(weight.detach(), golden.tensor(f"{key}/updated/{parameter}"))


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_step_of_the_loop_attacks_once_and_moves_as_by_hand(micro_batch: int | None) -> None:
    changes = {"epochs": 1, "batch_size": 64, "optimizer": "sgd", "schedule": "constant",
               "momentum": 0.0, "learning_rate": 0.1, "micro_batch": micro_batch}  # fmt: skip
    plain, trained = train("at", **changes), train("at", **changes, **PERTURBED)
    passes = [one.history[0]["forward_passes"] for one in (plain, trained)]
    assert passes[1] == passes[0] + 64, "one pass more, and no second attack"
    if micro_batch is not None:
        return

    model = tiny.network()
    seen: list[tuple[Tensor, Tensor]] = []

    class Noted(Watched):
        def training_loss(
            self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
        ) -> Loss:
            seen.append((images, labels))
            return super().training_loss(model, images, labels, step, knobs)

    _, found = watch(Noted(), **changes, **PERTURBED)
    assert len(seen) == 2 and all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    images, labels = seen[0]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    F.cross_entropy(model(images), labels).backward()
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    with perturbed_weights(model, 0.01):
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad  # type: ignore[operator]
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found.last[name], tensor, msg=name)


def test_weight_perturbation_waits_for_its_epoch() -> None:
    begun = {"weight_perturbation": {"gamma": 0.01, "begins": 0.6}}
    rows, plain = train("at", **begun).history, train("at").history
    assert rows[:2] == [row | {"seconds": rows[n]["seconds"]} for n, row in enumerate(plain[:2])]
    assert rows[2]["forward_passes"] == plain[2]["forward_passes"] + 64


def test_smoothed_targets_are_those_of_torch() -> None:
    draws = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(8, 4, generator=draws), torch.arange(8) % 4
    step = Step(*([None] * 6), network=nn.Identity(), classes=4, label_smoothing=0.1)  # type: ignore[arg-type]
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, step.targets(labels)), expected)
    assert Step(*([None] * 6), network=nn.Identity()).targets(labels) is labels  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in KNOBS if name != "mart"])
def test_label_smoothing_reaches_every_defense(name: str) -> None:
    plain, smooth = (train(name, epochs=1, label_smoothing=s).history[0] for s in (0.0, 0.3))
    assert smooth["loss_cross_entropy"] != plain["loss_cross_entropy"]


def test_equal_averages_have_statistics_of_their_own() -> None:
    changes: dict[str, Any] = {"epochs": 4, "schedule": "constant", "learning_rate": 0.05}
    snapshots = [train("standard", **changes | {"epochs": n}).last for n in (3, 4)]
    averaged = train("standard", **changes, swa={"begins": 0.5}).last
    model, data = tiny.network(), tiny.made_up()
    mean = {name: sum(one[name] for one in snapshots) / 2 for name in snapshots[0]}
    model.load_state_dict(mean)
    update_bn(list(data.train.images.split(16)), model)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(averaged[name], tensor, msg=name)
    running = "1.running_var"
    assert not torch.allclose(averaged[running], snapshots[1][running], rtol=1e-3)


def test_before_it_begins_the_average_is_the_model() -> None:
    changes: dict[str, Any] = {"epochs": 2, "schedule": "constant"}
    one, other = train(**changes), train(**changes, swa={"begins": 1})
    assert digest(one) == digest(other)
