"""Random numbers by hash: the same wherever a sample is, and random all the same."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from tradeoff.networks.randomness import derive_seed, generator, normal, sample_keys, uniform

KEYS = sample_keys(torch.arange(4000), "test")
DRAWS = [uniform, normal]
DISTRIBUTIONS = {uniform: stats.uniform.cdf, normal: stats.norm.cdf}


def flat(keys: Tensor, counter: int = 0, draw=uniform, count: int = 5) -> Tensor:  # type: ignore[no-untyped-def]
    return draw(keys, counter, (count,))


def test_seeds_are_stable() -> None:
    """Other numbers here mean that every result of the study changes."""
    assert derive_seed("train", 0, 3) == 8347915222443054922
    assert derive_seed() == 724655455495936113
    drawn = uniform(sample_keys(torch.tensor([7]), "x"), 3, (3,))
    assert drawn.tolist() == [[0.23455822467803955, 0.05591452121734619, 0.7153826951980591]]


def test_seeds_depend_on_every_part_and_their_order() -> None:
    seeds = [
        derive_seed(*parts)
        for parts in [("a", 1), ("a", 2), (1, "a"), ("a", 1, 0), ("a",), ("b", 1), ("a", -1)]
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_of_equal_parts_give_equal_numbers() -> None:
    one, again, other = (torch.rand(5, generator=generator("p", i)) for i in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("draw", DRAWS)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    indices=st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True),
    counter=st.integers(0, 10**4),
    cut=st.integers(0, 30),
)
def test_a_samples_numbers_depend_on_neither_batch_nor_order(  # type: ignore[no-untyped-def]
    draw, indices: list[int], counter: int, cut: int
) -> None:
    def drawn(part: list[int]) -> Tensor:
        return draw(sample_keys(torch.tensor(part), "purpose"), counter, (2, 3))

    whole = drawn(indices)
    assert whole.shape == (len(indices), 2, 3)
    assert whole.dtype == torch.float32 and whole.isfinite().all()
    assert torch.equal(drawn(indices[::-1]), whole.flip(0))
    if 0 < cut < len(indices):
        apart = torch.cat([drawn(indices[:cut]), drawn(indices[cut:])])
        assert torch.equal(apart, whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_numbers() -> None:
    keys = sample_keys(torch.arange(4000, device="cuda"), "test")
    assert torch.equal(keys.cpu(), KEYS)
    assert torch.equal(flat(keys).cpu(), flat(KEYS))
    torch.testing.assert_close(flat(keys, draw=normal).cpu(), flat(KEYS, draw=normal))


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    assert torch.equal(flat(KEYS, count=9)[:, :4], flat(KEYS, count=4))


@pytest.mark.parametrize("counter", [0, 1, 2, 3, 10, 999, 2**31, 2**40])
@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_have_their_distribution(draw, counter: int) -> None:  # type: ignore[no-untyped-def]
    """Over samples at each position, over positions of each sample, and over both."""
    cdf = DISTRIBUTIONS[draw]
    values = draw(KEYS, counter, (20,)).double().numpy()
    if draw is uniform:
        assert values.min() >= 0 and values.max() < 1
    assert stats.kstest(values.ravel(), cdf).pvalue > 1e-4
    for position in (0, 7, 19):
        assert stats.kstest(values[:, position], cdf).pvalue > 1e-4
    one_sample = draw(KEYS[:1], counter, (4000,)).double().numpy()
    assert stats.kstest(one_sample.ravel(), cdf).pvalue > 1e-4


def correlation(one: Tensor, other: Tensor) -> float:
    return abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1].item())


@pytest.mark.parametrize("draw", DRAWS)
def test_neighbours_are_independent(draw) -> None:  # type: ignore[no-untyped-def]
    """Neighbouring positions, samples, counters and purposes; 20 000 pairs, so 5 sigma is 0.035."""
    values = draw(KEYS, 0, (20,))
    pairs = {
        "positions": (values[:, :-1], values[:, 1:]),
        "samples": (values[:-1], values[1:]),
        "counters": (values, draw(KEYS, 1, (20,))),
        "purposes": (values, draw(sample_keys(torch.arange(4000), "other"), 0, (20,))),
        "seeds": (values, draw(sample_keys(torch.arange(4000), "test", 1), 0, (20,))),
        "shifted counters": (values[:, 1:], draw(KEYS, 1, (20,))[:, :-1]),
    }
    for name, (one, other) in pairs.items():
        assert correlation(one, other) < 0.02, name
        assert (one == other).float().mean() < 1e-3, name
        # Of the squares as well: uncorrelated numbers need not be independent.
        squares = [(x - x.mean()).square() for x in (one, other)]
        assert correlation(*squares) < 0.02, name


def test_uniform_and_normal_of_one_counter_share_no_visible_pattern() -> None:
    """Attacks draw a direction and a radius with different counters; both kinds from one key."""
    assert correlation(uniform(KEYS, 1, ()), normal(KEYS, 0, (1,)).flatten()) < 0.08
    cells = torch.stack([uniform(KEYS, 0, ()), uniform(KEYS, 1, ())]).mul(8).long()
    counts = torch.bincount(cells[0] * 8 + cells[1], minlength=64).double().numpy()
    assert stats.chisquare(counts).pvalue > 1e-4


def test_keys_are_distinct() -> None:
    keys = sample_keys(torch.arange(200_000), "test")
    assert len(keys.unique()) == len(keys)
    assert not torch.isin(sample_keys(torch.arange(200_000), "other"), keys).any()


def test_normal_has_the_tails_that_24_bits_allow() -> None:
    values = normal(sample_keys(torch.arange(20_000), "tails"), 0, (20,))
    assert values.abs().max() <= math.sqrt(2 * 24 * math.log(2)) + 1e-5
    assert values.max() > 4 and values.min() < -4


def test_a_scalar_draw_has_one_number_per_sample() -> None:
    assert uniform(KEYS, 0, ()).shape == (4000,)
    assert torch.equal(uniform(KEYS, 0, ()), flat(KEYS, count=1).flatten())
