"""Projected gradient ascent inside a threat: the inner maximisation of adversarial training."""

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.networks.losses import kl_divergence
from tradeoff.networks.threat import Threat, step_up

Objective = Callable[[Tensor], Tensor]

# Backward passes in fp16 round a gradient below 6e-8 to 0. Scaled by this, the objective of one
# image has about the scale that training's mean loss begins with (torch's GradScaler: 65536 / 128).
HALF_FLOAT_SCALE = 512.0


@dataclass
class Replay:
    """The examples of one pass over a batch, for a second pass that is to use the same ones.

    Attributes:
        found: in the order in which they were.
        repeats: whether they are given again, instead of new ones being searched.
    """

    found: deque[Tensor] = field(default_factory=deque)
    repeats: bool = False


@dataclass(frozen=True)
class InnerAttack:
    """How the inner maximisation of a training step is solved.

    Attributes:
        steps, step_size: how many there are, and their length, one for all images or one for each
            (N,).
        replay: where the examples are kept, if a second pass is to use them.
    """

    threat: Threat
    steps: int
    step_size: float | Tensor
    replay: Replay | None = field(default=None, compare=False)


def ascend(
    objective: Objective, images: Tensor, start: Tensor, inner: InnerAttack, precise_steps: int = 0
) -> Tensor:
    """Take projected steps that increase `objective`, from `start`.

    Args:
        objective: maps candidates (N, C, H, W) to one loss per sample (N,); samples must not
            influence each other, so the model is in eval mode.
        images: centres of the balls, (N, C, H, W) in [0, 1].
        start: where to begin, (N, C, H, W).
        precise_steps: how many of the first steps are not in bf16 or fp16 even inside autocast.

    Returns:
        The last iterate, (N, C, H, W), inside the threat, without gradient.
    """
    if inner.replay is not None and inner.replay.repeats:
        return inner.replay.found.popleft()
    current = start.detach()
    for number in range(inner.steps):
        with full_precision(images) if number < precise_steps else nullcontext():
            direction = input_gradient(objective, current)
        current = step_up(current, direction, images, inner.threat, inner.step_size)
    if inner.replay is not None:
        inner.replay.found.append(current)
    return current


def input_gradient(objective: Objective, candidates: Tensor) -> Tensor:
    """Gradient of each sample's objective by its own candidate, (N, C, H, W)."""
    return value_and_gradient(objective, candidates)[1]


def value_and_gradient(objective: Objective, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's objective (N,), and its gradient by its own candidate, (N, C, H, W)."""
    candidates = candidates.detach().requires_grad_()
    with torch.enable_grad():
        values = objective(candidates)
    if not _in_half_floats(candidates):
        return values.detach(), torch.autograd.grad(values.sum(), candidates)[0]
    scaled = torch.autograd.grad(HALF_FLOAT_SCALE * values.float().sum(), candidates)[0]
    return values.detach(), (scaled / HALF_FLOAT_SCALE).nan_to_num()  # if it has overflowed


def _in_half_floats(images: Tensor) -> bool:
    kind = images.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16


def ascend_cross_entropy(
    model: nn.Module, images: Tensor, labels: Tensor, start: Tensor, inner: InnerAttack
) -> Tensor:
    """Examples that maximise CE(f(x'), y), the inner problem of AT, MART and FAAL."""

    def objective(candidates: Tensor) -> Tensor:
        return F.cross_entropy(model(candidates), labels, reduction="none")

    return ascend(objective, images, start, inner)


def ascend_divergence(
    model: nn.Module,
    images: Tensor,
    clean_log_probabilities: Tensor,
    start: Tensor,
    inner: InnerAttack,
) -> Tensor:
    """Examples that maximise KL(f(x) || f(x')), the inner problem of TRADES and D-TRADES."""

    def objective(candidates: Tensor) -> Tensor:
        return kl_divergence(clean_log_probabilities, model(candidates))

    # Beside x the divergence and its slope are nearly 0: what bf16 or fp16 leaves is noise.
    return ascend(objective, images, start, inner, precise_steps=1)


def full_precision(images: Tensor) -> torch.autocast:
    """A context in which nothing is cast to short floats, whatever is outside; TF32 stays."""
    return torch.autocast(images.device.type, enabled=False)
