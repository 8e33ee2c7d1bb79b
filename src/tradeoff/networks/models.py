"""Models: networks and the classifier they make, in a file that says all of it.

A model file is safetensors: the tensors of the classifier and, as JSON, which classifier with which
knobs it is, the networks it is made of, whose cell it belongs to and with what it was trained. So
whoever loads it needs to know nothing of defenses and of other cells.
"""

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tradeoff.core.files import atomic_write, file_hash
from tradeoff.core.plugins import PACKAGE, constant
from tradeoff.core.study import Cell
from tradeoff.datasets.prepared import Prepared
from tradeoff.networks.layouts import place
from tradeoff.networks.preprocess import PADDED, Preprocess, padded_side
from tradeoff.networks.randomness import derive_seed


class ModelMismatch(Exception):
    """A model file is damaged or belongs to something else; says what was expected."""


@dataclass(frozen=True)
class Blueprint:
    """What determines the shape of a network; `image` is that of its images, (C, H, W)."""

    architecture: str
    dataset: str
    image: tuple[int, int, int]
    classes: int
    width: float

    @classmethod
    def of(cls, architecture: str, width: float, data: Prepared) -> "Blueprint":
        """The network of an architecture that fits a data set."""
        return cls(architecture, data.name, data.image, len(data.classes), width)


@dataclass(frozen=True)
class Assembly:
    """What determines the shape of a model: its networks, and the classifier that they make.

    Attributes:
        classifier: a module of tradeoff.classifiers.
        knobs: the classifier's.
        seed: of whatever the classifier draws once.
    """

    networks: tuple[Blueprint, ...]
    classifier: str = "plain"
    knobs: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of(cls, cell: Cell, data: Prepared) -> "Assembly":
        """The model that a cell should have."""
        blueprint = Blueprint.of(cell.architecture, cell.settings.width, data)
        knobs = getattr(cell.knobs, "classifier", None)
        return cls(
            (blueprint,) * cell.network_count,
            cell.classifier,
            {} if knobs is None else knobs.model_dump(),
            cell.seed,
        )

    def build(self, networks: Sequence[nn.Module]) -> nn.Module:
        """The classifier: images (N, C, H, W) in [0, 1] to logits (N, classes)."""
        module = importlib.import_module(f"tradeoff.classifiers.{self.classifier}")
        knobs = module.Knobs(**self.knobs)
        image = self.networks[0].image
        classifier: nn.Module = module.build(networks, knobs, image=image, seed=self.seed)
        return classifier


def build_network(
    blueprint: Blueprint, mean: list[float], std: list[float], *seed: int
) -> nn.Sequential:
    """A network with its preprocessing: images in [0, 1] to logits; weights drawn from `seed`."""
    architecture = importlib.import_module(f"tradeoff.archs.{blueprint.architecture}")
    padded = getattr(architecture, "PADDED", PADDED)
    channels, height, width = blueprint.image
    image = (channels, padded_side(height, padded), padded_side(width, padded))
    with torch.random.fork_rng(devices=[]):  # without it, every GPU is asked for its state
        torch.manual_seed(derive_seed("weights", *seed))
        network = architecture.build(image, blueprint.classes, blueprint.width)
    return nn.Sequential(Preprocess(mean, std, padded), network)


def new_networks(assembly: Assembly, data: Prepared) -> list[nn.Sequential]:
    """The networks of a model before training, each with weights of its own from the seed."""
    networks = []
    for number, blueprint in enumerate(assembly.networks):
        seed = (assembly.seed, number) if number else (assembly.seed,)
        networks.append(build_network(blueprint, data.mean, data.std, *seed))
    return networks


def save_model(
    state: dict[str, Tensor],
    assembly: Assembly,
    path: Path,
    origin: dict[str, str] | None = None,
    cell: str | None = None,
) -> None:
    """Write a state dict with what it belongs to, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # Attacks depend on a classifier's code through its models: a change of one classifier reruns no
    # attack on another. `CODE` says what else decides, outside of `networks`, what it predicts.
    patterns = constant("classifiers", assembly.classifier, "CODE", ())
    files = sorted(path for pattern in patterns for path in PACKAGE.glob(pattern))
    about = {
        "model": asdict(assembly),
        "code": file_hash(PACKAGE / "classifiers" / f"{assembly.classifier}.py", *files),
        "cell": cell,
        "origin": origin or {},
    }
    with atomic_write(path) as partial:
        # One entry: safetensors writes several in any order, and the bytes would differ.
        save_file(tensors, partial, metadata={"about": json.dumps(about)})


def read_origin(path: Path) -> dict[str, str]:
    """With what a model was trained: see `networks.provenance`."""
    with safe_open(path, "pt") as file:
        origin: dict[str, str] = json.loads(file.metadata()["about"])["origin"]
    return origin


def load_classifier(cell: Cell, version: str, data: Prepared, device: torch.device) -> nn.Module:
    """The model of a cell, "best" or "last", as `load_model` gives it."""
    return load_model(cell.model(version), device, Assembly.of(cell, data), cell.key)


def load_model(
    path: Path, device: torch.device, expected: Assembly | None = None, cell: str | None = None
) -> nn.Module:
    """The classifier of a model file in eval mode, its parameters frozen.

    Args:
        expected: what the model must be; None: whatever the file says.
        cell: whose model it must be; None: any cell's.

    Raises:
        ModelMismatch: the file is missing, damaged, or of something else than what is expected.
    """
    assembly, owner, state = _read(path)
    if expected is not None:
        _check(assembly, expected, path)
    if cell not in (None, owner):
        raise ModelMismatch(f"{path}: is the model of {owner}, not of {cell}")
    networks = []
    for blueprint in assembly.networks:
        ones = [1.0] * blueprint.image[0]
        networks.append(build_network(blueprint, ones, ones, 0))
    try:
        model = assembly.build(networks)
        model.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise ModelMismatch(f"{path}: not the tensors of its networks ({error})") from None
    return place(model.eval().requires_grad_(False), device)


def _read(path: Path) -> tuple[Assembly, str | None, dict[str, Tensor]]:
    """What a model is, whose it is, and its tensors."""
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            networks = tuple(
                Blueprint(**network | {"image": tuple(network["image"])})
                for network in about["model"]["networks"]
            )
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Assembly(**about["model"] | {"networks": networks}), about["cell"], state
    except FileNotFoundError:
        raise ModelMismatch(f"{path}: not there; train the cell first") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelMismatch(f"{path}: damaged or not a model of this study ({error})") from None


def _check(assembly: Assembly, expected: Assembly, path: Path) -> None:
    """Name the first thing in which a file differs from what is expected."""
    if len(assembly.networks) != len(expected.networks):
        raise ModelMismatch(
            f"{path}: holds {len(assembly.networks)} networks, params want {len(expected.networks)}"
        )
    pairs = [*zip(assembly.networks, expected.networks, strict=True), (assembly, expected)]
    for value, wanted in ((vars(one), vars(other)) for one, other in pairs):
        for name in wanted:
            if name != "networks" and value[name] != wanted[name]:
                raise ModelMismatch(f"{path}: {name} is {value[name]}, params want {wanted[name]}")
