"""The certificate of randomized smoothing (Cohen et al. 2019, theorem 1 and algorithm CERTIFY).

A first set of noisy copies chooses the class c; a second one, of n copies of which k are predicted
c, bounds its probability from below by the Clopper-Pearson bound q of confidence 1 - failure. If
q > 1/2, no perturbation of an l2 norm below sigma Phi^-1(q) changes the smoothed prediction; else
the certificate abstains. It is wrong with probability `failure` at most, for each image.

A linf ball of radius r lies inside the l2 ball of radius r sqrt(d), d the number of components, so
the linf radius is that of l2 divided by sqrt(d).

Of a mixture (1 - alpha) g + alpha h, h smoothed, the proof is `mixture_radius` (Bai et al. 2023,
where shares of the votes stand in place of bounds). By q alone it is Cohen's with alpha q in place
of q: nothing is proved at alpha <= 1/2, nor of an image whose class h does not have. Their other
radius, by the Lipschitz constant sqrt(2 / pi) / sigma of h, is never larger. With ordinary
floating-point noise no such proof is strictly sound (Voracek & Hein 2023).
"""

import math
from typing import Any

import numpy as np
import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from tradeoff.certificates.ledger import Certificate
from tradeoff.core.schema import Fraction, PositiveInt, Section
from tradeoff.networks.randomness import normal
from tradeoff.networks.threat import Threat

NORMS = ("l2", "linf")
CLASSIFIERS = ("smoothed", "mixed_smoothed")


class Knobs(Section):
    selection: PositiveInt
    samples: PositiveInt
    failure: Fraction


def certify(
    classifier: Any,
    images: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    batch_size: int,
    knobs: Knobs,
) -> Certificate:
    """Predictions and certified radii of images (N, C, H, W), in the norm of the threat.

    Args:
        classifier: a `classifiers.smoothed.Smoothed` in eval mode, or a `classifiers.mixed.Mixed`
            of which it is the robust part; its network is sampled anew.
        keys: (N,) the images' random keys.
        batch_size: noisy copies at once; the result does not depend on it.
    """
    alpha, smoothed = getattr(classifier, "alpha", 1.0), getattr(classifier, "robust", classifier)
    selection, estimation = [], []
    for image, key in zip(images, keys, strict=True):
        draws = torch.arange(knobs.selection + knobs.samples, device=image.device)
        votes = _votes(smoothed, image, key, draws, batch_size)
        selection.append(votes[: knobs.selection])
        estimation.append(votes[knobs.selection :])
    certificate = from_votes(
        torch.stack(selection), torch.stack(estimation), smoothed.sigma, knobs.failure, alpha
    )
    scale = math.sqrt(images[0].numel()) if threat.norm == "linf" else 1.0
    return certificate._replace(radius=certificate.radius / scale)


@torch.no_grad()
def _votes(smoothed: Any, image: Tensor, key: Tensor, draws: Tensor, batch_size: int) -> Tensor:
    """The class predicted for each noisy copy of one image (C, H, W), on the CPU: (draws,)."""
    votes = []
    for numbers in draws.split(batch_size):
        # Keys are hashes, so that those of an image's copies meet no other image's.
        noise = normal(key + numbers, 0, tuple(image.shape))
        votes.append(smoothed.network(image + smoothed.sigma * noise).argmax(1).cpu())
    return torch.cat(votes)


def from_votes(
    selection: Tensor, estimation: Tensor, sigma: float, failure: float, alpha: float = 1.0
) -> Certificate:
    """The certificates of images from the classes of their noisy copies; radii are l2.

    Args:
        selection, estimation: (N, number of copies) int64, two independent sets for each image.
            Choosing the class and bounding it with the same copies would void the confidence.
        alpha: the weight of the smoothed network in a mixture; 1: it stands alone.
    """
    chosen = selection.mode(1).values  # of classes equally frequent the lowest
    counts = (estimation == chosen[:, None]).sum(1)
    probability = lower_bound(counts.numpy(), estimation.shape[1], failure)
    radius = torch.from_numpy(mixture_radius(probability, 1 - probability, sigma, alpha))
    return Certificate(chosen.where(radius > 0, -1), radius)


def mixture_radius(first: Any, second: Any, sigma: Any, alpha: Any) -> np.ndarray[Any, Any]:
    """The l2 radius in which (1 - alpha) g + alpha h keeps h's class, whatever g is; 0 if none.

    Args:
        first, second: at least the probability of h's class, and at most that of every other one.
        sigma: of the noise that h averages over; alpha = 1: h stands alone.
    """
    kept, rival = norm.ppf(alpha * first), norm.ppf(alpha * second + 1 - alpha)
    return np.maximum(sigma / 2 * (kept - rival), 0.0)


def lower_bound(count: Any, total: Any, failure: Any) -> np.ndarray[Any, Any]:
    """The one-sided Clopper-Pearson bound: `count` of `total` independent trials succeeded, and
    with confidence 1 - failure the probability of success is above the result."""
    return np.where(count > 0, beta.ppf(failure, np.maximum(count, 1), total - count + 1), 0.0)


@torch.no_grad()
def holds_on_validation(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, *, keys: Tensor, knobs: Any
) -> Tensor:
    """Whether a network is right about one noisy copy of each image, (N,) bool.

    Training with noise of `knobs.sigma` is selected by it: certified accuracy goes with it, and
    costs thousands of passes.
    """
    noise = normal(keys, 0, tuple(images.shape[1:]))
    correct: Tensor = model(images + knobs.sigma * noise).argmax(1) == labels
    return correct
