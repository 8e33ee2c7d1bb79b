"""MART: its terms by hand, and that confident and half-precision logits do no harm."""

import math

import pytest
import torch
from torch import Tensor

from tradeoff.defenses import mart

LABELS = torch.tensor([0, 1, 2, 0])


def confident(size: float) -> Tensor:
    """Right, wrong, undecided between two, and all equal."""
    return torch.tensor(
        [[size, -size, -size], [size, -size, -size], [-size, size, size], [0.0, 0.0, 0.0]]
    )


def test_terms_by_hand() -> None:
    clean = torch.tensor([[0.5, 0.3, 0.2]]).log()
    attacked = torch.tensor([[0.2, 0.7, 0.1]]).log()
    total, boosted, divergence = mart.objective(clean, attacked, torch.tensor([0]), beta=5.0)
    assert boosted.item() == pytest.approx(-math.log(0.2) - math.log(1.0001 - 0.7), rel=1e-5)
    kl = 0.5 * math.log(0.5 / 0.2) + 0.3 * math.log(0.3 / 0.7) + 0.2 * math.log(0.2 / 0.1)
    assert divergence.item() == pytest.approx((1 - 0.5) * kl, rel=1e-5)
    assert total.item() == pytest.approx(boosted.item() + 5 * divergence.item(), rel=1e-6)


def test_the_weight_has_a_gradient_by_the_clean_logits() -> None:
    """With 1 - p_y constant, the gradient would be beta (1 - p_y) dKL/dz only."""
    clean = torch.tensor([[1.0, 0.5, -0.3]], dtype=torch.float64, requires_grad=True)
    attacked = torch.tensor([[-0.4, 0.9, 0.1]], dtype=torch.float64)
    labels = torch.tensor([0])
    gradient = torch.autograd.grad(mart.objective(clean, attacked, labels, 1.0)[0], clean)[0]
    for place in range(3):
        ends = []
        for shift in (1e-4, -1e-4):
            moved = clean.detach().clone()
            moved[0, place] += shift
            p, q = moved.softmax(1), attacked.softmax(1)
            ends.append(float((1 - p[0, 0]) * (p * (p / q).log()).sum()))
        assert gradient[0, place].item() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [5.0, 200.0, 3e4])
def test_confident_logits_give_finite_loss_and_gradients(dtype: torch.dtype, size: float) -> None:
    for clean_size, attacked_size in ((size, size), (size, -size), (0.0, size), (size, 0.0)):
        clean = confident(clean_size).to(dtype).requires_grad_()
        attacked = confident(attacked_size).to(dtype).requires_grad_()
        loss, _, _ = mart.objective(clean, attacked, LABELS, beta=5.0)
        assert loss.isfinite()
        for gradient in torch.autograd.grad(loss, (clean, attacked)):
            assert gradient.isfinite().all()


def test_half_precision_logits_are_treated_as_the_numbers_they_are() -> None:
    draws = torch.Generator().manual_seed(0)
    clean, attacked = (torch.randn(8, 5, generator=draws).bfloat16() for _ in range(2))
    labels = torch.arange(8) % 5
    low = mart.objective(clean, attacked, labels, 5.0)[0]
    full = mart.objective(clean.float(), attacked.float(), labels, 5.0)[0]
    assert low.dtype == torch.float32
    assert low == full


def test_a_wrong_confident_prediction_costs_more_than_a_right_one() -> None:
    right, wrong = torch.tensor([[9.0, 0.0]]), torch.tensor([[0.0, 9.0]])
    label = torch.tensor([0])
    assert mart.boosted_cross_entropy(wrong, label) > 9 + 5
    assert mart.boosted_cross_entropy(right, label) < 0.01
