"""Models and images by name: read, or told in one line what the file is and what is needed."""

import re
import shlex
import sys
from pathlib import Path
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
     ({"labels": np.array(["cat"] * 4)}, "whole numbers")],
)  # fmt: skip
def test_nothing_is_converted_in_silence(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        load_images(arrays(tmp_path / "a.npz", **changes), CPU)


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


@settings(
    max_examples=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(cut=st.floats(0, 1), flip=st.integers(0, 10**6), kind=st.sampled_from(["npz", "ts"]))
def test_a_damaged_file_is_read_or_told_in_one_line(
    tmp_path: Path, cut: float, flip: int, kind: str
) -> None:
    path = tmp_path / f"file.{kind}"
    if kind == "npz":
        arrays(path)
    else:
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    content = bytearray(path.read_bytes())
    content[flip % len(content)] ^= 0xFF
    path.write_bytes(content[: int(cut * len(content))])
    told = ""
    try:
        load_images(path, CPU) if kind == "npz" else load_source(str(path), CPU)
    except Unusable as error:
        told = str(error)
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
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=unreachable))  # type: ignore[arg-type]
    with pytest.raises(Unusable, match=r"no route to host.*export the model elsewhere"):
        load_source("timm:resnet18", CPU)


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["evaluate", "--help"])
    examples = re.findall(r"^  tradeoff (.+?)(?:  .*)?$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        assert parser().parse_args(shlex.split(example)).model
