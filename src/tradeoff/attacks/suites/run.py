"""Run a suite of attacks on a model and write down what became of every image."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import Attempt, batched_logits, check_inputs, is_fooled
from tradeoff.attacks.suites.gradients import gradient_checks
from tradeoff.attacks.suites.kept import KeptResults, NothingKept
from tradeoff.attacks.suites.ledger import CHECKS, PER_ATTACK, PER_IMAGE, Array, Ledger
from tradeoff.core.settings import AscentSettings
from tradeoff.core.study import Attack, Suite
from tradeoff.networks.device import matrix_precision
from tradeoff.networks.folding import fold_if_same
from tradeoff.networks.losses import margin
from tradeoff.networks.passes import PassCounter
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

OnProgress = Callable[[str, str, int, int], None]
Columns = dict[str, Array]


@matrix_precision("ieee")
def run_suite(
    models: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: Suite,
    *,
    about: dict[str, Any],
    checkpoints: KeptResults | None = None,
    report: OnProgress = lambda version, attack, done, images: None,
) -> Ledger:
    """Attack each version of a model in eval mode with each attack, in float32, never in TF32.

    Args:
        models: the suite's versions by name; images (N, C, H, W) in [0, 1] and labels (N,) are on
            their device.
        checkpoints: where an interrupted run of the same batch size is taken up again.
        report: called with (version, attack, images done, images).

    Raises:
        ValueError: model, images or labels are not what an attack takes.
    """
    versions: list[Columns] = []
    clean: list[Tensor] = []
    finished: list[KeptResults] = []
    names: list[str] = []
    for version, model in models.items():
        check_inputs(model, images, labels)
        logits = batched_logits(model, images, suite.batch_size)
        # Where the last epoch was the best one, both versions are the same model.
        done = zip(models.values(), clean, versions, strict=False)
        known = [c for other, theirs, c in done if _same(other, model, theirs, logits)]
        clean.append(logits)
        if known:
            versions.append(known[0])
            continue
        kept = (checkpoints or NothingKept()).of(
            model, images, labels, logits, [about, suite.batch_size]
        )
        finished.append(kept)
        twin = fold_if_same(model, images[: suite.batch_size])
        rows = _rows(model, twin, images, labels, threat, suite, kept, partial(report, version))
        names = list(rows)
        columns = {name: np.stack([row[name] for row in rows.values()]) for name in PER_ATTACK}
        versions.append(columns | _clean(logits, twin, images, labels, threat, suite))
    columns = {name: np.stack([v[name] for v in versions]) for name in (*PER_IMAGE, *PER_ATTACK)}
    columns["labels"] = labels.cpu().numpy()
    for kept in finished:
        kept.done()
    return Ledger(tuple(models), tuple(names), columns, about)


def _rows(
    model: nn.Module,
    twin: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: Suite,
    kept: KeptResults,
    report: Callable[[str, int, int], None],
) -> dict[str, Columns]:
    """The ledger's rows of one version, by attack; what `kept` has is not computed again."""
    rows: dict[str, Columns] = {}
    for attack in suite.attacks:
        parts: dict[str, list[Columns]] = {}
        for batch in torch.arange(len(labels), device=labels.device).split(suite.batch_size):
            subject = _Subject(model, twin, images[batch], labels[batch], threat)
            place = f"{attack.name}-{int(batch[0])}"
            compute = partial(_attack, attack, subject, batch, suite.batch_size)
            for name, part in kept.get(place, compute).items():
                parts.setdefault(name, []).append(part)
            report(attack.name, int(batch[-1]) + 1, len(labels))
        rows |= {name: _joined(pieces) for name, pieces in parts.items()}
    return rows


def _same(one: nn.Module, other: nn.Module, logits: Tensor, others: Tensor) -> bool:
    """Whether weights and logits are the same: one weight may be used in two ways."""
    mine, theirs = one.state_dict(), other.state_dict()
    if not mine or mine.keys() != theirs.keys() or not torch.equal(logits, others):
        return False
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


class _Subject:
    """A batch under attack: attacks are made on the folded twin, judged by the model itself."""

    def __init__(
        self, model: nn.Module, twin: nn.Module, images: Tensor, labels: Tensor, threat: Threat
    ) -> None:
        self.model, self.threat, self.passes = model, threat, PassCounter()
        self.twin = self.passes.count(twin)
        self.images, self.labels = images, labels


def _attack(
    attack: Attack, subject: _Subject, batch: Tensor, batch_size: int
) -> dict[str, Columns]:
    """One entry of a suite on one batch: a row by its name, or one for each component.

    An ensemble such as AutoAttack has components; each attacks what is still robust.
    """
    module = importlib.import_module(f"tradeoff.attacks.{attack.module}")
    keys = sample_keys(batch, attack.name)
    if not hasattr(module, "components"):
        function = getattr(module, attack.module)
        arguments = attack.knobs.model_dump()
        takes = inspect.signature(function).parameters
        if "keys" in takes:
            arguments["keys"] = keys
        if "threat" in takes:
            arguments["threat"] = subject.threat
        attempt = function(subject.twin, subject.images, subject.labels, **arguments)
        everyone = torch.arange(len(batch), device=batch.device)
        logits = batched_logits(subject.model, attempt.images, batch_size)
        return {attack.name: _outcome(subject, everyone, attempt, logits)}
    found = module.components(
        subject.twin,
        subject.images,
        subject.labels,
        subject.threat,
        keys=keys,
        budget=attack.knobs,
        judge=subject.model,
        batch_size=batch_size,
    )
    rows = {}
    for name, at, attempt, logits in islice(found, 1, None):  # the first is none: clean images
        rows[name] = _outcome(subject, at, attempt, logits)
        subject.passes.backward = 0
    return rows


def _outcome(subject: _Subject, at: Tensor, attempt: Attempt, logits: Tensor) -> Columns:
    """What an attempt on the images `at` of a batch did; the others were not attempted."""
    nobody = torch.zeros_like(subject.labels, dtype=torch.bool)
    full = {
        "attempted": nobody.clone(),
        "fooled": nobody.clone(),
        "prediction": torch.full_like(subject.labels, -1),
        "margin": torch.full_like(subject.images[:, 0, 0, 0], torch.nan),
        "queries": torch.zeros_like(subject.labels),
        "gradients": torch.full_like(subject.images[:, 0, 0, 0], 0.0),
    }
    full |= {norm: torch.zeros_like(full["margin"]) for norm in ("l0", "l2", "linf")}
    if len(at):
        full["gradients"][at] = subject.passes.backward / len(at)
        labels, delta = subject.labels[at], attempt.images - subject.images[at]
        full["attempted"][at] = True
        full["fooled"][at] = is_fooled(logits, labels)
        full["prediction"][at] = logits.argmax(1)
        full["margin"][at] = margin(logits, labels)
        full["queries"][at] = attempt.queries
        for norm in ("l0", "l2", "linf"):
            full[norm][at] = perturbation_norm(delta, norm)
    return {name: values.cpu().numpy() for name, values in full.items()}


def _clean(
    logits: Tensor,
    twin: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: Suite,
) -> Columns:
    """Predictions on the images as they are and, if the suite asks for them, gradient checks."""
    columns = {
        "clean_prediction": logits.argmax(1).cpu().numpy(),
        "clean_margin": margin(logits, labels).cpu().numpy(),
        "clean_confidence": logits.softmax(1).amax(1).cpu().numpy(),
    }
    if suite.gradient_checks is None:
        return columns | {name: np.full(len(labels), np.nan) for name in CHECKS}
    return columns | _checks(twin, images, labels, threat, suite.gradient_checks, suite.batch_size)


def _checks(
    twin: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    budget: AscentSettings,
    batch_size: int,
) -> Columns:
    parts = []
    for batch in torch.arange(len(labels), device=labels.device).split(batch_size):
        checks = gradient_checks(
            twin,
            images[batch],
            labels[batch],
            threat,
            keys=sample_keys(batch, "gradient checks"),
            steps=budget.steps,
            relative_step_size=budget.relative_step_size,
        )
        parts.append({f"check_{name}": values for name, values in checks.items()})
    return _joined(parts)


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
