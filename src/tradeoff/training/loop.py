"""The training loop, the same for every defense."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tradeoff.datasets.prepared import Prepared, Subset
from tradeoff.networks.ascent import Replay
from tradeoff.networks.folding import EvalTwin
from tradeoff.networks.layouts import training_layout
from tradeoff.networks.randomness import derive_seed, generator
from tradeoff.training.acceleration import compiled, one_batch_size, precision
from tradeoff.training.augment import crop_and_flip
from tradeoff.training.averaging import after_epoch, after_step
from tradeoff.training.checkpoint import Checkpoint, NoCheckpoint
from tradeoff.training.contract import Step
from tradeoff.training.history import EpochRecord, Row
from tradeoff.training.perturbation import perturbed_weights
from tradeoff.training.plan import Plan, batch_sizes, inner_attack, micro_batches
from tradeoff.training.run import Run, State, snapshot
from tradeoff.training.validation import accuracies, certified_accuracy, collapse, validated_at_once

OnProgress = Callable[[int, int, int, int, Row | None], None]

ADVICE = (
    "No model was written. A lower train.learning_rate or train.clip_gradient may help; on a GPU, "
    "which rounds a little differently each time, perhaps the same command, which goes on from "
    "the last state that was in order."
)


class TrainingFailed(Exception):
    """Training cannot go on; says where it stopped."""


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop; what was done is kept."""


@dataclass(frozen=True)
class Trained:
    """The weights of the epoch chosen on the validation split, the last ones, and the history.

    Attributes:
        compilation: whether the networks were compiled, and if not, why.
    """

    best: State
    last: State
    history: list[Row]
    compilation: str


@dataclass(frozen=True)
class Networks:
    """The model in train mode, its eval-mode twin and its bases, as a defense calls them."""

    model: nn.Module
    frozen: nn.Module
    twin: EvalTwin
    bases: Mapping[str, nn.Module]


def fit(
    model: nn.Module,
    data: Prepared,
    plan: Plan,
    report: OnProgress,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train `model` in place on the device it is on, from the checkpoint's state if it has one.

    Args:
        report: called with (epoch, epochs, step, steps, None) after each step, and with the
            epoch's row in place of None after each epoch.

    Raises:
        TrainingFailed: loss or weights were not finite; names epoch and step. Of the checkpoint
            the last state before that is left.
        Interrupted: the checkpoint was asked to stop.
    """
    settings = plan.settings
    checkpoint = checkpoint or NoCheckpoint()
    device = next(model.parameters()).device
    train, validation = data.train.to(device), data.validation.to(device)
    run = Run.begin(model, plan, data)
    if (state := checkpoint.load()) is not None:
        run.load_state_dict(state)
    networks, compilation = _networks(run, train)
    validated = EvalTwin(run.evaluated, torch.contiguous_format)  # for float32
    at_once = validated_at_once(settings, device)
    run.start_clock()
    while run.epoch < settings.epochs:
        with one_batch_size():
            row = _epoch(run, networks, train, report, checkpoint)
            after_epoch(run.averaged, run.model, settings, run.epoch, train)
        validated.refresh()
        try:
            measured = accuracies(
                validated.module,
                validation,
                plan.threat,
                settings.selection,
                at_once,
                plan.one_step,
            )
            if plan.select_by == "certified":
                measured["certified"] = certified_accuracy(
                    validated.module, validation, plan, at_once
                )
        except ValueError as error:  # finite weights, and logits that are not
            raise TrainingFailed(f"after epoch {run.epoch + 1}: {error}. {ADVICE}") from None
        row |= {f"validation_{name}_accuracy": value for name, value in measured.items()}
        row |= {"seconds": run.seconds, "selected": 0.0}
        if plan.one_step:
            before = run.history[-1]["validation_robust_accuracy"] if run.history else 0.0
            row["collapse"] = collapse(before, measured["robust"])
        # What is not made to be robust, such as the control, is not chosen by robustness.
        second = "robust" if plan.select_by == "natural" else "natural"
        score = (measured[plan.select_by], measured[second])
        if score > run.best_score:
            run.best, run.best_score = snapshot(run.evaluated), score
            run.history = [past | {"selected": 0.0} for past in run.history]
            row["selected"] = 1.0
        run.history.append(row)
        report(run.epoch, settings.epochs, run.steps, run.steps, row)
        run.epoch += 1
        run.begin_epoch()
        if checkpoint.due_after_epoch:
            checkpoint.save(run.state_dict())
    return Trained(run.best, snapshot(run.evaluated), run.history, compilation)


def _epoch(
    run: Run, networks: Networks, train: Subset, report: OnProgress, checkpoint: Checkpoint
) -> Row:
    settings, device, steps = run.plan.settings, train.labels.device, run.steps
    order = torch.randperm(len(train), generator=generator("order", run.plan.seed, run.epoch))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run.model.train()
    while run.step < steps:
        rate = run.plan.learning_rate(run.epoch, run.step, steps)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        begin = run.step * settings.batch_size
        batch = order[begin : begin + settings.batch_size].to(device, non_blocking=True)
        images, labels = train.floats(train.pixels[batch]), train.labels[batch]
        if settings.augment == "crop_flip":
            images = crop_and_flip(images, run.draws)
        networks.twin.refresh()
        torch.manual_seed(derive_seed("layers", run.plan.seed, run.epoch, run.step))  # dropout's
        with _weight_perturbation(run, networks, images, labels) as replay:
            run.optimizer.zero_grad(set_to_none=True)
            accumulate_gradient(run, networks, images, labels, run.draws, run.record, replay)
            run.take_step()
        after_step(run.averaged, run.model, settings)
        run.step += 1
        report(run.epoch, settings.epochs, run.step - 1, steps, None)
        interrupted = checkpoint.interrupted()
        if interrupted or checkpoint.due:
            _check(run, steps)
            checkpoint.save(run.state_dict())
        if interrupted:
            raise Interrupted(
                f"stopped in epoch {run.epoch + 1}, step {run.step} of {steps}; "
                "the same command goes on from there"
            )
    _check(run, steps)
    row = {"epoch": float(run.epoch + 1)} | run.record.row()
    row |= {
        "learning_rate": run.optimizer.param_groups[0]["lr"],
        "forward_passes": float(run.passes.forward),
        "backward_passes": float(run.passes.backward),
    }
    if run.scaler.is_enabled():
        row["skipped_steps"] = float(run.skipped)
    if device.type == "cuda":
        row["peak_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
    return row


def _check(run: Run, steps: int) -> None:
    """Fail if the epoch went wrong so far. Asked seldom, because asking waits for the device."""
    what, number = "loss was not finite in", run.record.first_bad_step()
    if number is None and not run.is_finite():  # the last step's gradient was not
        what, number = "weights were not finite after", run.step - 1
    if number is not None:
        raise TrainingFailed(
            f"the {what} epoch {run.epoch + 1}, step {number + 1} of {steps}. {ADVICE}"
        )


@contextmanager
def _weight_perturbation(
    run: Run, networks: Networks, images: Tensor, labels: Tensor
) -> Iterator[Replay | None]:
    """The model at the weights that a step's gradient is to be taken at.

    Those of train.weight_perturbation come with the adversarial examples that were found on the
    way: these are the ones of the weights as they were.
    """
    settings = run.plan.settings.weight_perturbation
    if settings is None or run.epoch < round(settings.begins * run.plan.settings.epochs):
        yield None
        return
    probe, record = copy.copy(run), EpochRecord(run.classes, labels.device)
    probe.memory, replay, draws = dict(run.memory), Replay(), run.draws.get_state()
    buffers = [buffer.clone() for buffer in run.model.buffers()]
    run.optimizer.zero_grad(set_to_none=True)
    accumulate_gradient(probe, networks, images, labels, run.draws, record, replay)
    for buffer, before in zip(run.model.buffers(), buffers, strict=True):
        buffer.copy_(before)
    run.draws.set_state(draws)
    replay.repeats = True
    with perturbed_weights(run.model, settings.gamma):
        yield replay


def accumulate_gradient(
    run: Run,
    networks: Networks,
    images: Tensor,
    labels: Tensor,
    draws: torch.Generator,
    record: EpochRecord,
    replay: Replay | None = None,
) -> None:
    """Forward and backward of one step, in one go or in micro-batches."""
    plan, settings = run.plan, run.plan.settings
    layout = training_layout(images.device, settings.precision)
    images = images.contiguous(memory_format=layout)
    threat = plan.threat_at(run.epoch, run.step, run.steps)
    step = Step(
        networks.frozen,
        replace(inner_attack(threat, settings.attack), replay=replay),
        draws,
        run.epoch,
        settings.epochs,
        progress=(run.epoch + run.step / run.steps) / settings.epochs,
        network=run.model,
        bases=networks.bases,
        memory=run.memory,
        classes=run.classes,
        label_smoothing=settings.label_smoothing,
    )
    parts = micro_batches(len(images), settings.micro_batch)
    state = draws.get_state() if len(parts) > 1 else None
    for number, part in enumerate(parts):
        if state is not None:
            # Every part draws the noise of the whole batch and takes its own images' share.
            draws.set_state(state)
            step = replace(step, batch=len(images), part=part)
        share = (part.stop - part.start) / len(images)
        with precision(settings.precision, images.device):
            loss = plan.defense.training_loss(
                networks.model, images[part], labels[part], step, plan.knobs
            )
            run.scaler.scale(loss.total * share).backward()
        record.add(loss, labels[part], share, last=number == len(parts) - 1)


def _networks(run: Run, train: Subset) -> tuple[Networks, str]:
    """The networks as the defense will call them: compiled if that is wanted and works, counted."""
    settings = run.plan.settings
    twin = EvalTwin(run.model)
    device = train.labels.device

    untouched = copy.copy(run)
    untouched.memory = {}  # what a probe remembers is no part of training

    def probe(model: nn.Module, frozen: nn.Module) -> None:
        for count in batch_sizes(len(train), settings.batch_size):
            images, labels = train.floats(train.pixels[:count]), train.labels[:count]
            draws, record = generator("probe", device=device), EpochRecord(run.classes, device)
            networks = Networks(model, frozen, twin, run.plan.bases)
            accumulate_gradient(untouched, networks, images, labels, draws, record)

    steps = settings.epochs * run.steps
    with one_batch_size():
        model, frozen, how = compiled(run.model.train(), twin.module, settings, steps, probe)
    bases = {role: run.passes.count(base) for role, base in run.plan.bases.items()}
    return Networks(run.passes.count(model), run.passes.count(frozen), twin, bases), how
