"""Accuracies on the validation split, by which the best epoch is chosen."""

import importlib

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import is_fooled
from tradeoff.attacks.pgd import Knobs, pgd
from tradeoff.core.settings import AscentSettings, TrainSettings
from tradeoff.datasets.prepared import Subset
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat
from tradeoff.training.plan import Plan

AT_ONCE = 512  # images that a GPU has enough to do with


def validated_at_once(settings: TrainSettings, device: torch.device) -> int:
    """How many images validation takes at once: each is attacked alike in any batch.

    On a CPU as many as training; there more at once gain nothing.
    """
    if settings.micro_batch is not None:
        return settings.micro_batch
    return settings.batch_size if device.type == "cpu" else max(AT_ONCE, settings.batch_size)


def accuracies(
    model: nn.Module, subset: Subset, threat: Threat, budget: AscentSettings, batch_size: int
) -> dict[str, float]:
    """The natural and the robust accuracy of a model in eval mode; the same start each time."""
    keys = _keys(subset)
    knobs = Knobs(loss="cross_entropy", restarts=1, **budget.model_dump())
    correct = torch.zeros((), device=subset.labels.device)
    robust = torch.zeros_like(correct)
    for batch in torch.arange(len(subset), device=subset.labels.device).split(batch_size):
        images, labels = subset.floats(subset.pixels[batch]), subset.labels[batch]
        natural = _is_correct(model, images, labels)
        correct += natural.sum()
        if natural.any():
            adversarial = pgd(
                model, images[natural], labels[natural], knobs, threat, keys[batch][natural]
            )
            robust += _is_correct(model, adversarial.images, labels[natural]).sum()
    return {"natural": float(correct) / len(subset), "robust": float(robust) / len(subset)}


def certified_accuracy(model: nn.Module, subset: Subset, plan: Plan, batch_size: int) -> float:
    """The share of images of which the defense's certificate holds, as far as validation can tell.

    What is checked is the certificate's own matter: see its `holds_on_validation`.
    """
    certificate = importlib.import_module(f"tradeoff.certificates.{plan.defense.CERTIFICATE}")
    keys = _keys(subset)
    held = torch.zeros((), device=subset.labels.device)
    for batch in torch.arange(len(subset), device=subset.labels.device).split(batch_size):
        images, labels = subset.floats(subset.pixels[batch]), subset.labels[batch]
        held += certificate.holds_on_validation(
            model, images, labels, plan.threat, keys=keys[batch], knobs=plan.knobs
        ).sum()
    return float(held) / len(subset)


def _keys(subset: Subset) -> Tensor:
    return sample_keys(torch.arange(len(subset), device=subset.labels.device), "validation")


@torch.no_grad()
def _is_correct(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return ~is_fooled(model(images), labels)
