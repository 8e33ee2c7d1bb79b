"""Models: weights from a seed, and files that say what they are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tests import tiny
from tradeoff.networks.layouts import place
from tradeoff.networks.models import (
    Assembly,
    Blueprint,
    ModelMismatch,
    build_network,
    load_model,
    read_origin,
    save_model,
)

BLUEPRINT = Blueprint("resnet18", "digits", (1, 8, 8), 10, 0.125)
ASSEMBLY = Assembly((BLUEPRINT,))
CPU = torch.device("cpu")


def built(seed: int = 0, blueprint: Blueprint = BLUEPRINT) -> nn.Sequential:
    return build_network(blueprint, [0.3], [0.4], seed)


def states_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_weights_are_drawn_from_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = built(seed=3).state_dict()
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = built(seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert states_equal(one, again)
    assert not states_equal(one, built(seed=4).state_dict())


def test_weights_are_drawn_without_touching_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have it, and TRADEOFF_DEVICE=cpu says to leave it alone."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *device: 1 / 0)
    built()


def test_a_blueprint_fits_its_data_set() -> None:
    blueprint = Blueprint.of("vgg16", 0.5, tiny.made_up())
    assert blueprint == Blueprint("vgg16", "made_up", (1, 8, 8), tiny.CLASSES, 0.5)


def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path) -> None:
    model, file = built(), tmp_path / "folder" / "best.safetensors"
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model(images)  # other statistics than those of a new model
    save_model(model.state_dict(), ASSEMBLY, file)
    found = load_model(file, CPU, ASSEMBLY)
    assert states_equal(found.state_dict(), model.state_dict())
    assert torch.equal(found(images), place(model, CPU).eval()(images))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())
    assert [path.name for path in file.parent.iterdir()] == ["best.safetensors"]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        save_model(built().state_dict(), ASSEMBLY, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "vgg16"),
        ("dataset", "mnist"),
        ("image", (3, 8, 8)),
        ("classes", 5),
        ("width", 0.25),
    ],
)
def test_a_model_of_another_blueprint_is_refused(field: str, value: object, tmp_path: Path) -> None:
    file = tmp_path / "best"
    save_model(built().state_dict(), ASSEMBLY, file)
    expected = Assembly((replace(BLUEPRINT, **{field: value}),))
    found = getattr(BLUEPRINT, field)
    with pytest.raises(ModelMismatch) as caught:
        load_model(file, CPU, expected)
    assert str(caught.value) == f"{file}: {field} is {found}, params want {value}"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(share: float, tmp_path: Path) -> None:
    file = tmp_path / "best"
    save_model(built().state_dict(), ASSEMBLY, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelMismatch) as caught:
        load_model(file, CPU, ASSEMBLY)
    assert str(caught.value).startswith(f"{file}: damaged or not a model of this study")


def test_another_cells_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "best"
    save_model(built().state_dict(), ASSEMBLY, file, cell="at-resnet18-digits-0")
    load_model(file, CPU, ASSEMBLY, "at-resnet18-digits-0")
    with pytest.raises(ModelMismatch) as caught:
        load_model(file, CPU, ASSEMBLY, "at-resnet18-digits-1")
    assert str(caught.value) == (
        f"{file}: is the model of at-resnet18-digits-0, not of at-resnet18-digits-1"
    )


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "best"
    with pytest.raises(ModelMismatch, match="not there; train the cell first"):
        load_model(file, CPU, ASSEMBLY)
    save_file({"weight": torch.ones(2)}, file)
    with pytest.raises(ModelMismatch, match="not a model of this study"):
        load_model(file, CPU, ASSEMBLY)
    save_file({"weight": torch.ones(2)}, file, metadata={"about": json.dumps("resnet18")})
    with pytest.raises(ModelMismatch, match="not a model of this study"):
        load_model(file, CPU, ASSEMBLY)


def test_a_file_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "best"
    state = built().state_dict()
    del state["1.fc.bias"]
    save_model(state, ASSEMBLY, file)
    with pytest.raises(ModelMismatch, match=r"fc\.bias"):
        load_model(file, CPU, ASSEMBLY)


def test_a_file_says_what_it_is_and_what_it_was_made_with(tmp_path: Path) -> None:
    file = tmp_path / "best"
    save_model(built().state_dict(), ASSEMBLY, file, {"torch": "2.14.1"})
    with safe_open(file, "pt") as content:
        about = json.loads(content.metadata()["about"])
    assert about["origin"] == read_origin(file) == {"torch": "2.14.1"}
    assert about["model"]["classifier"] == "plain"
    assert about["model"]["networks"] == [
        {
            "architecture": "resnet18",
            "dataset": "digits",
            "image": [1, 8, 8],
            "classes": 10,
            "width": 0.125,
        }
    ]


def test_normalisation_is_kept_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "best"
    save_model(built().state_dict(), ASSEMBLY, file)
    found = load_model(file, CPU, ASSEMBLY)
    assert found[0].mean.item() == pytest.approx(0.3)  # type: ignore[union-attr, operator]
    assert found[0].std.item() == pytest.approx(0.4)  # type: ignore[union-attr, operator]
