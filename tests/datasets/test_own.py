"""One's own images and arrays: read as they are, or refused by name before any training."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tradeoff.datasets import folder, npz
from tradeoff.datasets.prepared import load_prepared, save_prepared, split
from tradeoff.datasets.published import DataMissing, PublishedData

SIZED = folder.Knobs(size=8)


def picture(seed: int) -> Image.Image:
    draws = np.random.default_rng(seed)
    return Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8))


def write(root: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 4) -> Path:
    """Folders of different images."""
    seed = sum(root.as_posix().encode())
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for row in range(count):
            picture(seed + 100 * number + row).save(root / name / f"{row}.png")
    return root


def refused(read: Callable[[], object], *says: str) -> None:
    with pytest.raises(DataMissing) as caught:
        read()
    for words in says:
        assert words in str(caught.value)


def test_folders_are_read_as_they_are(tmp_path: Path) -> None:
    root = write(tmp_path / "pets")
    (root / "dog" / "notes.txt").write_text("no image")
    source = folder.read(root, folder.Knobs())
    assert source.classes == ("cat", "dog") and source.labels.tolist() == [0] * 4 + [1] * 4
    assert source.images.shape == (8, 3, 8, 8) and source.images.dtype == torch.uint8
    expected = np.array(Image.open(root / "dog" / "2.png")).transpose(2, 0, 1)
    assert np.array_equal(source.images[6].numpy(), expected)
    assert source.test_images is None
    assert folder.read(root, folder.Knobs(colour="grey")).images.shape == (8, 1, 8, 8)


def test_a_train_and_a_test_folder_are_a_split(tmp_path: Path) -> None:
    write(tmp_path / "pets" / "train", count=5)
    write(tmp_path / "pets" / "test", count=2)
    source = folder.read(tmp_path / "pets", SIZED)
    assert len(source.images) == 10 and source.test_labels is not None
    assert source.test_labels.tolist() == [0, 0, 1, 1]


def test_a_size_makes_unequal_images_equal_without_stretching_them(tmp_path: Path) -> None:
    root = write(tmp_path / "pets")
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255  # the middle third, which is what is left
    Image.fromarray(wide).save(root / "cat" / "wide.png")
    refused(lambda: folder.read(root, folder.Knobs()), "wide.png has 20x60", "8x8", "size: 32")
    source = folder.read(root, SIZED)
    assert source.images.shape == (9, 3, 8, 8)
    assert source.images[4].min() > 200


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "pets")
    (root / "cat" / "0.png").write_bytes((root / "cat" / "0.png").read_bytes()[:50])
    (root / "dog" / "1.png").write_text("no image")
    refused(lambda: folder.read(root, SIZED), "cat/0.png cannot be read", "dog/1.png cannot be")
    for number in range(8):
        (root / "dog" / f"bad{number}.png").write_text("")
    refused(lambda: folder.read(root, SIZED), "... and 5 more")


def test_missing_and_empty_classes_are_named(tmp_path: Path) -> None:
    refused(lambda: folder.read(tmp_path / "none", SIZED), "none", "two classes or more")
    root = write(tmp_path / "pets")
    (root / "eel").mkdir()
    refused(lambda: folder.read(root, SIZED), "eel: has no image")
    write(tmp_path / "birds" / "train")
    write(tmp_path / "birds" / "test", ("cat", "cow"))
    refused(lambda: folder.read(tmp_path / "birds", SIZED), "cat, dog; test has cat, cow")


def test_images_in_train_and_test_are_named(tmp_path: Path) -> None:
    train = write(tmp_path / "pets" / "train")
    test = write(tmp_path / "pets" / "test")
    Image.open(train / "dog" / "3.png").save(test / "dog" / "copy.bmp")
    refused(
        lambda: folder.read(tmp_path / "pets", SIZED),
        f"{train / 'dog' / '3.png'} and {test / 'dog' / 'copy.bmp'} are the same image",
    )


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "pets", count=6)
    for row in range(2, 6):
        (root / "dog" / f"{row}.png").unlink()
    source = folder.read(root, SIZED)
    refused(
        lambda: split("pets", source, validation=2, test=2, limit=None),
        "datasets.pets.split", "dog", "0 in train, 1 in validation, 1 in test",
    )  # fmt: skip


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)


def stored(root: Path, **changes: Any) -> Callable[[], PublishedData]:
    arrays = {"images": IMAGES, "labels": np.arange(12) % 3} | changes
    np.savez(root / "own.npz", **{name: x for name, x in arrays.items() if x is not None})
    return lambda: npz.read(root / "own", npz.Knobs())


def test_arrays_are_read_as_they_are(tmp_path: Path) -> None:
    source = stored(tmp_path, classes=np.array(["a", "b", "c"]))()
    assert np.array_equal(source.images.numpy(), IMAGES.transpose(0, 3, 1, 2))
    assert source.classes == ("a", "b", "c") and source.labels.tolist() == [0, 1, 2] * 4
    names = np.array(["x", "y"] * 6)
    assert stored(tmp_path, labels=names)().labels.tolist() == [0, 1] * 6
    assert stored(tmp_path, images=IMAGES[..., 0])().images.shape == (12, 1, 5, 4)
    split = stored(tmp_path, test_images=255 - IMAGES, test_labels=np.arange(12) % 3)()
    assert split.test_images is not None and len(split.test_images) == 12


def test_features_are_images_of_floats_through_the_prepared_file(tmp_path: Path) -> None:
    features = np.random.default_rng(1).random((12, 7))
    source = stored(tmp_path, images=features)()
    assert source.images.shape == (12, 1, 1, 7) and source.white == 1
    prepared = split("own", source, validation=3, test=3, limit=None)
    save_prepared(prepared, tmp_path / "own.safetensors")
    found = load_prepared(tmp_path / "own.safetensors", "own").train
    assert found.images.dtype == torch.float32
    rows = torch.from_numpy(features.astype(np.float32))
    assert all((rows == image.flatten()).all(1).any() for image in found.images)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": None}, "it should hold images and labels"),
        ({"label": np.zeros(12)}, "it should hold images and labels"),
        ({"images": np.zeros((12, 5, 4), np.int64)}, "images: is int64"),
        ({"images": np.full((12, 5, 4), 7.0)}, "outside of [0, 1]"),
        ({"images": np.zeros(12, np.uint8)}, "shape (12,)"),
        ({"labels": np.arange(11)}, "12 images need (12,)"),
        ({"labels": np.arange(12) - 1}, "from -1 to 10"),
        ({"classes": np.array(["a", "b"])}, "of 2 classes"),
        ({"labels": np.zeros(12, int)}, "two or more are needed"),
        ({"labels": np.random.default_rng(0).random(12)}, "numbers or names"),
        ({"test_images": np.zeros((2, 4, 4), np.uint8)}, "test_images with test_labels"),
        ({"labels": np.array([{}] * 12)}, "cannot be read"),
        ({"images": np.zeros((12, 5, 4), np.uint8)}, "images[0] and images[1] are the same"),
    ],
)
def test_wrong_arrays_are_told(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    refused(stored(tmp_path, **changes), "own.npz", says)
