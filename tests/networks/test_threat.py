"""The threat's geometry: projections, directions, starts and norms."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from tradeoff.networks.randomness import normal, sample_keys, uniform
from tradeoff.networks.threat import (
    BallNorm,
    Threat,
    per_sample,
    perturbation_norm,
    project,
    random_start,
    steepest,
    step_up,
)

SHAPE = (3, 1, 2, 3)
NORMS: list[BallNorm] = ["linf", "l2"]
LOOSE = 2e-6  # float32 at the size of a pixel


def tensors(low: float, high: float) -> st.SearchStrategy[Tensor]:
    elements = st.floats(low, high, width=32, allow_subnormal=False)
    return arrays.arrays("float32", SHAPE, elements=elements).map(torch.from_numpy)


images = tensors(0, 1)
points = tensors(-3, 3)
threats = st.builds(Threat, st.just("linf"), st.floats(0, 1, width=32)) | st.builds(
    Threat, st.just("l2"), st.floats(0, 2, width=32)
)
cheap = settings(max_examples=150, deadline=None, derandomize=True)


def assert_inside(candidate: Tensor, image: Tensor, threat: Threat) -> None:
    assert candidate.min() >= 0 and candidate.max() <= 1
    distance = perturbation_norm(candidate - image, threat.norm)
    assert (distance <= threat.epsilon * (1 + 1e-5) + LOOSE).all()


@cheap
@given(candidate=points, image=images, threat=threats)
def test_projections_are_inside(candidate: Tensor, image: Tensor, threat: Threat) -> None:
    assert_inside(project(candidate, image, threat), image, threat)


@cheap
@given(candidate=points, image=images, threat=threats)
def test_projecting_twice_is_projecting_once(
    candidate: Tensor, image: Tensor, threat: Threat
) -> None:
    once = project(candidate, image, threat)
    torch.testing.assert_close(project(once, image, threat), once, rtol=0, atol=LOOSE)


@cheap
@given(candidate=points, image=images, threat=threats)
def test_points_inside_stay(candidate: Tensor, image: Tensor, threat: Threat) -> None:
    """Halfway between the image and a projected point, everything is allowed already."""
    inside = (project(candidate, image, threat) + image) / 2
    torch.testing.assert_close(project(inside, image, threat), inside, rtol=0, atol=LOOSE)


@cheap
@given(candidate=points, image=images, other=points, epsilon=st.floats(0, 1, width=32))
def test_linf_projects_to_the_nearest_point(
    candidate: Tensor, image: Tensor, other: Tensor, epsilon: float
) -> None:
    """In every norm: no allowed point is nearer, whichever one compares with."""
    threat = Threat("linf", epsilon)
    found, rival = project(candidate, image, threat), project(other, image, threat)
    distance, others = (candidate - found).abs(), (candidate - rival).abs()
    assert (distance <= others + LOOSE).all()


@cheap
@given(candidate=points, image=images, epsilon=st.floats(2**-7, 2, width=32))
def test_l2_keeps_the_direction_where_the_range_allows(
    candidate: Tensor, image: Tensor, epsilon: float
) -> None:
    threat = Threat("l2", epsilon)
    delta = candidate - image
    length = perturbation_norm(delta, "l2")
    expected = image + per_sample((epsilon / length.clamp_min(1e-12)).clamp_max(1), delta) * delta
    torch.testing.assert_close(
        project(candidate, image, threat), expected.clamp(0, 1), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(direction=points, exponent=st.integers(-37, 30))
def test_steepest_has_unit_norm_however_small_the_gradient(
    norm: BallNorm, direction: Tensor, exponent: int
) -> None:
    gradient = direction * 10.0**exponent
    zero = (gradient == 0).flatten(1).all(1)
    found = steepest(gradient, norm)
    assert found.isfinite().all()
    length = perturbation_norm(found, norm)
    torch.testing.assert_close(length, (~zero).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(gradient=points, other=points)
def test_no_direction_of_unit_norm_is_steeper(
    norm: BallNorm, gradient: Tensor, other: Tensor
) -> None:
    best = (steepest(gradient, norm) * gradient).flatten(1).sum(1)
    length = perturbation_norm(other, norm).clamp_min(1e-6)
    rival = (other / per_sample(length, other) * gradient).flatten(1).sum(1)
    assert (best >= rival - 1e-4).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20])
def test_tiny_and_huge_gradients_have_the_direction_of_ordinary_ones(scale: float) -> None:
    gradient = torch.tensor([3.0, -4.0, 0.0]).view(1, 1, 1, 3)
    torch.testing.assert_close(steepest(gradient * scale, "l2"), gradient / 5)
    assert steepest(gradient * scale, "linf").flatten().tolist() == [1, -1, 0]


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=100, deadline=None, derandomize=True)
@given(image=images, epsilon=st.floats(0, 1, width=32), counter=st.integers(0, 1000))
def test_random_starts_are_inside(
    norm: BallNorm, image: Tensor, epsilon: float, counter: int
) -> None:
    keys = sample_keys(torch.arange(len(image)), "threat")
    noise = {
        "linf": 2 * uniform(keys, counter, SHAPE[1:]) - 1,
        "l2": normal(keys, counter, SHAPE[1:]),
    }[norm]
    threat = Threat(norm, epsilon)
    start = random_start(image, noise, uniform(keys, counter + 1, ()), threat)
    assert_inside(start, image, threat)


def test_random_starts_fill_the_ball_uniformly() -> None:
    """Far from the bounds: (distance / epsilon)^dimension is uniform in l2, so is each pixel in
    linf; 4000 starts, so the mean of a uniform number is 0.5 within 0.02."""
    grey, dimension = torch.full((4000, 1, 1, 3), 0.5), 3
    keys = sample_keys(torch.arange(4000), "ball")
    radius = uniform(keys, 1, ())
    start = random_start(grey, normal(keys, 0, (1, 1, 3)), radius, Threat("l2", 0.3))
    delta = start - grey
    share = (perturbation_norm(delta, "l2") / 0.3) ** dimension
    torch.testing.assert_close(share, radius, rtol=1e-3, atol=1e-4)
    assert abs(share.mean().item() - 0.5) < 0.02
    assert delta.mean((0, 1, 2)).abs().max() < 0.01  # no direction is preferred
    covariance = torch.cov(delta.view(-1, 3).T)
    # Of a ball of radius r in three dimensions: r^2 / 5 in each.
    torch.testing.assert_close(covariance, 0.3**2 / 5 * torch.eye(3), rtol=0.06, atol=6e-4)
    noise = 2 * uniform(keys, 0, (1, 1, 3)) - 1
    start = random_start(grey, noise, radius, Threat("linf", 0.3))
    torch.testing.assert_close(start - grey, 0.3 * noise)


def test_norms_by_hand() -> None:
    delta = torch.tensor([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1e-9, 0.0, 2.0]]).view(3, 1, 1, 3)
    assert perturbation_norm(delta, "l2").tolist() == [5.0, 0.0, 2.0]
    assert perturbation_norm(delta, "linf").tolist() == [4.0, 0.0, 2.0]
    assert perturbation_norm(delta, "l0").tolist() == [2.0, 0.0, 2.0]


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_impossible_radii_are_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon is .*; it must be a finite number >= 0"):
        Threat("linf", epsilon)


def test_unknown_norms_are_refused() -> None:
    with pytest.raises(ValueError, match="norm is 'l1'; allowed are 'l2' and 'linf'"):
        Threat("l1", 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_for_each_image_is_what_it_would_be_alone(norm: BallNorm) -> None:
    """Start, step and projection, with a step length of its own as well."""
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(4, 1, 6, 6, generator=draws)
    noise = torch.rand(4, 1, 6, 6, generator=draws) * 2 - 1
    shares, slope = torch.rand(4, generator=draws), torch.randn(4, 1, 6, 6, generator=draws)
    radii, sizes = torch.tensor([0.05, 0.1, 0.3, 0.0]), torch.tensor([0.01, 0.2, 0.1, 0.1])
    together = Threat(norm, 0.3, radii)
    start = random_start(images, noise, shares, together)
    moved = step_up(start, slope, images, together, sizes)
    for i, (radius, size) in enumerate(zip(radii.tolist(), sizes.tolist(), strict=True)):
        row, alone = slice(i, i + 1), Threat(norm, radius)
        begun = random_start(images[row], noise[row], shares[row], alone)
        torch.testing.assert_close(start[row], begun)
        expected = step_up(begun, slope[row], images[row], alone, size)
        torch.testing.assert_close(moved[row], expected)
        assert perturbation_norm(moved[row] - images[row], norm) <= radius + 1e-6


@pytest.mark.parametrize("given", ["8/255", " 8 / 255", np.float64(8 / 255), torch.tensor(8 / 255)])
def test_a_radius_may_be_a_number_of_any_kind_or_a_quotient(given: Any) -> None:
    threat = Threat("linf", given)
    assert type(threat.epsilon) is float and threat.epsilon == pytest.approx(8 / 255)


@pytest.mark.parametrize(
    ("given", "message"),
    [(8, "write 8/255 for 8"), ("x", "such as 8/255"), ("1/0", "such as 8/255"),
     (True, "such as 8/255"), (torch.ones(2), "such as 8/255"), (None, "such as 8/255")],
)  # fmt: skip
def test_what_is_no_radius_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Threat("linf", given)
