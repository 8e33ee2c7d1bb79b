"""What bounds of the logits say of a label: the worst logits, and whether it is certified."""

from typing import Protocol

import torch
from torch import Tensor


class Bounded(Protocol):
    """A network over a ball around each image, as bounds see it."""

    @property
    def centre(self) -> Tensor:
        """Logits that lie between the bounds, (N, classes)."""

    def extremes(self, functionals: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds, (N, M), of functionals (N, M, classes) of the logits."""


def worst_logits(bounded: Bounded, labels: Tensor) -> Tensor:
    """J: how far logit j can rise above the label's, at most, over the ball; (N, classes).

    J_y = 0. The cross-entropy of J against y is at least the worst cross-entropy over the ball
    (Wong & Kolter 2018, theorem 2).

    Args:
        labels: y, (N,).
    """
    eye = torch.eye(bounded.centre.shape[1]).to(bounded.centre)
    _, upper = bounded.extremes(eye - eye[labels][:, None])
    return upper.scatter(1, labels[:, None], 0)


def is_certified(worst: Tensor, labels: Tensor) -> Tensor:
    """Whether J proves that no point of the ball is given another class than the label, (N,) bool
    (corollary 1).

    With the model's own prediction in place of the label this is the detector of corollary 2. An
    image at which it fails may be a perturbation, by the ball's radius or less, of one that the
    model classifies otherwise; one at which it holds is none. So no attack passes unflagged.
    """
    return worst.scatter(1, labels[:, None], float("-inf")).amax(1) < 0


def ramped(epsilon: float, progress: float, start: float, ramp: float) -> float:
    """The radius of a training step: from `start` epsilon in a straight line to epsilon.

    Args:
        progress: the share of training that is done, in [0, 1).
        ramp: the share of training in which the radius grows; 0: it is epsilon from the beginning.
    """
    share = 1.0 if progress >= ramp else progress / ramp
    return epsilon * (start + share * (1 - start))
