"""What the training loop hands to a defense and what it gets back.

A defense is a module of this package with

    SELECT_BY: "robust" | "natural"         which accuracy on validation chooses the epoch
    class Knobs(Section)                    its section of params.yaml (names of core.fields)
    training_loss(model, images, labels, step, knobs) -> Loss
    finetuning(knobs, epochs) -> Finetuning     only where the first epochs are not its own

`training_loss` makes its adversarial examples with `step.frozen`, an eval-mode twin, so that
they neither use nor touch the batch's BatchNorm statistics, and its objective with `model`, in
train mode. What it does is composed of pure functions of tensors, which tests feed with known
numbers.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from tradeoff.networks.ascent import InnerAttack, full_precision
from tradeoff.networks.threat import random_start


@dataclass(frozen=True)
class Step:
    """Where training is, and what its inner attack may do.

    Attributes:
        frozen: the model as it is now, in eval mode and without parameter gradients.
        inner: threat and budget of the inner attack.
        generator: the only source of randomness, on the images' device.
        epoch, epochs: this epoch, from 0, and how many there are.
        batch, part: the size of the batch and the images of it that are at hand, where a batch is
            done in parts; a part's random start is then its share of the whole batch's.
    """

    frozen: nn.Module
    inner: InnerAttack
    generator: torch.Generator
    epoch: int
    epochs: int
    batch: int | None = None
    part: slice = field(default_factory=lambda: slice(None))

    def random_start(self, images: Tensor) -> Tensor:
        """A point drawn uniformly from the ball around each image, (N, C, H, W)."""
        threat, empty = self.inner.threat, self._empty(images)
        if threat.norm == "linf":
            noise = empty.uniform_(-1, 1, generator=self.generator)
        else:
            noise = empty.normal_(generator=self.generator)
        radius = images.new_empty(len(noise)).uniform_(generator=self.generator)
        return random_start(images, noise[self.part], radius[self.part], threat)

    def gaussian_start(self, images: Tensor) -> Tensor:
        """x + 0.001 N(0, 1), where the published TRADES and MART begin their ascent."""
        noise = self._empty(images).normal_(generator=self.generator)
        return images + 0.001 * noise[self.part]

    @torch.no_grad()
    def eval_logits(self, images: Tensor) -> Tensor:
        """f(x) in eval mode, (N, classes), to measure the divergence of points close to x from."""
        with full_precision(images):
            logits: Tensor = self.frozen(images)
        return logits

    def _empty(self, images: Tensor) -> Tensor:
        """Room for a number for each pixel of the whole batch."""
        # Not `empty_like`: numbers are drawn in the order of memory, whatever the images' layout.
        return images.new_empty(self.batch or len(images), *images.shape[1:])


class Finetuning(NamedTuple):
    """Which epochs are a defense's own; those before make the network that it fine-tunes.

    Attributes:
        first_epoch: from 0. Epochs before it are never chosen as the best one.
        rate: the peak learning rate from there on, as a share of train.learning_rate.
    """

    first_epoch: int
    rate: float


class Defense(Protocol):
    """The module of a defense, as the training loop sees it; `finetuning` is not in each."""

    SELECT_BY: Literal["robust", "natural"]

    def training_loss(
        self, model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Any, /
    ) -> "Loss":
        """The loss of one step: images (N, C, H, W) in [0, 1], labels (N,)."""


@dataclass(frozen=True)
class Loss:
    """The loss to minimise and, without gradient, what is worth plotting.

    Attributes:
        total: scalar with gradient.
        parts: scalars, averaged over an epoch.
        samples: one number per image (N,); mean, spread and per-class mean go into the history.
        classes: one number per class (C,), averaged over an epoch.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    samples: dict[str, Tensor] = field(default_factory=dict)
    classes: dict[str, Tensor] = field(default_factory=dict)
