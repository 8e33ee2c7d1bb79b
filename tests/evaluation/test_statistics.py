"""Intervals and detectable differences against hand-computed cases and simulations."""

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp

from tradeoff.evaluation.statistics import (
    holm,
    minimum_detectable_difference,
    t_interval,
    t_test,
    uncertainty,
)


def draw(
    draws: np.random.Generator,
    seeds: int,
    images: int,
    *,
    mean: float = 0.0,
    seed_sd: float = 0.0,
    image_sd: float = 0.0,
    rest_sd: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays whose difference has these components exactly; images vary in both alike."""
    common = draws.random((seeds, images))
    difference = (
        mean
        + seed_sd * draws.standard_normal((seeds, 1))
        + image_sd * draws.standard_normal((1, images))
        + rest_sd * draws.standard_normal((seeds, images))
    )
    return common + difference, common


def correct(
    draws: np.random.Generator, seeds: int, images: int, seed_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """0/1 results of two defenses of equal accuracy; the same images are hard for both."""
    hard = draws.uniform(0.2, 0.8, images)
    chances = [hard + seed_sd * draws.standard_normal((seeds, 1)) for _ in range(2)]
    return tuple(draws.random((seeds, images)) < chance for chance in chances)


def coverage(sample, repetitions: int = 400) -> float:
    """How often the t interval of a sample holds the true difference, 0."""
    draws = np.random.default_rng(1)
    intervals = (t_interval(*sample(draws)) for _ in range(repetitions))
    return sum(found.low <= 0 <= found.high for found in intervals) / repetitions


# --- t_interval and t_test --------------------------------------------------------------------


def test_difference_is_that_of_the_means_and_inside_the_interval():
    one, other = correct(np.random.default_rng(0), 3, 500, 0.05)
    found = t_interval(one, other)
    assert found.difference == pytest.approx(one.mean() - other.mean())
    assert found.low < found.difference < found.high
    assert t_interval(other, one).difference == -found.difference


def test_a_constant_difference_has_no_width():
    other = np.random.default_rng(0).integers(0, 2, (3, 100))
    assert t_interval(other + 1, other) == (1, 1, 1)
    assert minimum_detectable_difference(other + 1, other) == 0
    assert t_test(other + 1, other) == 0
    assert t_test(other, other) == 1


def test_pairing_takes_out_what_images_do_to_both():
    draws = np.random.default_rng(0)
    one = draws.random((1, 2000)) < 0.5
    flipped = one ^ (draws.random((1, 2000)) < 0.01)
    found = t_interval(one, flipped)
    # Unpaired, the standard error alone would be 0.016.
    assert found.high - found.low < 0.012


@pytest.mark.parametrize(
    "sample",
    [
        lambda draws: draw(draws, 3, 60, image_sd=1),
        lambda draws: correct(draws, 3, 360, 0.02),
        lambda draws: draw(draws, 3, 60, seed_sd=1, image_sd=0.1),
    ],
    ids=["images vary", "as trained networks do", "three seeds dominate"],
)
def test_coverage_is_not_short(sample):
    assert coverage(sample) >= 0.93


def test_the_test_and_the_interval_agree():
    draws = np.random.default_rng(3)
    for mean in (0.0, 0.1, 0.2, 0.4):
        one, other = draw(draws, 3, 60, mean=mean, seed_sd=0.05, image_sd=0.5)
        found, p = t_interval(one, other), t_test(one, other)
        assert (found.low > 0 or found.high < 0) == (p < 0.05)
        assert t_test(other, one) == pytest.approx(p)


def test_the_test_of_seeds_alone_is_the_textbook_one():
    values = np.array([0.1, 0.2, 0.6])
    one = np.repeat(values[:, None], 50, axis=1)
    assert t_test(one, 0 * one) == pytest.approx(ttest_1samp(values, 0).pvalue)


def test_holm_is_the_step_down_of_bonferroni():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, none smaller than the one before it.
    found = holm(np.array([0.03, 0.01, 0.04, 0.02]))
    np.testing.assert_allclose(found, [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    # What could not be tested is not one of the family.
    np.testing.assert_allclose(holm(np.array([np.nan, 0.02, 0.03])), [np.nan, 0.04, 0.04])
    assert holm(np.array([])).shape == (0,)


# --- uncertainty ------------------------------------------------------------------------------


def test_components_are_found_again():
    sds = {"seed_sd": 0.2, "image_sd": 0.5, "rest_sd": 1.0}
    found = uncertainty(*draw(np.random.default_rng(0), 400, 400, **sds))
    assert found.seed_variance == pytest.approx(0.04, rel=0.2)
    assert found.image_variance == pytest.approx(0.25, rel=0.2)
    assert found.rest_variance == pytest.approx(1, rel=0.02)
    variance = found.seed_variance / 400 + found.image_variance / 400
    assert found.standard_error**2 == pytest.approx(variance + found.rest_variance / 400**2)


def test_seeds_alone_are_the_textbook_t_test():
    one = np.repeat([[0.1], [0.2], [0.6]], 50, axis=1)
    found = uncertainty(one, np.zeros_like(one))
    assert found.standard_error == pytest.approx(np.std([0.1, 0.2, 0.6], ddof=1) / 3**0.5)
    assert found.degrees_of_freedom == pytest.approx(2)
    interval = t_interval(one, np.zeros_like(one))
    assert interval.high - interval.difference == pytest.approx(4.3027 * found.standard_error, 1e-4)


def test_a_single_seed_tells_of_images_only():
    one = np.array([[1.0, 0.0, 1.0, 1.0]])
    found = uncertainty(one, np.zeros_like(one))
    assert np.isnan(found.seed_variance) and found.degrees_of_freedom == 3
    assert found.standard_error == pytest.approx(one.std(ddof=1) / 2)


def test_components_are_not_negative():
    draws = np.random.default_rng(0)
    found = [uncertainty(*draw(draws, 3, 20, rest_sd=1)) for _ in range(100)]
    assert min(min(one.seed_variance, one.image_variance) for one in found) == 0


# --- minimum_detectable_difference ------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "sds"),
    [
        (3, {"seed_sd": 0.01, "image_sd": 0.5}),
        (3, {"seed_sd": 0.05, "image_sd": 0.1}),
        (8, {"seed_sd": 0.03, "image_sd": 0.5, "rest_sd": 0.5}),
    ],
    ids=["images dominate", "seeds dominate", "both"],
)
def test_power_at_the_minimum_detectable_difference(seeds, sds):
    """A difference of that size is found by the t interval in about 80 % of experiments."""
    draws = np.random.default_rng(2)
    images = 200
    variance = (
        sds["seed_sd"] ** 2 / seeds
        + sds["image_sd"] ** 2 / images
        + sds.get("rest_sd", 0) ** 2 / (seeds * images)
    )
    planned = [minimum_detectable_difference(*draw(draws, seeds, images, **sds)) for _ in range(50)]
    spread = [uncertainty(*draw(draws, seeds, images, **sds)) for _ in range(50)]
    # The estimate varies from experiment to experiment with its standard error; the factor does
    # not, so that it can be set against the true standard error.
    factor = np.median(planned) / np.median([one.standard_error for one in spread])
    mean = factor * variance**0.5
    found = sum(
        t_interval(*draw(draws, seeds, images, mean=mean, **sds)).low > 0 for _ in range(400)
    )
    assert 0.7 <= found / 400 <= 0.92


def test_factor_of_a_single_seed_is_the_normal_one():
    draws = np.random.default_rng(0)
    one, other = draw(draws, 1, 100_000, image_sd=1)
    expected = (norm.ppf(0.975) + norm.ppf(0.8)) * uncertainty(one, other).standard_error
    assert minimum_detectable_difference(one, other) == pytest.approx(expected, rel=1e-3)


def test_factor_of_three_seeds():
    one = np.repeat([[0.1], [0.2], [0.6]], 50, axis=1)
    expected = (4.3027 + 1.0607) * uncertainty(one, 0 * one).standard_error
    assert minimum_detectable_difference(one, 0 * one) == pytest.approx(expected, rel=1e-3)


def test_more_seeds_resolve_smaller_differences():
    draws = np.random.default_rng(0)
    sds = {"seed_sd": 0.05, "image_sd": 0.1}
    sizes = [
        np.median(
            [minimum_detectable_difference(*draw(draws, seeds, 100, **sds)) for _ in range(30)]
        )
        for seeds in (3, 10, 40)
    ]
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2]


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(3), np.zeros(3)),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.full((2, 3), np.nan), np.zeros((2, 3))),
    ],
)
def test_unusable_arrays(one, other):
    with pytest.raises(ValueError, match="arrays"):
        t_test(one, other)
    with pytest.raises(ValueError, match="arrays"):
        uncertainty(one, other)


def test_unusable_levels():
    zeros = np.zeros((2, 3))
    with pytest.raises(ValueError, match="level"):
        t_interval(zeros, zeros, level=95)
    with pytest.raises(ValueError, match="level"):
        t_interval(zeros, zeros, level=0)
    with pytest.raises(ValueError, match="alpha"):
        minimum_detectable_difference(zeros, zeros, alpha=0)
    with pytest.raises(ValueError, match="power"):
        minimum_detectable_difference(zeros, zeros, power=0.3)
    with pytest.raises(ValueError, match="single image"):
        uncertainty(np.zeros((2, 1)), np.zeros((2, 1)))
