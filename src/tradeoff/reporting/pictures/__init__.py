"""The figures of a data set, by subject: one file each, with its drawing and its texts."""

from tradeoff.reporting.pictures import (
    classes,
    cost,
    curve,
    examples,
    gradients,
    mixtures,
    roc,
    tradeoff,
    training,
    transfer,
    weights,
)
from tradeoff.reporting.pictures.picture import Picture
from tradeoff.reporting.view import View

__all__ = ["Picture", "pictures"]

SUBJECTS = {
    "tradeoff": tradeoff, "mixtures": mixtures, "training": training, "lambda": weights,
    "classes": classes, "curve": curve, "roc": roc, "transfer": transfer, "examples": examples,
    "gradients": gradients, "cost": cost,
}  # fmt: skip


def pictures(view: View) -> dict[str, list[Picture]]:
    """A subject has one for each architecture or defense, just one, or none where the results lack
    it."""
    return {subject: module.pictures(view) for subject, module in SUBJECTS.items()}
