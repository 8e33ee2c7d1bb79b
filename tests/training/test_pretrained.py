"""Starting from ImageNet weights: what fits is copied, and what does not is named."""

from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tradeoff.archs import densenet121, googlenet, resnet18, vgg16
from tradeoff.training.pretrained import WeightsMissing, copy_fitting, load_pretrained

# Architecture, torchvision's network of random weights, and what cannot fit at full width.
NETWORKS = {
    "resnet18": (resnet18, "resnet18", ["conv1.weight", "fc.weight", "fc.bias"]),
    "vgg16": (vgg16, "vgg16_bn", ["classifier.weight", "classifier.bias"]),
    "googlenet": (googlenet, "googlenet", ["conv1.conv.weight", "fc.weight", "fc.bias"]),
    "densenet121": (
        densenet121,
        "densenet121",
        ["features.conv0.weight", "classifier.weight", "classifier.bias"],
    ),
}


def weights_of(name: str) -> dict[str, Tensor]:
    """Random weights of torchvision's network; its linear layers, which fit nowhere, are zeros."""
    with torch.device("meta"):
        state = getattr(torchvision.models, name)().state_dict()
    draws = torch.Generator().manual_seed(1)
    return {
        key: torch.zeros(()).expand(tensor.shape)
        if key.startswith(("classifier", "fc"))
        else torch.rand(tensor.shape, generator=draws).to(tensor.dtype)
        for key, tensor in state.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_all_but_stem_and_classifier_come_from_torchvision(name: str) -> None:
    architecture, theirs_name, left = NETWORKS[name]
    network = architecture.build((3, 32, 32), 10, 1.0)
    theirs = weights_of(theirs_name)
    sentence = copy_fitting(network, theirs)
    mine = network.state_dict()
    for key, tensor in mine.items():
        if key not in left:
            assert torch.equal(tensor, theirs[key]), key
    loaded = len(mine) - len(left)
    assert sentence == (
        f"ImageNet weights: {loaded} of {len(mine)} tensors loaded; from scratch: {', '.join(left)}"
    )


def test_one_channel_and_another_width_load_what_fits() -> None:
    sentence = copy_fitting(vgg16.build((1, 32, 32), 10, 1.0), weights_of("vgg16_bn"))
    assert "from scratch: features.0.weight, classifier.weight, classifier.bias" in sentence
    narrow = resnet18.build((3, 32, 32), 10, 0.5)
    before = {name: tensor.clone() for name, tensor in narrow.state_dict().items()}
    sentence = copy_fitting(narrow, weights_of("resnet18"))
    assert "conv1.weight" in sentence and "layer4.1.conv2.weight" in sentence
    for name, tensor in narrow.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, before[name])


def test_nothing_left_is_said() -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    assert copy_fitting(one, other.state_dict()).endswith(
        "2 of 2 tensors loaded; from scratch: none"
    )
    assert torch.equal(one.weight, other.weight)


def test_an_architecture_without_weights_is_refused() -> None:
    with pytest.raises(
        WeightsMissing,
        match=r"^params\.yaml: datasets\.mnist\.models\.alexnet\.pretrained: .*resnet18, vgg16",
    ):
        load_pretrained(nn.Linear(2, 2), "alexnet", "mnist")


def test_a_failed_download_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(WeightsMissing) as caught:
        load_pretrained(resnet18.build((3, 32, 32), 10, 0.1), "resnet18", "mnist")
    for part in ("no route to host", "resnet18-f37072fd.pth", "checkpoints"):
        assert part in str(caught.value)


def test_downloaded_weights_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = weights_of("resnet18")
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: theirs)
    network = resnet18.build((3, 32, 32), 10, 1.0)
    assert "119 of 122 tensors loaded" in load_pretrained(network, "resnet18", "mnist")
    assert torch.equal(
        network.state_dict()["layer1.0.conv1.weight"], theirs["layer1.0.conv1.weight"]
    )
