"""Models: built from an architecture's file, kept as safetensors that say what they are."""

import importlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tradeoff.core.files import atomic_write
from tradeoff.datasets.prepared import Prepared
from tradeoff.networks.layouts import place
from tradeoff.networks.preprocess import Preprocess
from tradeoff.networks.randomness import derive_seed


class ModelMismatch(Exception):
    """A model file is damaged or belongs to something else; says what was expected."""


@dataclass(frozen=True)
class Blueprint:
    """What determines the shape of a model."""

    architecture: str
    dataset: str
    channels: int
    classes: int
    width: float

    @classmethod
    def of(cls, architecture: str, width: float, data: Prepared) -> "Blueprint":
        """The model of an architecture that fits a data set."""
        return cls(architecture, data.name, data.channels, len(data.classes), width)


def build_model(
    blueprint: Blueprint, mean: list[float], std: list[float], seed: int
) -> nn.Sequential:
    """A network with its preprocessing: images in [0, 1] to logits; weights drawn from `seed`."""
    architecture = importlib.import_module(f"tradeoff.archs.{blueprint.architecture}")
    with torch.random.fork_rng(devices=[]):  # without it, every GPU is asked for its state
        torch.manual_seed(derive_seed("weights", seed))
        network = architecture.build(blueprint.channels, blueprint.classes, blueprint.width)
    return nn.Sequential(Preprocess(mean, std), network)


def save_model(
    state: dict[str, Tensor],
    blueprint: Blueprint,
    path: Path,
    origin: dict[str, str] | None = None,
    cell: str | None = None,
) -> None:
    """Write a state dict with its blueprint, provenance and cell, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    about = json.dumps({"blueprint": asdict(blueprint), "cell": cell, "origin": origin or {}})
    with atomic_write(path) as partial:
        # One entry: safetensors writes several in any order, and the bytes would differ.
        save_file(tensors, partial, metadata={"about": about})


def read_origin(path: Path) -> dict[str, str]:
    """With what a model was trained: see `core.provenance`."""
    with safe_open(path, "pt") as file:
        origin: dict[str, str] = json.loads(file.metadata()["about"])["origin"]
    return origin


def load_model(
    path: Path, blueprint: Blueprint, device: torch.device, cell: str | None = None
) -> nn.Sequential:
    """The model in eval mode, its parameters frozen.

    Args:
        cell: whose model it must be; None: any cell's of the blueprint.

    Raises:
        ModelMismatch: the file is missing, damaged, or of another blueprint or cell.
    """
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            found, owner = dict(about["blueprint"]), about["cell"]
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ModelMismatch(f"{path}: not there; train the cell first") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelMismatch(f"{path}: damaged or not a model of this study ({error})") from None
    for name, expected in asdict(blueprint).items():
        if found.get(name) != expected:
            raise ModelMismatch(f"{path}: {name} is {found.get(name)}, params want {expected}")
    if cell not in (None, owner):
        raise ModelMismatch(f"{path}: is the model of {owner}, not of {cell}")
    ones = [1.0] * blueprint.channels
    model = build_model(blueprint, ones, ones, seed=0)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ModelMismatch(f"{path}: not the tensors of its blueprint ({error})") from None
    return place(model.eval().requires_grad_(False), device)
