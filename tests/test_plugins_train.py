"""What no defense of the study uses yet, through the real stage: a training set of its own, two
networks that train together, and a variant that takes over what it does not define."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from tests.test_stages import ROOT, run, toy

DEFENSES = {
    "halved": '''"""Half of the images."""
from tradeoff.datasets.prepared import Subset
from tradeoff.defenses.standard import Knobs, training_loss

BASES = ("natural",)

def training_set(train, bases, threat, knobs):
    assert not bases["natural"].training
    return train.first(len(train) // 2)
''',
    "together": '''"""Two networks that train together, and are mixed."""
from tradeoff.defenses.standard import Knobs, training_loss

NETWORKS = 2
CLASSIFIER = "mixed"
''',
    "variant": '''"""Standard training under another name."""
from tradeoff.defenses.standard import *
''',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with three defenses more, and one cell of each trained."""
    folder = tmp_path_factory.mktemp("copy")
    toy(folder, "digits", "standard", "resnet18")
    for name in ("src", "stages"):
        (folder / name).unlink()
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in DEFENSES.items():
        (folder / "src" / "tradeoff" / "defenses" / f"{name}.py").write_text(text)
    yaml = YAML()
    params: Any = yaml.load((folder / "params.yaml").read_text())
    params["study"]["trained"] = {
        "alone": ["standard", "together", "variant"],
        "on_natural": ["halved"],
    }
    params |= {"halved": {}, "variant": {}, "together": {"classifier": {"alpha": 0.5}}}
    params["datasets"]["digits"]["split"].update(validation=40, test=60)
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    trained = [["stages/train.py", f"{name}-resnet18-digits-0"] for name in ("standard", *DEFENSES)]
    run(folder, [["stages/prepare.py", "digits"], *trained], folder, "cpu", folder / "src")
    return folder


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(
        folder / "models" / "digits" / f"{name}-resnet18-digits-0" / "last.safetensors"
    )


def test_a_training_set_of_its_own_is_what_is_trained_on(folder: Path) -> None:
    histories = folder / "plots" / "training" / "digits"
    for name, images in (("standard", 160), ("halved", 80)):
        history = pd.read_csv(histories / f"{name}-resnet18-digits-0.csv")
        assert history["forward_passes"].tolist() == [images, images]


def test_two_networks_train_together_from_weights_of_their_own(folder: Path) -> None:
    state = weights(folder, "together")
    first, second = (state[f"{role}.1.conv1.weight"] for role in ("natural", "robust"))
    assert first.shape == second.shape and not torch.equal(first, second)
    one = weights(folder, "standard")["1.conv1.weight"]
    assert not torch.equal(first, one), "it has moved from the weights that it shares at the start"


def test_a_variant_trains_as_what_it_stands_on(folder: Path) -> None:
    standard, variant = weights(folder, "standard"), weights(folder, "variant")
    assert all(torch.equal(standard[name], variant[name]) for name in standard)
