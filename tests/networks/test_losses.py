"""Divergence, entropy, margin and rival classes, by hand and at extremes."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tradeoff.networks.losses import entropy, kl_divergence, likeliest_others, margin


def logits(count: int = 20, classes: int = 5, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, classes, generator=draws, dtype=torch.float64)


def test_divergence_is_its_definition_and_not_symmetric() -> None:
    clean, attacked = logits(seed=0), logits(seed=1)
    p, q = clean.softmax(1), attacked.softmax(1)
    expected = (p * (p / q).log()).sum(1)
    found = kl_divergence(F.log_softmax(clean, 1), attacked)
    torch.testing.assert_close(found, expected)
    other = kl_divergence(F.log_softmax(attacked, 1), clean)
    assert (found - other).abs().min() > 1e-3
    assert (found > 0).all()


def test_divergence_from_itself_is_zero() -> None:
    clean = logits()
    found = kl_divergence(F.log_softmax(clean, 1), clean)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-12)


def test_entropy_is_its_definition_and_at_most_ln_classes() -> None:
    values = logits()
    p = values.softmax(1)
    torch.testing.assert_close(entropy(values), -(p * p.log()).sum(1))
    assert entropy(torch.zeros(1, 10)).item() == pytest.approx(math.log(10))
    assert entropy(torch.tensor([[100.0, 0.0]])).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("size", [50.0, 1000.0, 1e30])
def test_certain_predictions_give_finite_values_and_gradients(size: float) -> None:
    one = torch.tensor([[size, -size, 0.0], [0.0, size, size]], requires_grad=True)
    other = torch.tensor([[-size, size, 0.0], [size, 0.0, size]], requires_grad=True)
    for loss in (entropy(one).sum(), kl_divergence(F.log_softmax(one, 1), other).sum()):
        assert loss.isfinite()
        for gradient in torch.autograd.grad(loss, [one, other], allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


def test_margin_is_the_lead_of_the_label() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.5], [3.0, 1.0, 2.5], [1.0, 1.0, 0.0]])
    found = margin(scores, torch.tensor([0, 2, 1]))
    torch.testing.assert_close(found, torch.tensor([0.5, -0.5, 0.0]))
    assert margin(torch.tensor([[-7.0, -9.0]]), torch.tensor([0])).item() == 2.0


def test_margin_is_negative_exactly_where_the_prediction_is_wrong() -> None:
    values, labels = logits(200), torch.arange(200) % 5
    assert torch.equal(margin(values, labels) < 0, values.argmax(1) != labels)


def test_likeliest_others_are_ranked_without_the_label() -> None:
    values = torch.tensor([[5.0, 1.0, 3.0, 2.0], [5.0, 1.0, 3.0, 2.0]])
    labels = torch.tensor([0, 2])
    assert likeliest_others(values, labels).tolist() == [[2, 3, 1], [0, 3, 1]]
    assert likeliest_others(values, labels, 2).tolist() == [[2, 3], [0, 3]]
    assert likeliest_others(values, labels, 99).tolist() == [[2, 3, 1], [0, 3, 1]]
