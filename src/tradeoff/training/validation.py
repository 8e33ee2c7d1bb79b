"""Accuracies on the validation split, by which the best epoch is chosen."""

import importlib

import torch
from torch import Tensor, nn

from tradeoff.attacks.outcome import is_fooled
from tradeoff.attacks.pgd import Knobs, pgd
from tradeoff.core.settings import AscentSettings, TrainSettings
from tradeoff.datasets.prepared import Subset
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat
from tradeoff.training.plan import Plan

COLLAPSE = 0.2  # accuracy that is lost within an epoch
AT_ONCE = 512  # images that a GPU has enough to do with


def validated_at_once(settings: TrainSettings, device: torch.device) -> int:
    """How many images validation takes at once: each is attacked alike in any batch.

    On a CPU as many as training; there more at once gain nothing.
    """
    if settings.micro_batch is not None:
        return settings.micro_batch
    return settings.batch_size if device.type == "cpu" else max(AT_ONCE, settings.batch_size)


def accuracies(
    model: nn.Module,
    subset: Subset,
    threat: Threat,
    budget: AscentSettings,
    batch_size: int,
    one_step: bool = False,
) -> dict[str, float]:
    """The natural and the robust accuracy of a model in eval mode; the same start each time.

    Args:
        one_step: measure that under one step from the image to the threat's surface too.
    """
    keys = _keys(subset)
    knobs = Knobs(loss="cross_entropy", restarts=1, **budget.model_dump())
    correct = torch.zeros((), device=subset.labels.device)
    robust, after_one_step = torch.zeros_like(correct), torch.zeros_like(correct)
    for batch in torch.arange(len(subset), device=subset.labels.device).split(batch_size):
        images, labels = subset.floats(subset.pixels[batch]), subset.labels[batch]
        natural = _is_correct(model, images, labels)
        correct += natural.sum()
        if natural.any():
            adversarial = pgd(
                model, images[natural], labels[natural], knobs, threat, keys[batch][natural]
            )
            robust += _is_correct(model, adversarial.images, labels[natural]).sum()
        if one_step and natural.any():
            attacked, single = images[natural], InnerAttack(threat, 1, threat.epsilon)
            near = ascend_cross_entropy(model, attacked, labels[natural], attacked, single)
            after_one_step += _is_correct(model, near, labels[natural]).sum()
    counts = {"natural": correct, "robust": robust}
    counts |= {"one_step": after_one_step} if one_step else {}
    return {name: float(count) / len(subset) for name, count in counts.items()}


def collapse(before: float, after: float) -> float:
    """By how much robust accuracy fell from one epoch to the next, if that is a collapse, else 0.

    A network that is trained on one step may learn, within an epoch, to withstand that step and
    nothing else: catastrophic overfitting. The bound is that of Wong et al. (2020, section 5.4);
    they measure on a batch of training images in train mode, we on validation in eval mode.
    """
    return before - after if before - after > COLLAPSE else 0.0


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
