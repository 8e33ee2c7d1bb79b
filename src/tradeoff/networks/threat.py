"""What an attacker may do: the norm and radius of the perturbation, inside the image range.

Images are float tensors (N, C, H, W) in [0, 1]; epsilon is in the same units.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["l0", "l2", "linf"]
BallNorm = Literal["l2", "linf"]


@dataclass(frozen=True)
class Threat:
    """All x' in [0, 1] with ||x' - x||_norm <= epsilon.

    Attributes:
        epsilon: the radius, a float, which may be given as `radius_of` takes it.
        radii: one radius for each image (N,), in its place; for training only.

    Raises:
        ValueError: epsilon is no number, negative, not finite or, in linf, larger than the range of
            images, or the norm is not "l2" or "linf".
    """

    norm: BallNorm
    epsilon: float
    radii: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.norm not in ("l2", "linf"):
            raise ValueError(f"norm is {self.norm!r}; allowed are 'l2' and 'linf'")
        object.__setattr__(self, "epsilon", radius_of(self.epsilon))
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ValueError(f"epsilon is {self.epsilon}; it must be a finite number >= 0")
        if self.norm == "linf" and self.epsilon > 1:
            raise ValueError(
                f"epsilon is {self.epsilon:g}; for linf it must be 1 or less, as images are in "
                f"[0, 1]: write {self.epsilon:g}/255 for {self.epsilon:g}"
            )

    @property
    def radius(self) -> float | Tensor:
        """Epsilon, or the radii of the images as (N, 1, 1, 1)."""
        return self.epsilon if self.radii is None else self.radii.view(-1, 1, 1, 1)


def radius_of(value: object) -> float:
    """A radius given as a number, a NumPy or torch scalar, or a text such as 0.3 or 8/255.

    Raises:
        ValueError: it is none of these.
    """
    try:
        if isinstance(value, str):
            numerator, _, denominator = value.partition("/")
            return float(numerator) / float(denominator or 1)
        if isinstance(value, bool | complex):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError):
        raise ValueError(f"epsilon is {value!r}; a number or a quotient such as 8/255") from None


def project(candidate: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """The point of the threat's set nearest to `candidate` (for l2: ball first, then range)."""
    if threat.norm == "linf":
        inside = candidate.clamp(images - threat.radius, images + threat.radius)
    else:
        delta = candidate - images
        length = per_sample(perturbation_norm(delta, "l2").clamp_min(1e-12), delta)
        inside = images + delta * (threat.radius / length).clamp_max(1)
    return inside.clamp(0, 1)


def steepest(gradient: Tensor, norm: BallNorm) -> Tensor:
    """The direction of unit norm (N, C, H, W) along which a linear function grows fastest."""
    if norm == "linf":
        return gradient.sign()
    # A gradient below float32's smallest square would have length 0: scale it up first.
    largest = gradient.abs().flatten(1).amax(1)
    scaled = gradient / per_sample(largest.where(largest > 0, 1), gradient)
    length = perturbation_norm(scaled, "l2").clamp_min(1e-12)
    return scaled / per_sample(length, gradient)


def step_up(
    current: Tensor, direction: Tensor, images: Tensor, threat: Threat, step_size: float | Tensor
) -> Tensor:
    """One projected step along the steepest direction of the norm.

    Args:
        step_size: its length, one for all images or one for each (N,).
    """
    if isinstance(step_size, Tensor):
        step_size = per_sample(step_size, images)
    return project(current + step_size * steepest(direction, threat.norm), images, threat)


def random_start(images: Tensor, noise: Tensor, radius: Tensor, threat: Threat) -> Tensor:
    """A point drawn uniformly from the ball around each image, clipped to [0, 1].

    Args:
        noise: (N, C, H, W), uniform in [-1, 1] for linf, standard normal for l2.
        radius: (N,) uniform in [0, 1); used for l2 only.
    """
    if threat.norm == "linf":
        return (images + threat.radius * noise).clamp(0, 1)
    scale = threat.radius * per_sample(radius ** (1 / images.shape[1:].numel()), noise)
    return project(images + scale * steepest(noise, "l2"), images, threat)


def perturbation_norm(delta: Tensor, norm: Norm) -> Tensor:
    """Norm of each sample's perturbation, (N, C, H, W) -> (N,); l0 counts changed components."""
    flat = delta.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).to(delta.dtype)
    # Several times as fast as torch.linalg.vector_norm of infinite order.
    return torch.linalg.vector_norm(flat, dim=1) if norm == "l2" else flat.abs().amax(1)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1, 1), to multiply each sample of `like` by its own number."""
    return values.view(-1, *[1] * (like.dim() - 1))
