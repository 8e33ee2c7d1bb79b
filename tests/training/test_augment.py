"""Random crops and flips."""

import torch
import torch.nn.functional as F

from tradeoff.networks.randomness import generator
from tradeoff.training.augment import crop_and_flip


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 6, 7, generator=generator("images"))


def test_each_image_is_a_crop_of_its_padded_self_flipped_or_not() -> None:
    before = images(300)
    after = crop_and_flip(before, generator("augment"), padding=2)
    padded = F.pad(before, [2] * 4)
    seen = set()
    for image, original in zip(after, padded, strict=True):
        found = [
            (row, column, flip)
            for row in range(5)
            for column in range(5)
            for flip in (False, True)
            if torch.equal(
                image.flip(2) if flip else image, original[:, row : row + 6, column : column + 7]
            )
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 45  # of 5 x 5 places and two directions


def test_half_of_the_images_are_mirrored() -> None:
    before = images(2000)
    after = crop_and_flip(before, generator("augment"), padding=0)
    same = (after == before).flatten(1).all(1)
    mirrored = (after == before.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert abs(mirrored.float().mean().item() - 0.5) < 0.05


def test_the_generator_decides() -> None:
    before = images(16)
    once, again, other = (crop_and_flip(before, generator("augment", seed)) for seed in (0, 0, 1))
    assert torch.equal(once, again) and not torch.equal(once, other)
