"""TRIX (Medi et al. 2025): TRADES that attacks strong classes less, and weighs weak ones more.

    L = mean_i w_(y_i) CE(f(x_i), y_i) + beta mean_i KL(f(x_i) || f(x'_i))

Which classes are strong is read from a matrix S: row c is the mean probability of each class over
the images of class c. Of two classes the one with the larger diagonal gives some of its weight to
the other (DAFA, Lee et al. 2024). It is used twice:

- in each batch, on clean images: an image whose class weighs less than the batch's mean is attacked
  towards a random other class, descending CE(f(x'), t); the others ascend KL as in TRADES;
- once, in the last epoch of the warm-up, on adversarial images as the network trains on them: from
  then on w scales the cross-entropy, the radius and the step of each image. Before that w is 1.

In micro-batches a batch's S is that of the part.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, NonNegative, Section
from tradeoff.networks.ascent import ascend
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative
    exchange: NonNegative
    warmup: Fraction


def class_sums(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of probabilities over the images of each class, (C, C), and their counts, (C,)."""
    classes = probabilities.shape[1]
    counts = probabilities.new_zeros(classes).index_add_(
        0, labels, torch.ones_like(probabilities[:, 0])
    )
    return probabilities.new_zeros(classes, classes).index_add_(0, labels, probabilities), counts


def similarity(sums: Tensor, counts: Tensor) -> Tensor:
    """S, (C, C); the row of a class without images is 0."""
    return sums / counts.clamp_min(1)[:, None]


def class_weights(similarity: Tensor, exchange: float) -> Tensor:
    """w (C,), which sums to C: w_i = 1 + sum_(j != i) of lambda S_ij S_jj where S_ii < S_jj, else
    of -lambda S_ji S_ii; lambda is `exchange`."""
    own = similarity.diagonal()
    gained, lost = similarity * own, similarity.T * own[:, None]
    moved = torch.where(own[:, None] < own, gained, -lost)
    return 1 + exchange * (moved.sum(1) - moved.diagonal())


def other_classes(labels: Tensor, classes: int, step: Step) -> Tensor:
    """For each image a class drawn from all but its own, (N,)."""
    shift = torch.randint(
        1, classes, (step.batch or len(labels),), generator=step.generator, device=labels.device
    )
    return (labels + shift[step.part]) % classes


def adversarial_examples(
    images: Tensor,
    labels: Tensor,
    clean_logits: Tensor,
    targeted: Tensor,
    targets: Tensor,
    weights: Tensor,
    step: Step,
) -> Tensor:
    """Steps towards the target where `targeted` (N,), elsewhere up the divergence, (N, C, H, W).

    Args:
        clean_logits: f(x) in eval mode.
        weights: by which radius and step of each image are multiplied, (N,).
    """
    clean = F.log_softmax(clean_logits, 1)
    inner = step.inner
    threat = replace(inner.threat, radii=inner.threat.epsilon * weights)

    def objective(candidates: Tensor) -> Tensor:
        logits = step.frozen(candidates)
        towards = -F.cross_entropy(logits, targets, reduction="none")
        return torch.where(targeted, towards, kl_divergence(clean, logits))

    scaled = replace(inner, threat=threat, step_size=inner.step_size * weights)
    return ascend(objective, images, step.gaussian_start(images), scaled, precise_steps=1)


def present_weights(step: Step, knobs: Knobs, like: Tensor) -> Tensor:
    """The class weights of this epoch, (C,), from what the warm-up's last epoch has kept."""
    if "sums" not in step.memory or _last_warm_epoch(step, knobs) >= step.epoch:
        return like.new_ones(like.shape[1])
    kept = similarity(step.memory["sums"], step.memory["counts"])
    return class_weights(kept, knobs.exchange)


def _last_warm_epoch(step: Step, knobs: Knobs) -> int:
    return round(knobs.warmup * step.epochs) - 1


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    eval_logits = step.eval_logits(images)
    in_batch = class_weights(similarity(*class_sums(eval_logits.softmax(1), labels)), 1.0)[labels]
    targeted = in_batch < in_batch.mean()
    targets = other_classes(labels, eval_logits.shape[1], step)
    weights = present_weights(step, knobs, eval_logits)
    adversarial = adversarial_examples(
        images, labels, eval_logits, targeted, targets, weights[labels], step
    )
    clean_logits, adversarial_logits = model(images), model(adversarial)
    if step.epoch == _last_warm_epoch(step, knobs):
        found = class_sums(adversarial_logits.detach().float().softmax(1), labels)
        for name, value in zip(("sums", "counts"), found, strict=True):
            step.memory[name] = step.memory.get(name, 0) + value
    losses = F.cross_entropy(clean_logits, step.targets(labels), reduction="none")
    cross_entropy = (weights[labels] * losses).mean()
    divergence = kl_divergence(F.log_softmax(clean_logits, 1), adversarial_logits).mean()
    return Loss(
        cross_entropy + knobs.beta * divergence,
        {"cross_entropy": cross_entropy.detach(), "divergence": divergence.detach()},
        samples={"targeted": targeted.float()},
        classes={"weight": weights},
    )
