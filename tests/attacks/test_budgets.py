"""The smallest budgets of params.yaml, those of digits, find nearly what large ones find.

Where they do not, average norms are too large, and by how much depends on the defense.
"""

from pathlib import Path
from typing import Any

import pytest
from small_networks import distances, robust, test_digits

from tests.attacks.calls import carlini_wagner, fmn
from tradeoff.core.study import Study

ROOT = Path(__file__).parents[2]
IMAGES = 60


def budget(attack: str) -> dict[str, Any]:
    """The knobs of an attack of digits' suite `minimal`, as its function takes them."""
    suite = Study.load(ROOT / "params.yaml").datasets["digits"].suite("minimal")
    return next(one.knobs.model_dump() for one in suite.attacks if one.name == attack)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_norms_are_within_a_twentieth_of_those_of_a_large_budget(norm):
    model, (images, labels) = robust(), test_digits(IMAGES)
    found = fmn(model, images, labels, **budget(f"fmn_{norm}"))
    best = fmn(model, images, labels, norm=norm, steps=400)
    mean, least = (distances(one.images, images, norm).mean() for one in (found, best))
    assert mean < 1.05 * least


def test_carlini_and_wagner_fool_nearly_all():
    model, (images, labels) = robust(), test_digits(IMAGES)
    adversarial = carlini_wagner(model, images, labels, **budget("carlini_wagner"))
    assert (model(adversarial.images).argmax(1) != labels).float().mean() > 0.9
