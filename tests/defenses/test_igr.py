"""Input-gradient regularization against golden numbers."""

from typing import Literal

import pytest
import torch

from tests import golden, tiny
from tradeoff.defenses import igr
from tradeoff.networks.threat import perturbation_norm


@pytest.mark.parametrize("penalty", ["label", "certainty"])
def test_input_gradient_regularization(penalty: Literal["label", "certainty"]) -> None:
    name = "igr" if penalty == "label" else "igr/certainty"
    model = golden.network("digits/state").double()
    images, labels = golden.tensor("digits/x").double(), golden.tensor("digits/y")
    cross_entropy, gradient = igr.input_gradients(model, images, labels, penalty)
    golden.assert_close(cross_entropy.detach(), golden.tensor("igr/cross_entropy"))
    golden.assert_close(gradient.detach(), golden.tensor(f"{name}/input_gradient"))
    squared = perturbation_norm(gradient.detach(), "l2").square()
    if penalty == "label":
        golden.assert_close(squared, golden.tensor("igr/squared_norm"))
    golden.assert_close(squared.sum() / 2, golden.tensor(f"{name}/penalty"))
    weight = golden.number("igr/lambda") / (2 * len(images))
    knobs = igr.Knobs(weight=weight, penalty=penalty)
    loss = igr.training_loss(model, images, labels, golden.step(tiny.calm(model)), knobs)
    golden.assert_loss_and_gradients(name, model, loss.total)


def test_the_weight_does_not_depend_on_the_size_of_the_batch() -> None:
    """The authors' lambda does: a batch that is there twice has the same loss here."""
    model = tiny.calm(golden.network("digits/state").double())
    images, labels = golden.tensor("digits/x").double(), golden.tensor("digits/y")
    knobs, step = igr.Knobs(weight=3.0, penalty="label"), golden.step(model)
    once = igr.training_loss(model, images, labels, step, knobs)
    twice = igr.training_loss(
        model, torch.cat([images, images]), torch.cat([labels, labels]), step, knobs
    )
    torch.testing.assert_close(once.total, twice.total)
