"""Data sets that are read from an archive as it is: Tiny ImageNet and HAR."""

import hashlib
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from tradeoff.datasets import download, har, tiny_imagenet
from tradeoff.datasets.published import DataMissing


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRADEOFF_DATA", raising=False)

    def fail(*arguments: object, **keywords: object) -> None:
        raise URLError("no route to host")

    for module in (download, har):
        monkeypatch.setattr(module, "download_url", fail)


def jpeg(level: int, mode: str) -> bytes:
    """64x64 pixels of one colour: red, or grey."""
    content = BytesIO()
    Image.new(mode, (64, 64), level if mode == "L" else (level, 0, 0)).save(content, "JPEG")
    return content.getvalue()


def test_tiny_imagenet_is_read_from_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_imagenet.ROOT
    path = tmp_path / "tiny-imagenet-200.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/wnids.txt", "n02\nn01\n")
        archive.writestr(f"{root}/words.txt", "n00\tentity\nn01\tgoldfish, Carassius\nn02\tcar\n")
        for synset, number, level, mode in (
            ("n01", 0, 200, "RGB"), ("n02", 0, 100, "RGB"), ("n01", 1, 50, "L")
        ):  # fmt: skip
            name = f"{root}/train/{synset}/images/{synset}_{number}.JPEG"
            archive.writestr(name, jpeg(level, mode))
            archive.writestr(
                f"{root}/train/{synset}/{synset}_boxes.txt", "n01_0.JPEG\t0\t0\t9\t9\n"
            )
        archive.writestr(f"{root}/val/images/val_0.JPEG", jpeg(80, "RGB"))
        archive.writestr(f"{root}/val/val_annotations.txt", "val_0.JPEG\tn01\t0\t0\t62\t62\n")
        archive.writestr(f"{root}/test/images/test_0.JPEG", jpeg(1, "RGB"))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(tiny_imagenet, "FILES", [(path.name, md5)])
    source = tiny_imagenet.read(tmp_path)
    assert source.classes == ("car", "goldfish")
    assert source.images.shape == (3, 3, 64, 64) and source.images.dtype == torch.uint8
    assert source.labels.tolist() == [1, 1, 0]  # in the order of names
    colours = source.images.float().mean((2, 3))
    expected = torch.tensor([[200.0, 0, 0], [50, 50, 50], [100, 0, 0]])
    assert torch.allclose(colours, expected, atol=3)  # JPEG loses some
    assert source.test_images is not None and source.test_labels is not None
    assert source.test_images.shape == (1, 3, 64, 64) and source.test_labels.tolist() == [1]
    assert not (tmp_path / root).exists()


def test_where_to_put_tiny_imagenet_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        tiny_imagenet.read(tmp_path)
    message = str(caught.value)
    address = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    for part in ("no route", "TRADEOFF_DATA", str(tmp_path), address, *tiny_imagenet.FILES[0]):
        assert part in message


def write_har(folder: Path) -> np.ndarray:
    """The archive within the archive; the features for training, then those of the test."""
    features = np.random.default_rng(0).uniform(-1, 1, (5, 561))
    features[0, :3] = [-1, 0, 1]
    inner, root = BytesIO(), har.ROOT
    with ZipFile(inner, "w") as archive:
        archive.writestr(f"{root}/activity_labels.txt", "1 WALKING\n2 WALKING_UPSTAIRS\n3 LAYING\n")
        for part, rows, labels in (
            ("train", features[:3], [3, 1, 2]), ("test", features[3:], [2, 2])
        ):  # fmt: skip
            lines = "".join(" " + " ".join(f"{x: .7e}" for x in row) + "\n" for row in rows)
            archive.writestr(f"{root}/{part}/X_{part}.txt", lines)
            archive.writestr(f"{root}/{part}/y_{part}.txt", "".join(f"{x}\n" for x in labels))
    folder.mkdir(exist_ok=True)
    with ZipFile(folder / har.FILE, "w") as outer:
        outer.writestr(har.INNER, inner.getvalue())
    return features


def test_har_is_scaled_to_the_range_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = write_har(tmp_path / "here")
    content = (tmp_path / "here" / har.FILE).read_bytes()
    monkeypatch.setattr(har, "SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("TRADEOFF_DATA", str(tmp_path / "here"))
    source = har.read(tmp_path / "elsewhere")
    assert source.images.shape == (3, 1, 1, 561) and source.images.dtype == torch.float32
    assert source.images[0, 0, 0, :3].tolist() == [0, 0.5, 1] and source.white == 1
    assert source.test_images is not None and source.test_labels is not None
    both = torch.cat([source.images, source.test_images])[:, 0, 0]
    assert torch.allclose(both, torch.from_numpy((features + 1) / 2).float(), atol=1e-6)
    assert source.labels.tolist() == [2, 0, 1] and source.test_labels.tolist() == [1, 1]
    assert source.classes == ("walking", "walking upstairs", "laying")


def test_another_archive_is_refused_and_where_to_put_har_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        har.read(tmp_path)
    for part in ("no route", "TRADEOFF_DATA", str(tmp_path), har.FILE, har.SHA256):
        assert part in str(caught.value)
    write_har(tmp_path)
    with pytest.raises(DataMissing, match="not what was published"):
        har.read(tmp_path)
