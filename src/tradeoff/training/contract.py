"""What the training loop hands to a defense and what it gets back.

A defense is a module of `tradeoff.defenses`. Only `Knobs` is required:

    class Knobs(Section)             its section of params.yaml (names of core.schema)
    SELECT_BY                        "robust" | "natural" | "certified": the accuracy on validation
                                     that chooses the epoch; "natural" if nothing is said
    BASES = ("teacher",)             roles of other cells' models that it needs: study.bases
    SHARED = ("labelled",)           knobs that must be the same in the sections of its bases
    START = "robust"                 the role with whose weights training begins; its section then
                                     has a key `fine_tuning`
    NETWORKS = 2                     how many networks train together; 1 if nothing is said
    CLASSIFIER = "plain"             what its networks make: a module of tradeoff.classifiers
    CERTIFICATE = "smoothing"        what can be proved of that: a module of tradeoff.certificates
    ONE_STEP = True                  its examples are one step's: the history watches for collapse
    training_loss(model, images, labels, step, knobs) -> Loss      absent: nothing is trained, the
                                     classifier is made of the bases' networks
    training_set(train, bases, threat, knobs) -> Subset            absent: all of it

`training_loss` makes its adversarial examples with `step.frozen`, an eval-mode twin, so that they
neither use nor touch the batch's BatchNorm statistics, and its objective with `model`, in train
mode, where a cross-entropy with the labels takes `step.targets(labels)`. What it does is composed
of pure functions of tensors, which tests feed with known numbers. A defense may import any other:
its text in the folder code lists what it reaches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.networks.ascent import InnerAttack, full_precision
from tradeoff.networks.threat import random_start


@dataclass(frozen=True)
class Step:
    """Where training is, what its inner attack may do, and what it may look at.

    Attributes:
        frozen: the model as it is now, in eval mode and without parameter gradients.
        inner: threat and budget of the inner attack; its epsilon may be one for each image (N,).
        generator: the only source of randomness, on the images' device.
        epoch, epochs: this epoch, from 0, and how many there are.
        progress: the share of all steps that is done, in [0, 1), for curricula.
        network: the model itself, whose layers can be read: neither compiled nor counted.
        bases: by role the classifiers of other cells, in eval mode and frozen.
        memory: tensors that a defense keeps from step to step, and that survive an interruption.
        classes, label_smoothing: see `targets`.
        batch, part: the size of the batch and the images of it that are at hand, where a batch is
            done in parts; a part's random start is then its share of the whole batch's.
    """

    frozen: nn.Module
    inner: InnerAttack
    generator: torch.Generator
    epoch: int
    epochs: int
    progress: float
    network: nn.Module
    bases: Mapping[str, nn.Module] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    classes: int = 0
    label_smoothing: float = 0.0
    batch: int | None = None
    part: slice = field(default_factory=lambda: slice(None))

    def random_start(self, images: Tensor) -> Tensor:
        """A point drawn uniformly from the ball around each image, (N, C, H, W)."""
        threat, empty = self.inner.threat, self._empty(images)
        if threat.norm == "linf":
            noise = empty.uniform_(-1, 1, generator=self.generator)
        else:
            noise = empty.normal_(generator=self.generator)
        return random_start(images, noise[self.part], self.uniform(images), threat)

    def gaussian_noise(self, images: Tensor) -> Tensor:
        """Standard normal numbers, (N, C, H, W)."""
        return self._empty(images).normal_(generator=self.generator)[self.part]

    def uniform(self, images: Tensor) -> Tensor:
        """A number in [0, 1) for each image, (N,)."""
        numbers = images.new_empty(self.batch or len(images))
        return numbers.uniform_(generator=self.generator)[self.part]

    def gaussian_start(self, images: Tensor) -> Tensor:
        """x + 0.001 N(0, 1), where the published TRADES and MART begin their ascent."""
        return images + 0.001 * self.gaussian_noise(images)

    def targets(self, labels: Tensor) -> Tensor:
        """What the loss's cross-entropy is taken with: the labels (N,), or, with
        train.label_smoothing s, probabilities (N, classes) of which s is spread over all."""
        if not self.label_smoothing:
            return labels
        certain = F.one_hot(labels, self.classes).float()
        return certain.lerp(certain.new_tensor(1 / self.classes), self.label_smoothing)

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
