"""The training loop: what it promises whatever the defense."""

import copy
import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import tiny
from tests.attacks.calls import pgd
from tradeoff.datasets.prepared import Prepared
from tradeoff.defenses import at, dtrades, faal, gaussian, mart, standard, trades
from tradeoff.networks.randomness import sample_keys
from tradeoff.running.training_checkpoints import TrainingCheckpoint
from tradeoff.training import loop
from tradeoff.training.checkpoint import Checkpoint, NoCheckpoint
from tradeoff.training.contract import Loss, Step
from tradeoff.training.loop import Interrupted, Trained, TrainingFailed, fit
from tradeoff.training.plan import Plan, batches_per_epoch, inner_attack
from tradeoff.training.run import make_optimizer
from tradeoff.training.validation import accuracies, certified_accuracy

ROOT = Path(__file__).parents[2]
KNOBS: dict[str, tuple[Any, Any]] = {
    "standard": (standard, standard.Knobs()),
    "at": (at, at.Knobs()),
    "trades": (trades, trades.Knobs(beta=6.0)),
    "dtrades": (dtrades, dtrades.Knobs(alpha=2.6, beta=1.0, differentiable=False)),
    "mart": (mart, mart.Knobs(beta=5.0)),
    "faal": (faal, faal.Knobs(radius=0.5)),
}


def train(
    name: str = "trades",
    seed: int = 0,
    model: nn.Module | None = None,
    data: Prepared | None = None,
    checkpoint: Checkpoint | None = None,
    **changes: Any,
) -> Trained:
    """A cell of tiny size."""
    defense, knobs = KNOBS[name]
    plan = Plan(defense, knobs, tiny.settings(**changes), tiny.THREAT, seed)
    model, data = model or tiny.network(seed), data or tiny.made_up()
    return fit(model, data, plan, lambda *told: None, checkpoint)


def digest(trained: Trained) -> str:
    """Of both state dicts and of the history, less the seconds."""
    total = hashlib.sha256()
    for state in (trained.best, trained.last):
        for tensor in state.values():
            total.update(tensor.numpy().tobytes())
    for row in trained.history:
        total.update(repr([row[name] for name in sorted(row) if name != "seconds"]).encode())
    return total.hexdigest()


@dataclass
class Watched:
    """A defense that notes what the loop hands to it, and trains as `standard` does."""

    SELECT_BY: str = "robust"
    labels: list[Tensor] = field(default_factory=list)
    images: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    loss_at: dict[int, float] = field(default_factory=dict)
    factor: float = 1.0

    def training_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
    ) -> Loss:
        self.weights.append(next(model.parameters()).detach().clone())
        factor = self.factor * self.loss_at.get(len(self.labels), 1.0)
        self.labels.append(labels)
        self.images.append(images)
        self.steps.append(step)
        return Loss(factor * F.cross_entropy(model(images), labels))


def watch(
    watched: Watched | None = None,
    model: nn.Module | None = None,
    data: Prepared | None = None,
    seed: int = 0,
    **changes: Any,
) -> tuple[Watched, Trained]:
    watched = watched or Watched()
    plan = Plan(watched, None, tiny.settings(**changes), tiny.THREAT, seed)
    return watched, fit(model or tiny.network(), data or tiny.made_up(), plan, lambda *told: None)


@pytest.mark.parametrize("name", KNOBS)
def test_the_same_cell_gives_the_same_bytes(name: str) -> None:
    once = train(name, augment="crop_flip")
    torch.manual_seed(99)  # torch's own random numbers have no part in it
    assert digest(train(name, augment="crop_flip")) == digest(once)


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.training.test_loop import digest, train\n"
        "print(digest(train('dtrades')), digest(train('faal')))"
    )
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [digest(train("dtrades")), digest(train("faal"))]


def test_another_seed_gives_other_batches_starts_and_results() -> None:
    same_weights = [train(seed=seed, model=tiny.network()) for seed in (0, 1)]
    assert digest(same_weights[0]) != digest(same_weights[1])
    one, other = (watch(seed=seed)[0] for seed in (0, 1))
    assert not torch.equal(one.images[0], other.images[0])
    initial = [step.generator.initial_seed() for step in (one.steps[0], other.steps[0])]
    assert initial[0] != initial[1]


def test_every_epoch_has_its_own_order_and_starts() -> None:
    watched, _ = watch()
    first, second = (torch.cat(watched.images[at : at + 4]) for at in (0, 4))
    assert not torch.equal(first, second)
    assert torch.equal(
        first.flatten(1).sum(1).sort().values, second.flatten(1).sum(1).sort().values
    )
    seeds = {step.generator.initial_seed() for step in watched.steps}
    assert len(seeds) == 3
    assert [step.epoch for step in watched.steps] == [0] * 4 + [1] * 4 + [2] * 4
    assert {step.epochs for step in watched.steps} == {3}


def test_all_defenses_see_the_same_batches_from_the_same_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, list[Any]] = {}
    for name, (defense, _) in KNOBS.items():
        notes: list[Any] = seen.setdefault(name, [])
        original = defense.training_loss

        def noted(
            model: nn.Module,
            images: Tensor,
            labels: Tensor,
            *rest: Any,
            notes: list[Any] = notes,
            original: Any = original,
        ) -> Loss:
            if not notes:
                notes.append(copy.deepcopy(model.state_dict()))
                notes.append(rest[0].generator.get_state())
            notes.append((images, labels))
            return original(model, images, labels, *rest)

        monkeypatch.setattr(defense, "training_loss", noted)
        train(name, epochs=2)
    reference = seen.pop("standard")
    assert len(reference) == 2 + 2 * 4
    for notes in seen.values():
        torch.testing.assert_close(notes, reference, rtol=0, atol=0)


def validation_accuracy(state: dict[str, Tensor], attacked: bool) -> float:
    """Measured here once more, on the model itself instead of its twin."""
    model = tiny.network()
    model.load_state_dict(state)
    model.eval().requires_grad_(False)
    subset = tiny.made_up().validation
    images, keys = subset.images, sample_keys(torch.arange(len(subset)), "validation")
    if attacked:
        images = pgd(
            model,
            images,
            subset.labels,
            tiny.THREAT,
            keys=keys,
            steps=2,
            relative_step_size=0.5,
        ).images
    natural = model(subset.images).argmax(1) == subset.labels
    return ((model(images).argmax(1) == subset.labels) & natural).float().mean().item()


@pytest.mark.parametrize("name", ["trades", "standard"])
def test_best_is_the_epoch_of_highest_validation_accuracy(name: str) -> None:
    """Robust accuracy decides; for the control natural accuracy does."""
    trained = train(name, epochs=8, schedule="constant", learning_rate=0.05)
    column = {True: "validation_robust_accuracy", False: "validation_natural_accuracy"}
    scores = [row[column[name != "standard"]] for row in trained.history]
    chosen = [row["selected"] for row in trained.history].index(1.0)
    assert sum(row["selected"] for row in trained.history) == 1
    assert scores[chosen] == max(scores) > min(scores)
    assert chosen < len(scores) - 1, "else best and last could be mixed up unseen"
    for attacked in (False, True):
        assert validation_accuracy(trained.best, attacked) == pytest.approx(
            trained.history[chosen][column[attacked]], abs=1e-6
        )
        assert validation_accuracy(trained.last, attacked) == pytest.approx(
            trained.history[-1][column[attacked]], abs=1e-6
        )


def test_training_learns() -> None:
    trained = train("at", data=tiny.made_up(train=256), epochs=15)
    first, last = trained.history[0], trained.history[-1]
    assert last["loss"] < 0.8 * first["loss"]
    assert last["validation_natural_accuracy"] > 0.8
    assert last["validation_robust_accuracy"] > first["validation_robust_accuracy"] + 0.1


def test_the_attack_sees_the_model_as_it_is_at_each_step() -> None:
    class Compared(Watched):
        def training_loss(
            self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
        ) -> Loss:
            torch.testing.assert_close(
                step.frozen(images), tiny.calm(model)(images), rtol=1e-4, atol=1e-5
            )
            return super().training_loss(model, images, labels, step, knobs)

    watched, _ = watch(Compared())
    assert len(watched.steps) == 12


def test_averaged_weights_are_what_is_validated_and_kept() -> None:
    decay = 0.8
    changes = {"schedule": "constant", "epochs": 2, "optimizer": "sgd", "learning_rate": 0.1}
    plain, trained = watch(**changes)
    _, averaged = watch(ema_decay=decay, **changes)
    name = next(name for name, _ in tiny.network().named_parameters())
    after = [*plain.weights[1:], trained.last[name]]
    expected = after[0]
    for weights in after[1:]:
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(averaged.last[name], expected, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(averaged.last[name], after[-1], rtol=1e-3)
    assert averaged.last.keys() == trained.last.keys()
    assert validation_accuracy(averaged.last, False) == pytest.approx(
        averaged.history[-1]["validation_natural_accuracy"], abs=1e-6
    )


def test_kernels_are_chosen_by_trial_in_epochs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of validation shrink: there every size would be tried."""
    tried: dict[str, set[bool]] = {"training": set(), "validation": set()}

    class Noted(Watched):
        def training_loss(
            self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
        ) -> Loss:
            tried["training"].add(torch.backends.cudnn.benchmark)
            return super().training_loss(model, images, labels, step, knobs)

    def noted(*given: Any) -> dict[str, float]:
        tried["validation"].add(torch.backends.cudnn.benchmark)
        return {"natural": 0.5, "robust": 0.5}

    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(loop, "accuracies", noted)
    watch(Noted())
    assert tried == {"training": {True}, "validation": {False}}
    assert not torch.backends.cudnn.benchmark


def test_clipping_bounds_the_step_and_is_off_by_default() -> None:
    def moved(**changes: Any) -> float:
        watched = Watched(factor=1000.0)
        watch(
            watched,
            optimizer="sgd",
            momentum=0.0,
            schedule="constant",
            learning_rate=1e-3,
            epochs=1,
            **changes,
        )
        return (watched.weights[1] - watched.weights[0]).norm().item()

    assert moved() > 0.01
    assert 0 < moved(clip_gradient=0.5) <= 0.5 * 1e-3 * 1.001


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(("at_step", "epoch", "step"), [(0, 1, 1), (2, 1, 3), (5, 2, 2)])
def test_a_loss_that_is_not_finite_names_epoch_and_step(
    value: float, at_step: int, epoch: int, step: int
) -> None:
    with pytest.raises(TrainingFailed, match=rf"epoch {epoch}, step {step} of 4. No model"):
        watch(Watched(loss_at={at_step: value}))


def test_a_gradient_that_is_not_finite_in_the_last_step_names_the_epoch() -> None:
    class Spoiled(Watched):
        def training_loss(
            self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
        ) -> Loss:
            loss = super().training_loss(model, images, labels, step, knobs)
            if len(self.labels) == 8:
                # The root of zero: finite, but its slope is not.
                loss = Loss(loss.total + (loss.total - loss.total.detach()).sqrt())
            return loss

    with pytest.raises(TrainingFailed, match=r"weights .* after epoch 2, step 4 of 4. No model"):
        watch(Spoiled())


def test_a_fault_of_the_device_in_validation_is_no_failure_of_the_training() -> None:
    class Full(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = tiny.network()

        def forward(self, images: Tensor) -> Tensor:
            if not self.training:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.network(images)

    with pytest.raises(torch.OutOfMemoryError):
        watch(model=Full())


def test_making_the_networks_is_not_counted_among_an_epochs_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at the beginning nor when a cell goes on, by a clock that only compiling moves."""
    now = [0.0]
    original = loop.compiled

    def slow(*given: Any) -> Any:
        now[0] += 1000
        return original(*given)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "compiled", slow)
    stops = iter([False] * 5 + [True])
    with pytest.raises(Interrupted):
        train("at", checkpoint=TrainingCheckpoint(tmp_path / "state.pt", lambda: next(stops)))
    rows = train("at", checkpoint=TrainingCheckpoint(tmp_path / "state.pt")).history
    assert now == [2000.0] and [row["seconds"] for row in rows] == [0.0] * 3


@pytest.mark.parametrize(
    ("images", "size", "batches"), [(64, 16, 4), (65, 16, 4), (66, 16, 5), (2, 16, 1), (17, 16, 1)]
)
def test_a_last_batch_of_one_image_is_left_out(images: int, size: int, batches: int) -> None:
    assert batches_per_epoch(images, size) == batches
    watched, _ = watch(data=tiny.made_up(train=images), batch_size=size, epochs=1)
    sizes = [len(labels) for labels in watched.labels]
    assert len(sizes) == batches
    assert sum(sizes) == images - (images % size == 1)
    assert min(sizes) >= 2


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_no_step_is_without_effect(schedule: str) -> None:
    watched, trained = watch(schedule=schedule, optimizer="sgd", epochs=2)
    after = [*watched.weights, next(iter(trained.last.values()))]
    for before, now in pairwise(after):
        assert not torch.equal(before, now)


def test_the_learning_rate_follows_the_schedule() -> None:
    """With plain SGD the length of each step is the rate times the gradient."""
    _, trained = watch(schedule="step", milestones=[0.5], decay=0.1, epochs=4)
    rates = [row["learning_rate"] for row in trained.history]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_optimizer_is_the_one_asked_for(optimizer: str) -> None:
    model = tiny.network()
    settings = tiny.settings(optimizer=optimizer, weight_decay=0.25, momentum=0.7)
    made = make_optimizer(model, settings)
    (group,) = made.param_groups
    assert type(made).__name__.lower() == optimizer
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.25)
    assert optimizer == "adam" or (group["momentum"], group["nesterov"]) == (0.7, True)
    # One step with plain gradients, by the formulas of the papers, without decay and with it.
    parameter = nn.Parameter(torch.tensor([2.0, -1.0]))
    holder = nn.ParameterList([parameter])
    made = make_optimizer(holder, settings)
    gradient = torch.tensor([0.5, 1.0])
    parameter.grad = gradient.clone()
    made.step()
    decayed = gradient + 0.25 * torch.tensor([2.0, -1.0])
    direction = decayed.sign() if optimizer == "adam" else decayed + 0.7 * decayed
    expected = torch.tensor([2.0, -1.0]) - 0.01 * direction
    torch.testing.assert_close(parameter.detach(), expected)


def test_sgd_without_momentum_has_no_nesterov() -> None:
    made = make_optimizer(tiny.network(), tiny.settings(optimizer="sgd", momentum=0.0))
    assert made.param_groups[0]["nesterov"] is False


def test_augmentation_is_applied_to_training_images_only() -> None:
    plain, _ = watch(epochs=1)
    shifted, _ = watch(epochs=1, augment="crop_flip")
    torch.testing.assert_close(plain.labels, shifted.labels)
    assert not torch.equal(plain.images[0], shifted.images[0])
    black = (shifted.images[0] == 0).flatten(1).float().mean()
    assert black > 0.1 > (plain.images[0] == 0).float().mean()


def test_history_has_accuracies_parts_and_telemetry_for_every_epoch() -> None:
    rows = train("dtrades").history
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss"] > row["loss_cross_entropy"] > 0 and row["loss_divergence"] > 0
        assert row["seconds"] > 0
        expected = 2.6 * row["entropy_mean"] + 1.0 * row["sensitivity_mean"]
        assert row["lambda_mean"] == pytest.approx(expected, rel=1e-4)
        classes = [row[f"lambda_{label}"] for label in range(tiny.CLASSES)]
        assert sum(classes) / 4 == pytest.approx(row["lambda_mean"], rel=1e-4)
        assert row["lambda_std"] > 0


def test_history_of_faal_has_class_weights() -> None:
    weights = [f"class_weight_{label}" for label in range(tiny.CLASSES)]
    for row in train("faal").history:
        assert sum(row[name] for name in weights) == pytest.approx(1.0, abs=1e-4)


@dataclass
class Looking:
    """A defense that notes what a step shows it, and counts its steps in its memory."""

    SELECT_BY: str = "robust"
    seen: list[Step] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)

    def training_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any
    ) -> Loss:
        self.seen.append(step)
        count = step.memory.get("steps", torch.zeros(()))
        self.counted.append(float(count))
        step.memory["steps"] = count + 1
        teacher = step.bases["teacher"](images) if step.bases else 0
        return Loss(F.cross_entropy(model(images) + 0 * teacher, labels))


def test_a_step_shows_progress_network_and_bases() -> None:
    looking, model, teacher = Looking(), tiny.network(), tiny.calm(tiny.network(1))
    plan = Plan(looking, None, tiny.settings(epochs=2), tiny.THREAT, 0, {"teacher": teacher})
    row = fit(model, tiny.made_up(), plan, lambda *told: None).history[0]
    assert [step.progress for step in looking.seen] == [number / 8 for number in range(8)]
    assert all(step.network is model for step in looking.seen)
    images, _ = tiny.batch()
    assert torch.equal(looking.seen[0].bases["teacher"](images), teacher(images))
    assert row["forward_passes"] == 2 * 64  # what a base costs is counted


def test_memory_lasts_through_training_and_an_interruption() -> None:
    class Stopping(NoCheckpoint):
        state: dict[str, Any] | None = None

        def interrupted(self) -> bool:
            return len(looking.seen) == 5

        def load(self) -> dict[str, Any] | None:
            return self.state

        def save(self, state: dict[str, Any]) -> None:
            self.state = copy.deepcopy(state)

    looking, checkpoint = Looking(), Stopping()
    plan = Plan(looking, None, tiny.settings(epochs=2), tiny.THREAT, 0)
    with pytest.raises(Interrupted):
        fit(tiny.network(), tiny.made_up(), plan, lambda *told: None, checkpoint)
    fit(tiny.network(), tiny.made_up(), plan, lambda *told: None, checkpoint)
    assert looking.counted == [float(number) for number in range(8)]


def test_what_a_compilation_tries_is_not_remembered() -> None:
    looking = Looking()
    plan = Plan(looking, None, tiny.settings(epochs=1, compile="on"), tiny.THREAT, 0)
    fit(tiny.network(), tiny.made_up(), plan, lambda *told: None)
    assert looking.counted[-4:] == [0.0, 1.0, 2.0, 3.0]


def test_the_epoch_is_chosen_by_what_the_defense_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """By certified accuracy where it says so, which is then in the history too."""
    certified = iter([0.1, 0.5, 0.3])
    natural = iter([0.9, 0.7, 0.8])
    monkeypatch.setattr(loop, "certified_accuracy", lambda *given: next(certified))
    monkeypatch.setattr(
        loop, "accuracies", lambda *given: {"natural": next(natural), "robust": 0.4}
    )
    plan = Plan(Looking(SELECT_BY="certified"), None, tiny.settings(epochs=3), tiny.THREAT, 0)
    history = fit(tiny.network(), tiny.made_up(), plan, lambda *told: None).history
    assert [row["selected"] for row in history] == [0, 1, 0]
    assert [row["validation_certified_accuracy"] for row in history] == [0.1, 0.5, 0.3]


def test_validation_of_noise_training_is_accuracy_under_noise() -> None:
    subset, model = tiny.made_up().validation, tiny.calm(tiny.network())
    found = []
    for sigma in (1e-9, 0.5):
        plan = Plan(gaussian, gaussian.Knobs(sigma=sigma), tiny.settings(), tiny.THREAT, 0)
        sizes = {certified_accuracy(model, subset, plan, size) for size in (5, 32)}
        assert len(sizes) == 1
        found.append(sizes.pop())
    assert (
        found[0] == accuracies(model, subset, tiny.THREAT, tiny.settings().selection, 8)["natural"]
    )
    assert found[1] != found[0]


def test_progress_is_reported_after_each_step_and_epoch() -> None:
    told: list[tuple[Any, ...]] = []
    defense, knobs = KNOBS["standard"]
    plan = Plan(defense, knobs, tiny.settings(epochs=2), tiny.THREAT, 0)
    trained = fit(tiny.network(), tiny.made_up(), plan, lambda *now: told.append(now))
    assert [now[:4] for now in told if now[4] is None] == [
        (epoch, 2, step, 4) for epoch in range(2) for step in range(4)
    ]
    rows = [now[4] for now in told if now[4] is not None]
    assert [row["loss"] for row in rows] == [row["loss"] for row in trained.history]


def test_the_inner_attack_has_the_budget_of_the_settings() -> None:
    watched, _ = watch(epochs=1)
    assert watched.steps[0].inner == inner_attack(tiny.THREAT, tiny.settings().attack)
    assert watched.steps[0].inner.steps == 2
    assert watched.steps[0].inner.step_size == pytest.approx(0.5 * tiny.THREAT.epsilon)
