"""The prepared file: its splits, its bytes, and what is refused."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import tiny
from tradeoff.datasets import digits
from tradeoff.datasets.prepared import (
    SPLITS,
    Prepared,
    Subset,
    class_balanced_order,
    load_prepared,
    save_prepared,
    split,
)
from tradeoff.datasets.published import DataMissing, PublishedData

ROOT = Path(__file__).parents[2]


def numbered(count: int, tests: int = 0) -> PublishedData:
    """Images whose two pixels are their own number, in 5 classes that are not balanced."""
    draws = torch.Generator().manual_seed(count)
    total = count + tests
    numbers = torch.arange(total)
    pixels = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).view(total, 1, 1, 2)
    labels = torch.multinomial(torch.tensor([4.0, 2, 2, 1, 1]), total, True, generator=draws)
    labels[:5] = torch.arange(5)
    held = (pixels[count:], labels[count:]) if tests else (None, None)
    names = tuple("abcde")
    return PublishedData(pixels[:count], labels[:count], *held, white=255, classes=names)


def numbers(subset: Subset) -> Tensor:
    flat = subset.pixels.view(-1, 2).long()
    return flat[:, 0] * 256 + flat[:, 1]


def own_digits() -> Prepared:
    return split("digits", digits.read(Path()), validation=180, test=360, limit=None)


def test_splits_are_disjoint_and_cover_everything() -> None:
    source = numbered(700)
    prepared = split("numbers", source, validation=100, test=150, limit=None)
    parts = [numbers(getattr(prepared, part)) for part in SPLITS]
    assert [len(part) for part in parts] == [450, 100, 150]
    together = torch.cat(parts)
    assert torch.equal(together.sort().values, torch.arange(700))
    for part in SPLITS:
        subset = getattr(prepared, part)
        assert torch.equal(source.labels[numbers(subset)], subset.labels)


def test_a_published_test_split_stays_apart_and_whole() -> None:
    source = numbered(300, tests=80)
    prepared = split("numbers", source, validation=100, test=None, limit=None)
    assert torch.equal(numbers(prepared.test).sort().values, torch.arange(300, 380))
    assert len(prepared.train) == 200
    assert source.test_labels is not None
    assert torch.equal(source.test_labels[numbers(prepared.test) - 300], prepared.test.labels)


def test_a_limit_keeps_so_many_for_training_with_validation_and_for_the_test() -> None:
    whole = split("numbers", numbered(700), validation=100, test=150, limit=None)
    few = split("numbers", numbered(700), validation=60, test=150, limit=130)
    assert [len(getattr(few, part)) for part in SPLITS] == [70, 60, 130]
    assert torch.equal(numbers(few.test), numbers(whole.test)[:130])
    used = torch.cat([numbers(few.train), numbers(few.validation)])
    assert not torch.isin(used, numbers(whole.test)).any()
    published = split("numbers", numbered(300, tests=80), validation=20, test=None, limit=50)
    assert [len(getattr(published, part)) for part in SPLITS] == [30, 20, 50]


@pytest.mark.parametrize("part", SPLITS)
def test_beginnings_are_balanced(part: str) -> None:
    subset = getattr(own_digits(), part)
    for count in (10, 50, 100):
        seen = torch.bincount(subset.first(count).labels, minlength=10)
        assert seen.tolist() == [count // 10] * 10
    shares = torch.bincount(subset.labels) / len(subset)
    assert (shares - 0.1).abs().max() < 0.006
    assert len(subset.first(None)) == len(subset)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), seed=st.integers(0, 3))
def test_classes_take_turns_while_they_last(labels: list[int], seed: int) -> None:
    target = torch.tensor(labels)
    order = class_balanced_order(target, ("test", seed))
    assert torch.equal(order.sort().values, torch.arange(len(labels)))
    total = torch.bincount(target, minlength=5)
    for count in range(1, len(labels) + 1):
        seen = torch.bincount(target[order[:count]], minlength=5)
        # No class is two ahead of one that still has images.
        waiting = seen[seen < total]
        if len(waiting):
            assert int(seen.max() - waiting.min()) <= 1


def test_the_split_of_digits_is_fixed() -> None:
    """Another hash means other images in the test split: results are no longer comparable."""
    prepared = own_digits()
    digest = hashlib.sha256()
    for part in SPLITS:
        subset = getattr(prepared, part)
        digest.update(subset.pixels.numpy().tobytes())
        digest.update(subset.labels.numpy().tobytes())
    assert prepared.test.labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert digest.hexdigest()[:16] == "013cbf76b4aae541"


def test_mean_and_deviation_are_those_of_the_training_images() -> None:
    prepared = own_digits()
    images = prepared.train.images
    assert prepared.mean == [pytest.approx(images.mean().item(), abs=1e-5)]
    assert prepared.std == [pytest.approx(images.std().item(), abs=1e-5)]
    assert (images.min().item(), images.max().item()) == (0.0, 1.0)


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tradeoff.datasets import digits\n"
        "from tradeoff.datasets.prepared import save_prepared, split\n"
        "prepared = split('digits', digits.read(Path()), 180, 360, None)\n"
        "save_prepared(prepared, Path(sys.argv[1]))"
    )
    own, other = tmp_path / "own", tmp_path / "other"
    save_prepared(own_digits(), own)
    environment = {"PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "123"}
    subprocess.run([sys.executable, "-c", code, str(other)], env=environment, check=True)
    assert own.read_bytes() == other.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    prepared = tiny.made_up()
    save_prepared(prepared, tmp_path / "file")
    again = load_prepared(tmp_path / "file", "made_up")
    for part in SPLITS:
        mine, theirs = getattr(prepared, part), getattr(again, part)
        assert torch.equal(mine.pixels, theirs.pixels)
        assert torch.equal(mine.labels, theirs.labels)
        assert mine.white == theirs.white
    assert (again.name, again.classes, again.mean, again.std) == (
        prepared.name,
        prepared.classes,
        prepared.mean,
        prepared.std,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(kept: float, tmp_path: Path) -> None:
    file = tmp_path / "file"
    save_prepared(tiny.made_up(), file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(DataMissing) as caught:
        load_prepared(file, "made_up")
    assert str(caught.value).startswith(f"{file}: damaged or not a prepared file")
    assert str(caught.value).endswith("delete it and run: dvc repro prepare@made_up")


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"no tensors here, just a sentence that goes on for a while")
    with pytest.raises(DataMissing, match="damaged or not a prepared file"):
        load_prepared(file, "made_up")
    with pytest.raises(DataMissing, match=r"not there; make it with: dvc repro prepare@mnist"):
        load_prepared(tmp_path / "nothing", "mnist")
    save_prepared(tiny.made_up(), file)
    tensors = load_file(file)
    for about in ("words", ["list"], {"white": 255}):
        save_file(tensors, file, metadata={"about": json.dumps(about)})
        with pytest.raises(DataMissing, match="damaged or not a prepared file"):
            load_prepared(file, "made_up")
    save_prepared(tiny.made_up(), file)
    with pytest.raises(DataMissing) as caught:
        load_prepared(file, "mnist")
    assert str(caught.value).startswith(f"{file}: holds made_up, not mnist")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    save_prepared(tiny.made_up(), file)
    before = file.read_bytes()

    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("disk full")

    monkeypatch.setattr("tradeoff.datasets.prepared.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_prepared(tiny.made_up(seed=1), file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("source", "test", "says"),
    [
        (numbered(100), None, "split.test is None; n has no published test split"),
        (numbered(100, tests=20), 10, "split.test is 10; n has a published test split"),
    ],
)
def test_the_test_split_must_be_the_published_one_or_held_out(
    source: PublishedData, test: int | None, says: str
) -> None:
    with pytest.raises(DataMissing) as caught:
        split("n", source, validation=10, test=test, limit=None)
    assert "params.yaml: datasets.n.split.test" in str(caught.value)
    assert says in str(caught.value)
    assert ("must be null" in str(caught.value)) == (test is not None)


@pytest.mark.parametrize(
    ("validation", "test", "limit"),
    [(60, 40, None), (97, 2, None), (100, 1, None), (10, 20, 10), (10, 20, 11), (10, 200, None)],
)
def test_nothing_or_one_image_left_for_training_is_refused(
    validation: int, test: int, limit: int | None
) -> None:
    with pytest.raises(DataMissing, match=r"datasets\.n\.split: .* leave [01] of .* 2 are"):
        split("n", numbered(100), validation, test, limit)
