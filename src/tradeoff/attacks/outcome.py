"""What every evaluation attack takes and gives, and the checks that all of them make.

    attack(model, images, labels, knobs, threat, keys) -> Adversarial

is the call of every attack that params.yaml may name: the function NAME of attacks/NAME.py.

    model   in eval mode, maps images to logits (N, classes)
    images  (N, C, H, W) in [0, 1]
    labels  (N,) int64, the true classes
    knobs   the budget, an instance of the module's class `Knobs`: a section of params.yaml
    threat  what the attacker may do; a minimum-norm attack does without
    keys    (N,) the samples' random keys (`randomness.sample_keys`), by which a sample is attacked
            alike in any batch; an attack that draws no random numbers does without

An attack that does without the last arguments may be called without them. Every attack raises
ValueError for a model, images or labels that it cannot use (`check_inputs`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.networks.device import DEVICE_FAULTS
from tradeoff.networks.losses import margin, resolution
from tradeoff.networks.passes import in_training


class Adversarial(NamedTuple):
    """The images that an attack made, (N, C, H, W), and the queries that each took, (N,) int64.

    A query is a forward pass of the image; Square also counts a proposal that needs none. A
    bounded attack gives an image inside the threat, whether it fools the model or not: FGSM, BIM
    and MI-FGSM give their last image, the others the first that fools, else the one of lowest
    margin. A minimum-norm attack gives the nearest image that fools, else the clean image.
    """

    images: Tensor
    queries: Tensor


class Verdict(NamedTuple):
    """Whether candidates fool a model, and by how much; every tensor is (M,)."""

    fooled: Tensor  # whether the prediction differs from the label
    beyond_rounding: Tensor  # and does so by more than rounding: an attack may stop here
    margin: Tensor  # the label's logit less the best other one


def verdict(logits: Tensor, labels: Tensor) -> Verdict:
    """The verdict on candidates with these logits (M, classes); raises what `is_fooled` raises."""
    fooled, margins = is_fooled(logits, labels), margin(logits, labels)
    return Verdict(fooled, fooled & (margins <= -resolution(logits)), margins)


def improvements(rows: Tensor, values: Tensor, best: Tensor) -> tuple[Tensor, Tensor]:
    """Which candidates have the lowest value of their sample, if that is below its best so far.

    Args:
        rows: (M,) the sample that each candidate belongs to; a sample may have several.
        values: (M,).
        best: (N,), by sample.

    Returns:
        Positions among the candidates, one for each sample that improves, the first of several
        that are equal; and the new best (N,).
    """
    lowest = best.scatter_reduce(0, rows, values, "amin")
    improving = (values < best[rows]) & (values == lowest[rows])
    positions = torch.arange(len(rows), device=rows.device)
    first = torch.full_like(best, len(rows), dtype=torch.long)
    first = first.scatter_reduce(0, rows[improving], positions[improving], "amin")
    return first[first < len(rows)], lowest


class Best:
    """The best candidate of each sample so far: one that fools, then the one of lowest margin.

    Attributes:
        fooled: (N,) bool, whether it fools beyond rounding: where only rounding decides, the
            search goes on.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.margin = images.new_full((len(images),), torch.inf)
        self._standing = torch.zeros(len(images), dtype=torch.int8, device=images.device)

    @property
    def fooled(self) -> Tensor:
        return self._standing == 2

    def update(
        self, candidates: Tensor, logits: Tensor, labels: Tensor, at: Tensor | None = None
    ) -> None:
        """Keep the candidates (M, C, H, W) that are better, judged by their logits (M, classes).

        Args:
            at: the samples (M,) that the candidates and labels belong to; None means all, in order.
        """
        at = torch.arange(len(labels), device=labels.device) if at is None else at
        fooled, beyond_rounding, margins = verdict(logits, labels)
        standing, before = fooled.to(torch.int8) + beyond_rounding, self._standing[at]
        better = (standing > before) | ((standing == before) & (margins < self.margin[at]))
        improved = at[better]
        self.images[improved] = candidates[better]
        self.margin[improved] = margins[better]
        self._standing[improved] = standing[better]


def is_fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the prediction differs from the label, (N, classes), (N,) -> (N,) bool.

    Raises:
        ValueError: a logit is NaN or plus infinity; such a model is broken, neither robust nor
            fooled.
    """
    if not bool((logits < torch.inf).all()):
        raise ValueError("the model returned NaN or infinite logits: it cannot be evaluated")
    return logits.argmax(1) != labels


@torch.no_grad()
def batched_logits(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Logits (N, classes) of images (N, C, H, W), computed `batch_size` images at a time."""
    return torch.cat([model(batch) for batch in images.split(batch_size)])


class Checked(nn.Module):
    """A model whose inputs have been checked: the attacks that are given it do not check again."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False  # eval() would be passed on: an exported model refuses it

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


@torch.no_grad()
def check_inputs(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Refuse a model, images or labels that would make an attack's result meaningless.

    Raises:
        ValueError: the message says what is wrong, what it is and what is allowed. A fault of the
            device, such as a full memory, is raised unchanged.
    """
    if isinstance(model, Checked):
        return
    if in_training(model):
        raise ValueError("the model is in train mode; call model.eval() before an attack")
    if images.dim() != 4 or len(images) == 0 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; "
            "a float tensor (N, C, H, W) with N >= 1 is needed"
        )
    if not bool(((images >= 0) & (images <= 1)).all()):  # false for NaN as well
        raise ValueError("images hold values that are NaN or outside [0, 1]")
    if labels.shape != (len(images),) or labels.dtype != torch.long:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; "
            f"int64 of shape ({len(images)},) is needed"
        )
    try:
        logits = model(images[:1])
    except DEVICE_FAULTS:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"the model does not take images of shape {tuple(images.shape[1:])}: {error}"
        ) from error
    if logits.dim() != 2 or logits.shape[1] < 2:
        raise ValueError(f"the model returns {tuple(logits.shape)}; logits (N, classes) are needed")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise ValueError(
            f"labels span {int(labels.min())}..{int(labels.max())}; "
            f"the model has classes 0..{logits.shape[1] - 1}"
        )
