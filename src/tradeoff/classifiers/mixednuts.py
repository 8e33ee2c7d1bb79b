"""MixedNUTS (Bai, Zhou, Patel & Sojoudi 2024): a mixture that needs no training and no tuning.

    log((1 - alpha) onehot(argmax g(x)) + alpha softmax(v)),    v = scale sign(u) |u|^power,
    u = GELU(t + bias),    t the robust network's logits, less their mean, by their deviation

g is the natural network. A network that is robust is surer of what it gets right under attack than
of what it gets wrong; the map v makes that gap of margins larger, and so alpha can be chosen such
that the natural network decides where the robust one is unsure. `calibrate` does so on validation
images (the authors use test images).

The one-hot vector and the steep map hide gradients. The authors' attack climbs another mixture,

    log((1 - b) p_g + 0.9 b p_h + 0.1 b softmax(v)),    p_g, p_h the networks' probabilities

and success is what the classifier itself says: so does `surrogate()`.
"""

from collections.abc import Sequence
from itertools import product
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from tradeoff.attacks.apgd import Knobs as Apgd
from tradeoff.attacks.apgd import apgd
from tradeoff.classifiers.mixed import mix
from tradeoff.core.schema import BadParams, Fraction, Number, Positive, PositiveInt, Section
from tradeoff.networks.gradients import with_gradient_of
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat

LARGEST = 250  # logits that are normalised by, if there are so many
IMAGES = 1000  # that calibration takes at most


class Knobs(Section):
    """The search of `calibrate`, and the attack in it.

    Attributes:
        scale, bias, power: least and greatest value; the scale's are spaced by ratio.
        points: values tried of each.
        kept: share of the images right under attack whose margins stay above the threshold.
        steps: of APGD, which attacks the robust network.
        surrogate_alpha: b, the weight of the robust network in what an attack climbs.
    """

    scale: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    bias: Annotated[list[Number], Field(min_length=2, max_length=2)]
    power: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    points: PositiveInt
    kept: Fraction
    steps: PositiveInt
    surrogate_alpha: Fraction


def normalized(logits: Tensor, largest: int = LARGEST) -> Tensor:
    """Logits less the mean of the largest ones, by their deviation (unbiased), (N, classes)."""
    top = logits.topk(min(largest, logits.shape[1])).values
    variance, mean = torch.var_mean(top, 1, keepdim=True)
    return (logits - mean) * (variance + 1e-8).rsqrt()


def sharpened(
    logits: Tensor, scale: float | Tensor, bias: float | Tensor, power: float | Tensor
) -> Tensor:
    """v, the nonlinear map of normalised logits, (N, classes)."""
    clamped = F.gelu(normalized(logits) + bias)
    return scale * clamped.sign() * clamped.abs() ** power


def margins(logits: Tensor) -> Tensor:
    """The highest probability less the second, (N,)."""
    first, second = logits.softmax(1).topk(2).values.unbind(1)
    return first - second


def thresholds(
    right: Tensor, wrong: Tensor, grid: Sequence[tuple[float, float, float]], kept: float
) -> tuple[Tensor, Tensor]:
    """For each place of the grid a threshold of margins, and the share of `wrong` that pass it.

    Args:
        right: logits of attacked images that the robust network still gets right, (R, classes).
        wrong: logits of clean images that it gets wrong, (W, classes).
        grid: of (scale, bias, power).
        kept: the share of `right` whose margin is above the threshold.
    """
    least = [torch.quantile(margins(sharpened(right, *place)), 1 - kept) for place in grid]
    passing = [
        (margins(sharpened(wrong, *place)) >= threshold.clamp_max(1 - 1e-9)).sum()
        for place, threshold in zip(grid, least, strict=True)
    ]
    return torch.stack(least), torch.stack(passing).double() / max(len(wrong), 1)


class MixedNuts(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logarithms of mixed probabilities (N, classes)."""

    calibrated: Tensor

    def __init__(self, natural: nn.Module, robust: nn.Module, knobs: Knobs) -> None:
        super().__init__()
        self.natural, self.robust, self.knobs = natural, robust, knobs
        # scale, bias, power, alpha
        self.register_buffer("calibrated", torch.ones(4, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.natural(images), self.robust(images))

    def output(self, natural: Tensor, robust: Tensor) -> Tensor:
        """What is deployed, from the networks' logits; inside in float64, for margins near 1."""
        scale, bias, power, alpha = self.calibrated
        sure = F.log_softmax(sharpened(robust.double(), scale, bias, power), 1) + alpha.log()
        chosen = F.one_hot(natural.argmax(1), natural.shape[1]).double()
        mixed = torch.logaddexp(sure, chosen.log() + (1 - alpha).log())
        return mixed.to(robust.dtype)

    def undefended(self) -> nn.Module:
        return self.robust

    def surrogate(self) -> nn.Module:
        return _Surrogate(self).eval()

    def calibrate(self, images: Tensor, labels: Tensor, threat: Threat) -> None:
        """Choose scale, bias, power and alpha on images held out of training.

        Raises:
            BadParams: no image is right under attack; there is nothing to choose by.
        """
        images, labels, knobs = images[:IMAGES], labels[:IMAGES], self.knobs
        robust = _Normalized(self.robust).eval()
        keys = sample_keys(torch.arange(len(labels), device=labels.device), "calibrate")
        logits = [robust(images)]
        for loss in ("ce", "targeted_dlr"):
            budget = Apgd(loss=loss, targets=9, steps=knobs.steps, restarts=1)
            logits.append(robust(apgd(robust, images, labels, budget, threat, keys).images))
        clean, *attacked = (each.double() for each in logits)
        right = torch.cat([each[each.argmax(1) == labels] for each in attacked])
        if not len(right):
            raise BadParams("the robust base of mixednuts is right on no attacked validation image")
        scales = np.geomspace(knobs.scale[0], knobs.scale[1], knobs.points)
        biases = np.linspace(knobs.bias[0], knobs.bias[1], knobs.points)
        powers = np.linspace(knobs.power[0], knobs.power[1], knobs.points)
        grid = list(product(scales.tolist(), biases.tolist(), powers.tolist()))
        least, passing = thresholds(right, clean[clean.argmax(1) != labels], grid, knobs.kept)
        best = int(passing.argmin())  # the first of equal ones
        self.calibrated.copy_(torch.tensor([*grid[best], 1 / (1 + float(least[best]))]))


class _Normalized(nn.Module):
    """A network whose logits are normalised: an attack on it sees no vanishing gradients."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return normalized(self.network(images))


class _Surrogate(nn.Module):
    """The mixture that an attack climbs, which says what the classifier says."""

    def __init__(self, model: MixedNuts) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        natural, robust = self.model.natural(images), self.model.robust(images)
        climbed = smooth(self.model, natural, robust)
        # Where the two disagree on the class, its two logits change places: an attack must not
        # stop where the surrogate alone is fooled.
        said = self.model.output(natural, robust).argmax(1, keepdim=True)
        own = climbed.argmax(1, keepdim=True)
        swapped = climbed.scatter(1, said, climbed.gather(1, own))
        return with_gradient_of(climbed, swapped.scatter(1, own, climbed.gather(1, said)))


def smooth(model: MixedNuts, natural: Tensor, robust: Tensor) -> Tensor:
    """The mixture that an attack climbs, (N, classes), from the networks' logits."""
    scale, bias, power, _ = model.calibrated.to(robust.dtype)
    sure = sharpened(robust, scale, bias, power)
    return mix(natural, mix(robust, sure, 0.1), model.knobs.surrogate_alpha)


def build(
    networks: Sequence[nn.Module], knobs: Knobs, *, image: tuple[int, ...], seed: int
) -> nn.Module:
    """The mixture of two networks, the natural one first; `calibrate` comes before its use."""
    natural, robust = networks
    return MixedNuts(natural, robust, knobs)
