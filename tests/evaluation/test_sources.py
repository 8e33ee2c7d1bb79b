"""Models and images by name: read, or told in one line what the file is and what is needed."""

import math
import re
import shlex
import sys
import warnings
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.attacks.trained import trained
from tradeoff.archs import resnet18
from tradeoff.cli import parser
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.preflight import Unusable
from tradeoff.evaluation.sources import load_images, load_source
from tradeoff.networks.device import matrix_precision
from tradeoff.networks.threat import Threat

CPU = torch.device("cpu")


def arrays(path: Path, **changes: Any) -> Path:
    images, labels = np.random.default_rng(0).random((4, 1, 8, 8), np.float32), np.arange(4)
    np.savez(path, **({"images": images, "labels": labels} | changes))
    return path


def test_arrays_of_any_exact_kind_are_read(tmp_path: Path) -> None:
    expected, _ = load_images(arrays(tmp_path / "a.npz"), CPU)
    for labels in (np.arange(4, dtype=">i8"), np.arange(4, dtype=np.uint8)):
        images, read = load_images(arrays(tmp_path / "b.npz", labels=labels), CPU)
        assert torch.equal(images, expected) and read.tolist() == [0, 1, 2, 3]
        assert read.dtype == torch.long and images.dtype == torch.float32
    big = np.array(expected.numpy(), dtype=">f4")
    assert torch.equal(load_images(arrays(tmp_path / "c.npz", images=big), CPU)[0], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"labels": np.array([3.7, 1, 2, 3])}, "labels are float64; whole numbers"),
     ({"labels": np.array([True] * 4)}, "labels are bool"),
     ({"images": np.ones((4, 1, 8, 8), np.complex64)}, "images are complex64"),
     ({"images": np.ones((4, 1, 8, 8), np.uint8)}, "images / 255"),
     ({"images": np.full((4, 1, 8, 8), 1e300)}, "beyond the range of float32"),
     ({"labels": np.array(["cat"] * 4)}, "whole numbers"),
     ({"images": np.ones(4, [("pixel", "f4")])}, "floating-point numbers"),
     ({"images": np.array([None] * 4)}, "cannot be loaded")],
)  # fmt: skip
def test_nothing_is_converted_in_silence(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        load_images(arrays(tmp_path / "a.npz", **changes), CPU)


def test_other_arrays_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((4, 1, 8, 8), np.float32))
    with pytest.raises(Unusable, match=r"it is one array: np\.savez"):
        load_images(tmp_path / "one.npy", CPU)
    np.savez(tmp_path / "other.npz", x_test=np.ones(4), y_test=np.ones(4))
    with pytest.raises(Unusable, match="it has x_test, y_test"):
        load_images(tmp_path / "other.npz", CPU)


PICTURES: list[tuple[str, Image.Image, dict[str, Any], str]] = [
    ("deep.png", Image.new("I;16", (8, 6), 40000), {}, "of kind I;16"),
    ("seen.png", Image.new("RGBA", (8, 6), (9, 9, 9, 99)), {}, "with transparent pixels"),
    ("print.jpg", Image.new("CMYK", (8, 6)), {}, "of kind CMYK"),
    ("real.tiff", Image.new("F", (8, 6), 0.5), {}, "of kind F"),
    ("film.gif", Image.new("L", (8, 6)), {"save_all": True, "append_images": [
        Image.new("L", (8, 6), 255)]}, "of 2 frames"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "picture", "more", "message"), PICTURES)
def test_pictures_that_would_have_to_be_changed_are_refused(
    tmp_path: Path, name: str, picture: Image.Image, more: dict[str, Any], message: str
) -> None:
    (tmp_path / "cat").mkdir()
    picture.save(tmp_path / "cat" / name, **more)
    with pytest.raises(Unusable, match=message):
        load_images(tmp_path, CPU)


def test_pictures_whose_values_are_exact_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    folder.mkdir()
    (folder / ".DS_Store").write_bytes(b"what a system leaves")
    Image.new("RGBA", (8, 6), (51, 102, 153, 255)).save(folder / "opaque.png")
    Image.new("RGB", (8, 6), (51, 102, 153)).quantize(4).save(folder / "palette.png")
    images, _ = load_images(tmp_path, CPU)
    torch.testing.assert_close(images[:, :, 0, 0], torch.tensor([[0.2, 0.4, 0.6]] * 2))


@pytest.mark.parametrize("names", [map(str, range(11)), ("1", "2"), ("3", "5")])
def test_folders_named_by_other_numbers_are_refused(tmp_path: Path, names: Any) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        Image.new("L", (8, 6)).save(tmp_path / name / "a.png")
    with pytest.raises(Unusable, match=r"would be class \d+, by alphabetical order"):
        load_images(tmp_path, CPU)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for name, grey in (("cat", 0), ("dog", 255)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 6), (grey, grey, 51)).save(tmp_path / name / "one.png")
    images, labels = load_images(tmp_path, CPU)
    assert images.shape == (2, 3, 6, 8) and labels.tolist() == [0, 1]
    torch.testing.assert_close(images[:, :, 0, 0], torch.tensor([[0, 0, 0.2], [1, 1, 0.2]]))
    Image.new("RGB", (9, 6)).save(tmp_path / "dog" / "two.png")
    with pytest.raises(Unusable, match="of one size"):
        load_images(tmp_path, CPU)
    (tmp_path / "dog" / "three.png").write_text("no picture")
    with pytest.raises(Unusable, match=r"three\.png: is no picture"):
        load_images(tmp_path, CPU)
    with pytest.raises(Unusable, match="a folder of pictures for each class"):
        load_images(tmp_path / "dog", CPU)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("wongsmall", (1, 28, 28)), ("wonglarge", (1, 8, 8)), ("vgg16", (3, 64, 64))],
)
def test_weights_tell_what_images_they_are_for(
    tmp_path: Path, name: str, shape: tuple[int, int, int]
) -> None:
    network = import_module(f"tradeoff.archs.{name}").build(shape, 7, 1.0).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_source(str(tmp_path / "weights.safetensors"), CPU, architecture=name)
    images = torch.rand(2, *shape)
    assert torch.equal(loaded(images), network(images))


def test_weights_with_their_architecture(tmp_path: Path) -> None:
    network = resnet18.build((3, 32, 32), 7, 1.0).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    path = str(tmp_path / "weights.safetensors")
    loaded = load_source(path, CPU, architecture="resnet18")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded(images), network(images)) and not loaded.training
    with pytest.raises(Unusable, match="name the --architecture"):
        load_source(path, CPU)
    with pytest.raises(Unusable, match="did you mean resnet18"):
        load_source(path, CPU, architecture="resnet19")
    with pytest.raises(Unusable, match="not the weights of vgg16"):
        load_source(path, CPU, architecture="vgg16")


def write_state(path: Path) -> None:
    torch.save(trained().model.state_dict(), path)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [("model.pt", write_state, "pickle of weights"), ("model.pt2", write_state, "pickle"),
     ("model.ts", lambda path: path.write_bytes(b""), "it is empty"),
     ("model.ts", lambda path: path.write_bytes(b"PK" + bytes(99)), "neither TorchScript"),
     ("model.npz", arrays, "it holds NumPy arrays"),
     ("model.h5", lambda path: path.write_bytes(b"\x89HDF\r\n"), "HDF5"),
     ("old.pth", lambda path: torch.save({}, path, _use_new_zipfile_serialization=False), "pickle"),
     ("model.safetensors", lambda path: path.write_bytes(bytes(9)), "damaged")],
)  # fmt: skip
def test_a_file_that_is_no_model_is_told_what_it_is(
    tmp_path: Path, name: str, write: Any, message: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(Unusable, match=message) as told:
        load_source(str(tmp_path / name), CPU)
    assert "\n" not in str(told.value)


def test_a_program_for_one_batch_size_is_told(tmp_path: Path) -> None:
    model, images, labels, _ = trained().first(10)
    with matrix_precision("tf32"):
        torch.export.save(torch.export.export(model, (images[:4],)), tmp_path / "fixed.pt2")
    program = load_source(str(tmp_path / "fixed.pt2"), CPU)
    with pytest.raises(Unusable, match=r"does not take 8 .*free batch size"):
        evaluate(program, images, labels, Threat("linf", 0.1), "square")


KINDS = ["f4", "f2", "f8", ">f4", "f16", "u1", "u2", "i4", "?", "c8", "U3", "M8[s]"]
array_shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)
quick = settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@quick
@given(
    shape=array_shapes | st.just((4, 1, 8, 8)),
    kind=st.sampled_from(KINDS),
    label_shape=array_shapes | st.just((4,)),
    label_kind=st.sampled_from([*KINDS, "u8", ">i8"]),
    scale=st.sampled_from([1.0, -3.0, 255.0, 1e300, float("nan")]),
)
def test_arrays_are_read_as_they_are_or_refused(
    tmp_path: Path, shape: Any, kind: str, label_shape: Any, label_kind: str, scale: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of casts that lose values: these are the arrays wanted
        images = (scale * np.random.default_rng(0).random(shape)).astype(kind)
        labels = (np.arange(math.prod(label_shape)) * scale).reshape(label_shape).astype(label_kind)
    path = arrays(tmp_path / "a.npz", images=images, labels=labels)
    told = ""
    try:
        read, classes = load_images(path, CPU)
    except Unusable as error:
        told = str(error)
    else:
        assert read.shape == shape and classes.shape == label_shape
        np.testing.assert_allclose(read.double().numpy(), images.astype("f8"), atol=1e-6)
        assert [int(label) for label in labels.flat] == classes.flatten().tolist()
    assert "\n" not in told and len(told) < 300


@cache
def whole_files() -> dict[str, bytes]:
    """A file of each kind, as it should be."""
    files = {}
    with TemporaryDirectory() as name:
        folder, model = Path(name), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        images = torch.rand(2, 1, 8, 8)
        arrays(folder / "file.npz")
        torch.jit.trace(model, images).save(str(folder / "file.ts"))
        with matrix_precision("tf32"):
            torch.export.save(torch.export.export(model, (images,)), folder / "file.pt2")
        save_file(model.state_dict(), folder / "file.safetensors")
        Image.new("RGB", (8, 8), (9, 99, 199)).save(folder / "file.png")
        Image.new("RGB", (8, 8), (9, 99, 199)).save(folder / "file.jpg")
        for path in folder.iterdir():
            files[path.suffix] = path.read_bytes()
    return files


@pytest.mark.parametrize("kind", [".npz", ".ts", ".pt2", ".safetensors", ".png", ".jpg"])
@quick
@given(cut=st.floats(0, 1) | st.just(1.0), flips=st.lists(st.floats(0, 1), max_size=3),
       renamed=st.booleans())  # fmt: skip
def test_a_damaged_file_is_read_or_told_in_one_line(
    tmp_path: Path, kind: str, cut: float, flips: list[float], renamed: bool
) -> None:
    content = bytearray(whole_files()[kind])
    for place in flips:
        content[int(place * (len(content) - 1))] ^= 0xFF
    folder = tmp_path / "pictures" / "class"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("file.bin" if renamed else f"file{kind}")
    path.write_bytes(content[: int(cut * len(content))])
    told = ""
    try:
        if kind in (".png", ".jpg"):
            load_images(folder.parent, CPU)
        elif kind == ".npz":
            load_images(path, CPU)
        else:
            load_source(str(path), CPU, architecture="resnet18" if renamed else None)
    except Unusable as error:
        told = str(error)
    path.unlink()
    assert "\n" not in told


class Answers(nn.Module):
    def forward(self, images: Tensor) -> Any:
        return SimpleNamespace(logits=images.mean((2, 3)))


def test_libraries_of_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for libraries that are not installed: what they are asked for."""
    asked: list[Any] = []

    def create_model(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return nn.Flatten()

    config = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    timm = SimpleNamespace(
        create_model=create_model,
        data=SimpleNamespace(resolve_model_data_config=lambda model: config),
    )
    robustbench = SimpleNamespace(
        load_model=lambda name, **more: asked.append((name, more)) or nn.Flatten()
    )
    transformers = SimpleNamespace(
        AutoModelForImageClassification=SimpleNamespace(from_pretrained=lambda name: Answers()),
        AutoImageProcessor=SimpleNamespace(
            from_pretrained=lambda name: SimpleNamespace(image_mean=[0.5] * 3, image_std=[0.5] * 3)
        ),
    )
    for name, library in (
        ("timm", timm),
        ("robustbench", robustbench),
        ("transformers", transformers),
    ):
        monkeypatch.setitem(sys.modules, name, library)  # type: ignore[arg-type]
    images = torch.full((1, 3, 20, 20), 0.75)
    assert torch.equal(load_source("timm:resnet18", CPU)(images), torch.ones(1, 1200))
    load_source("robustbench:Carmon2019Unlabeled", CPU, norm="l2")
    assert load_source("hf:org/name", CPU)(images).tolist() == [[0.5, 0.5, 0.5]]
    assert asked == [
        ("resnet18", True),
        ("Carmon2019Unlabeled", {"dataset": "cifar10", "threat_model": "L2"}),
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [("timm:resnet18", "pip install timm"), ("hf:org/name", "pip install transformers"),
     ("robustbench:Name", "pip install git"), ("nowhere.pt2", "no such file")],
)  # fmt: skip
def test_what_is_missing_is_told(
    monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    for name in ("timm", "transformers", "robustbench"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(Unusable, match=message):
        load_source(source, CPU)


def test_where_nothing_can_be_downloaded_the_way_round_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(name: str, pretrained: bool) -> nn.Module:
        raise OSError("no route to host.")

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=unreachable))  # type: ignore[arg-type]
    with pytest.raises(Unusable, match=r"no route to host\. .*HF_HOME.* elsewhere"):
        load_source("timm:resnet18", CPU)


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["evaluate", "--help"])
    examples = re.findall(r"^  tradeoff (.+?)(?:  .*)?$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        assert parser().parse_args(shlex.split(example)).model
