"""Run a suite of attacks on a model and write down what became of every image."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.contract import check_inputs, is_fooled
from tradeoff.evaluation.ledger import PER_ATTACK, Array, Ledger
from tradeoff.folding import fold
from tradeoff.losses import margin
from tradeoff.randomness import sample_keys
from tradeoff.study import Attack
from tradeoff.threat import Threat, perturbation_norm

Report = Callable[[str, str, int, int], None]


def run_suite(
    models: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    attacks: Iterable[Attack],
    *,
    about: dict[str, Any],
    batch_size: int,
    report: Report = lambda version, attack, done, images: None,
) -> Ledger:
    """Attack each version of a model in eval mode with each attack, in float32.

    Args:
        models: the versions by name; images (N, C, H, W) in [0, 1] and labels (N,) are on their
            device.
        report: called with (version, attack, images done, images).

    Raises:
        ValueError: model, images or labels are not what an attack takes.
    """
    attacks = list(attacks)
    clean, attacked = [], []
    for version, model in models.items():
        check_inputs(model, images, labels)
        clean.append(_clean(model, images, labels, batch_size))
        twin = fold(model)
        rows = []
        for attack in attacks:
            keys = sample_keys(torch.arange(len(labels), device=labels.device), attack.name)
            parts = []
            for batch in torch.arange(len(labels), device=labels.device).split(batch_size):
                part = _attack(
                    attack, model, twin, images[batch], labels[batch], threat, keys[batch]
                )
                parts.append(part)
                report(version, attack.name, int(batch[-1]) + 1, len(labels))
            rows.append(_joined(parts))
        attacked.append({name: np.stack([row[name] for row in rows]) for name in PER_ATTACK})
    columns = {name: np.stack([part[name] for part in clean]) for name in clean[0]}
    columns |= {name: np.stack([part[name] for part in attacked]) for name in PER_ATTACK}
    columns["labels"] = labels.cpu().numpy()
    return Ledger(tuple(models), tuple(attack.name for attack in attacks), columns, about)


def _attack(
    attack: Attack,
    model: nn.Module,
    twin: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    keys: Tensor,
) -> dict[str, Array]:
    """One attack on one batch: made on the folded twin, judged by the model itself."""
    function = getattr(importlib.import_module(f"tradeoff.attacks.{attack.module}"), attack.module)
    arguments = attack.knobs.model_dump()
    takes = inspect.signature(function).parameters
    if "keys" in takes:
        arguments["keys"] = keys
    if "threat" in takes:
        arguments["threat"] = threat
    attempt = function(twin, images, labels, **arguments)
    with torch.no_grad():
        logits = model(attempt.images)
    delta = attempt.images - images
    return {
        "attempted": np.ones(len(labels), dtype=bool),
        "fooled": is_fooled(logits, labels).cpu().numpy(),
        "prediction": logits.argmax(1).cpu().numpy(),
        "margin": margin(logits, labels).cpu().numpy(),
        "queries": attempt.queries.cpu().numpy(),
        "l0": perturbation_norm(delta, "l0").cpu().numpy(),
        "l2": perturbation_norm(delta, "l2").cpu().numpy(),
        "linf": perturbation_norm(delta, "linf").cpu().numpy(),
    }


@torch.no_grad()
def _clean(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> dict[str, Array]:
    logits = torch.cat([model(part) for part in images.split(batch_size)])
    is_fooled(logits, labels)
    return {
        "clean_prediction": logits.argmax(1).cpu().numpy(),
        "clean_margin": margin(logits, labels).cpu().numpy(),
        "clean_confidence": logits.softmax(1).amax(1).cpu().numpy(),
    }


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in PER_ATTACK}
