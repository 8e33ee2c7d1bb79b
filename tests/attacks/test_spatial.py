"""Rotations and translations: the transformation itself, and the search for the worst."""

import pytest
import torch
from torch import Tensor, nn

from tests.attacks.calls import KNOBS, spatial
from tests.attacks.trained import LINF, trained
from tradeoff.attacks.spatial import Knobs, placement
from tradeoff.core.study import Attack, Suite
from tradeoff.evaluation import evaluate
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.spatial import transform

SUBJECT = trained().first(80)
GIVEN = (SUBJECT.model, SUBJECT.images, SUBJECT.labels, LINF)


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def still(count: int = 3) -> Tensor:
    return torch.zeros(count)


def test_nothing_moves_by_nothing_and_a_full_turn_is_none() -> None:
    for degrees in (0.0, 360.0):
        moved = transform(images(), torch.full((3,), degrees), still(), still())
        torch.testing.assert_close(moved, images(), atol=2e-5, rtol=0)


def test_a_shift_by_whole_pixels_is_a_roll_with_black_behind_it() -> None:
    moved = transform(images(), still(), torch.full((3,), 2 / 8), torch.full((3,), -1 / 8))
    expected = torch.zeros_like(images())
    expected[:, :, :7, 2:] = images()[:, :, 1:, :6]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_an_image_is_turned_first_and_then_moved() -> None:
    """By a quarter counter-clockwise, then one pixel to the right."""
    quarter = torch.full((3,), 90.0)
    moved = transform(images(), quarter, torch.full((3,), 1 / 8), still())
    turned = torch.rot90(images(), 1, (2, 3))
    expected = torch.zeros_like(turned)
    expected[..., 1:] = turned[..., :-1]
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_the_worst_of_more_is_worse_and_the_clean_image_is_one_of_them() -> None:
    model, labels = SUBJECT.model, SUBJECT.labels
    accuracies = [(model(SUBJECT.images).argmax(1) == labels).float().mean()]
    for tries in (1, 5, 20):
        found = spatial(*GIVEN, keys=SUBJECT.keys, tries=tries).images
        accuracies.append((model(found).argmax(1) == labels).float().mean())
        assert found.min() >= 0 and found.max() <= 1
    assert accuracies == sorted(accuracies, reverse=True) and accuracies[-1] < accuracies[0]
    nowhere = spatial(*GIVEN, keys=SUBJECT.keys, degrees=0.0, shift=0.0).images
    torch.testing.assert_close(nowhere, SUBJECT.images, atol=1e-5, rtol=0)


def test_a_grid_finds_the_one_placement_that_fools() -> None:
    class Corner(nn.Module):
        """Class 1 where the pixel in the upper left corner is white."""

        def forward(self, points: Tensor) -> Tensor:
            return torch.stack([torch.full((len(points),), 0.5), points[:, 0, 0, 0]], 1)

    dot = torch.zeros(1, 1, 8, 8)
    dot[0, 0, 2, 2] = 1.0
    label = torch.zeros(1, dtype=torch.long)
    knobs = {"tries": None, "degrees": 10.0, "angles": 3, "shifts": 5}
    found = spatial(Corner().eval(), dot, label, LINF, keys=label, shift=2 / 8, **knobs)
    assert found.images[0, 0, 0, 0] > 0.5 and found.queries.item() > 1
    near = spatial(Corner().eval(), dot, label, LINF, keys=label, shift=1 / 8, **knobs)
    assert near.queries.item() == 1 + 3 * 5 * 5
    assert torch.equal(near.images, dot)


def test_the_grid_is_every_combination_and_its_middle_moves_nothing() -> None:
    knobs = Knobs.model_validate(KNOBS["spatial"] | {"tries": None, "angles": 3, "shifts": 3})
    places = [placement(knobs, torch.zeros(1), number)[0] for number in range(1, 28)]
    assert len({tuple(place.tolist()) for place in places}) == 27
    assert torch.equal(places[13], torch.zeros(3))


def test_an_image_is_turned_alike_in_any_batch() -> None:
    some = slice(20, 30)
    together = spatial(*GIVEN, keys=SUBJECT.keys)
    alone = spatial(
        SUBJECT.model, SUBJECT.images[some], SUBJECT.labels[some], LINF, keys=SUBJECT.keys[some]
    )
    torch.testing.assert_close(alone.images, together.images[some], atol=1e-5, rtol=0)


def test_spatial_and_adversarial_accuracy_are_a_pair() -> None:
    """As docs/evaluation.md has it: a suite made by hand."""
    worst = Attack("spatial", "spatial", Knobs.model_validate(KNOBS["spatial"]))
    turned = Suite("spatial", None, 40, ["best"], None, (worst,))
    _, found = evaluate(SUBJECT.model, SUBJECT.images, SUBJECT.labels, LINF, turned)
    keys = sample_keys(torch.arange(len(SUBJECT.labels)), "spatial")
    images = spatial(*GIVEN, keys=keys).images
    right = SUBJECT.model(images).argmax(1) == SUBJECT.labels
    assert found["RA"] == right.double().mean().item() < found["NA"]


@pytest.mark.parametrize(("knob", "value"), [("degrees", 181), ("shift", 1.5), ("tries", 0)])
def test_a_turn_beyond_half_a_circle_and_a_shift_beyond_the_image_are_refused(
    knob: str, value: float
) -> None:
    with pytest.raises(ValueError, match=knob):
        Knobs.model_validate(KNOBS["spatial"] | {knob: value})
