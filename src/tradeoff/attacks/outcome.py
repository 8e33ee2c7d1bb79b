"""What every evaluation attack takes and gives, and the checks that all of them make.

    attack(model, images, labels, threat, *, keys, ...) -> Attempt

The model is in eval mode and maps images (N, C, H, W) in [0, 1] to logits (N, classes). `keys`
(N,) are the samples' random keys (`randomness.sample_keys`): a sample is attacked alike in any
batch. An attack that draws no numbers takes none. A minimum-norm attack takes a norm in place of
the threat.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.networks.device import DEVICE_FAULTS
from tradeoff.networks.losses import margin
from tradeoff.networks.passes import in_training

# Logits of one image differ in their last bits from batch to batch and from a network to its
# folded twin. What wins by more than this share of the largest logit wins there as well.
ROUNDING = 1e-5


class Attempt(NamedTuple):
    """The adversarial images found, (N, C, H, W), and the queries that each took, (N,).

    A query is a forward pass of the image; of Square also a proposal that needs none. A bounded
    attack gives an image inside the threat, whether it fools the model or not: FGSM, BIM and
    MI-FGSM their last, the others the first that fools, else the one of lowest margin. A
    minimum-norm attack gives the nearest image that fools, or the image itself.
    """

    images: Tensor
    queries: Tensor


class Verdict(NamedTuple):
    """What a model says of candidates; all (M,)."""

    fooled: Tensor  # whether the prediction differs from the label
    surely: Tensor  # and whether it does by more than rounding: an attack may stop here
    margin: Tensor


def verdict(logits: Tensor, labels: Tensor) -> Verdict:
    """The verdict on candidates by their logits (M, classes); raises what `is_fooled` raises."""
    fooled, margins = is_fooled(logits, labels), margin(logits, labels)
    return Verdict(fooled, fooled & (margins <= -ROUNDING * logits.abs().amax(1)), margins)


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
    """The best candidate of each sample so far: fooled before not fooled, then lowest margin.

    Attributes:
        fooled: (N,) bool, surely (`Verdict`): where only rounding decides, the search goes on.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images.clone()
        self.margin = torch.full((len(images),), torch.inf, device=images.device)
        self._standing = torch.zeros(len(images), dtype=torch.int8, device=images.device)

    @property
    def fooled(self) -> Tensor:
        return self._standing == 2

    def update(
        self, candidates: Tensor, logits: Tensor, labels: Tensor, at: Tensor | None = None
    ) -> None:
        """Take over the candidates (M, C, H, W) that are better, judged by their logits (M, C).

        Args:
            at: the samples (M,) that the candidates and labels belong to; None for all.
        """
        at = torch.arange(len(labels), device=labels.device) if at is None else at
        fooled, surely, margins = verdict(logits, labels)
        standing, before = fooled.to(torch.int8) + surely, self._standing[at]
        better = (standing > before) | ((standing == before) & (margins < self.margin[at]))
        places = at[better]
        self.images[places] = candidates[better]
        self.margin[places] = margins[better]
        self._standing[places] = standing[better]


def is_fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the prediction differs from the label, (N, C), (N,) -> (N,) bool.

    Raises:
        ValueError: a logit is not a number; such a model is broken, neither robust nor fooled.
    """
    if logits.isnan().any():
        raise ValueError("the model returned NaN logits: it cannot be evaluated")
    return logits.argmax(1) != labels


@torch.no_grad()
def batched_logits(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """Logits (N, classes) of images (N, C, H, W), at most `batch_size` of them at once."""
    return torch.cat([model(batch) for batch in images.split(batch_size)])


@torch.no_grad()
def check_inputs(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Refuse what would make an attack's result meaningless.

    Raises:
        ValueError: says which of model, images and labels is wrong, what it is, what is allowed.
            A fault of the device, such as a full memory, is left as it is.
    """
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
