"""Root and logarithm past MKL: torch's numbers up to a unit in the last place."""

import pytest
import torch

from tradeoff.networks.elementary import log, sqrt


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_they_are_torchs(kind: torch.dtype) -> None:
    values = torch.cat([torch.tensor([0.0, 1.0, 4.0]), torch.logspace(-30, 30, 997)]).to(kind)
    tolerance = 3 * torch.finfo(kind).eps
    for ours, theirs in ((sqrt, torch.sqrt), (log, torch.log)):
        torch.testing.assert_close(ours(values), theirs(values), rtol=tolerance, atol=0)


def test_the_logarithm_has_its_gradient() -> None:
    values = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log, values)
