"""Anybody's models and images by name: files, libraries of models, and folders of pictures.

    robustbench:NAME  timm:NAME  hf:ORG/NAME  model.ts  model.pt2  model.safetensors
    images.npz  a folder with a folder of pictures for each class

What a source needs is imported when it is asked for; none of it is a dependency of the package.
"""

import importlib
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tradeoff.core.plugins import module_names
from tradeoff.core.schema import unknown
from tradeoff.evaluation.preflight import Unusable, reason_of
from tradeoff.networks.models import ModelMismatch, load_model
from tradeoff.networks.preprocess import Preprocess

NOT_PADDED = (1, 0)
SIDES = (32, 28, 64, 8)  # of the images that published data sets have
# Pictures whose values 8 bits of grey or RGB hold as they are.
EXACT = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
# Which files to put where by hand.
OFFLINE = {
    "robustbench": "put its checkpoint into models/DATASET/Linf/NAME.pt (or L2)",
    "timm": "copy the cache of a machine where it was loaded, and let HF_HOME name it",
    "hf": "copy the model's folder from the hub, and name hf:FOLDER",
}
PICKLE = (
    "it is a pickle of weights or of a module, which is not loaded. Save the weights as "
    "safetensors and name their --architecture, or the module by torch.jit.trace"
)


def load_source(
    text: str, device: torch.device, *, norm: str = "linf", architecture: str | None = None
) -> nn.Module:
    """The model that `text` names, in eval mode.

    Args:
        norm: under which threat RobustBench lists it.
        architecture: what the tensors of a safetensors file belong to, if it does not say.

    Raises:
        Unusable: there is no such model, or what it needs is missing; says what to do.
    """
    scheme, _, name = text.partition(":")
    libraries: dict[str, Callable[[], nn.Module]] = {
        "robustbench": lambda: _robustbench(name, norm),
        "timm": lambda: _timm(name),
        "hf": lambda: _hugging_face(name),
    }
    if name and scheme in libraries:
        try:
            return libraries[scheme]().eval().to(device)
        except Unusable:
            raise
        except Exception as error:
            raise Unusable(
                f"{text}: {reason_of(error).rstrip('.')}. Where nothing can be downloaded, "
                f"{OFFLINE[scheme]}, or export the model elsewhere to TorchScript or torch.export "
                "and name that file"
            ) from error
    path = Path(text)
    if not path.is_file():
        raise Unusable(
            f"{text}: no such file, and no cell of a study here; a model is robustbench:NAME, "
            "timm:NAME, hf:ORG/NAME, or a TorchScript, .pt2 or .safetensors file"
        )
    if path.suffix == ".safetensors":
        return _safetensors(path, device, architecture)
    return load_exported(path, device)


def load_exported(path: Path, device: torch.device) -> nn.Module:
    """A TorchScript or torch.export (.pt2) file as a module, whatever it is called.

    Raises:
        Unusable: it is neither; says what it is instead, as far as can be told.
    """
    try:
        if "archive_format" in _members(path):
            module = torch.export.load(path).module().to(device)
            module.training = False  # its mode is frozen in the graph; eval() is refused
            return module
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of its end
            return torch.jit.load(str(path), map_location=device)
    except Exception as error:  # whatever their readers make of damage
        what = _kind(path) or reason_of(error)
        raise Unusable(f"{path}: neither TorchScript nor torch.export (.pt2): {what}") from error


def _members(path: Path) -> list[str]:
    """The names of an archive's files, without their folders; none of what is no archive."""
    try:
        return [name.rpartition("/")[2] for name in ZipFile(path).namelist()]
    except Exception:  # whatever zipfile makes of damage
        return []


def _kind(path: Path) -> str:
    """What a file seems to be that is no exported model; empty if nothing can be said."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        return "it is empty"
    if start.startswith(b"\x80"):
        return PICKLE
    if start == b"\x89HDF":
        return "it is HDF5, as Keras writes it"
    names = _members(path)
    if not names:
        return "it is damaged" if start.startswith(b"PK") else ""
    if any(name.endswith(".npy") for name in names):
        return "it holds NumPy arrays"
    if "data.pkl" in names and "constants.pkl" not in names:
        return PICKLE
    return ""


def _safetensors(path: Path, device: torch.device, architecture: str | None) -> nn.Module:
    """A model of this study, or the weights of one of its architectures."""
    if architecture is None:
        try:
            return load_model(path, device)
        except ModelMismatch as error:
            raise Unusable(f"{error}; of other weights name the --architecture") from None
    architectures = module_names("archs", "build")
    if architecture not in architectures:
        raise Unusable(f"--architecture {unknown(architecture, architectures)}")
    try:
        state = load_file(path, str(device))
    except (SafetensorError, OSError) as error:
        raise Unusable(f"{path}: not the weights of a network: {reason_of(error)}") from None
    build = importlib.import_module(f"tradeoff.archs.{architecture}").build
    wanted = {name: tensor.shape for name, tensor in state.items()}
    channels = {tensor.shape[1] for tensor in state.values() if tensor.dim() == 4}
    classes = {tensor.shape[0] for tensor in state.values() if tensor.dim() == 2}
    for shape in product(sorted(channels), SIDES, sorted(classes)):
        network = _built(build, *shape)
        tensors = network.state_dict() if network else {}
        if {name: tensor.shape for name, tensor in tensors.items()} == wanted:
            assert network is not None
            network.load_state_dict(state)
            return network.eval().to(device)
    raise Unusable(
        f"{path}: not the weights of {architecture} at width 1, for images of "
        f"{', '.join(map(str, SIDES))} pixels"
    )


def _built(build: Callable[..., nn.Module], channels: int, side: int, classes: int) -> Any:
    """The network for images of that size; None where the architecture takes none such."""
    try:
        return build((channels, side, side), classes, 1.0)
    except (ValueError, RuntimeError):
        return None


def _extra(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        lacks = error.name is not None and error.name.partition(".")[0] != module
        what = f"{module} needs {error.name}, which" if lacks else module
        raise Unusable(f"{what} is not installed: pip install {install}") from None


def _robustbench(name: str, norm: str) -> nn.Module:
    """A model of RobustBench's model zoo, NAME of cifar10 or DATASET/NAME."""
    dataset, _, name = name.rpartition("/")
    library = _extra("robustbench", "git+https://github.com/RobustBench/robustbench")
    threat = {"linf": "Linf", "l2": "L2"}[norm]
    model: nn.Module = library.load_model(name, dataset=dataset or "cifar10", threat_model=threat)
    return model


def _timm(name: str) -> nn.Module:
    """A pretrained model of timm, behind the normalisation that it was trained with."""
    library = _extra("timm", "timm")
    model = library.create_model(name, pretrained=True)
    settings = library.data.resolve_model_data_config(model)
    first = Preprocess(list(settings["mean"]), list(settings["std"]), NOT_PADDED)
    return nn.Sequential(first, model)


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images).logits
        return logits


def _hugging_face(name: str) -> nn.Module:
    """An image classifier of the Hugging Face hub, behind its processor's normalisation."""
    library = _extra("transformers", "transformers")
    model = library.AutoModelForImageClassification.from_pretrained(name)
    processor = library.AutoImageProcessor.from_pretrained(name)
    first = Preprocess(list(processor.image_mean), list(processor.image_std), NOT_PADDED)
    return nn.Sequential(first, _Logits(model))


def load_images(path: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images float32 (N, C, H, W) and labels int64 (N,) of an .npz file or a folder of pictures.

    Raises:
        Unusable: there is no such file, it is damaged, or holds something else.
    """
    if path.is_dir():
        images, labels = _pictures(path)
    else:
        images, labels = _arrays(path)
    return images.to(device), labels.to(device)


def _arrays(path: Path) -> tuple[Tensor, Tensor]:
    needed = f"{path}: an .npz file with `images` and `labels` is needed"
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise Unusable(f"{needed}, and it is one array: np.savez(FILE, images=..., labels=...)")
        with loaded as file:
            if not {"images", "labels"} <= set(file.files):
                raise Unusable(f"{needed}; it has {', '.join(file.files) or 'nothing'}")
            images, labels = file["images"], file["labels"]
    except Unusable:
        raise
    except Exception as error:  # whatever zipfile, zlib and NumPy make of damage
        raise Unusable(f"{needed}: {reason_of(error)}") from None
    if images.dtype.kind != "f":
        way = (
            "; save images / 255 as float32, if they are 0..255"
            if images.dtype.kind in "ui"
            else ""
        )
        raise Unusable(f"{path}: images are {images.dtype}; floating-point numbers are needed{way}")
    if labels.dtype.kind not in "ui":
        raise Unusable(f"{path}: labels are {labels.dtype}; whole numbers are needed")
    if images.dtype.itemsize > 4 and not np.array_equal(images, images.astype(np.float32)):
        near = np.abs(images - images.astype(np.float32)).max()
        if not near <= 1e-6:
            raise Unusable(f"{path}: images are {images.dtype} beyond the range of float32")
    return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))


def _pictures(folder: Path) -> tuple[Tensor, Tensor]:
    """The pictures of a folder, whose folders in alphabetical order are the classes 0, 1, ...

    What begins with a dot is passed over: systems leave such files.
    """
    classes = [path for path in _visible(folder) if path.is_dir()]
    if not classes:
        raise Unusable(f"{folder}: a folder of pictures for each class is needed in it")
    for place, path in enumerate(classes):
        if all(other.name.isdecimal() for other in classes) and int(path.name) != place:
            raise Unusable(
                f"{folder}: its folders are numbers, but {path.name} would be class {place}, by "
                "alphabetical order: rename them to 0, 1, ..., or 00, 01, ... of more than ten"
            )
    pictures, labels = [], []
    for label, name in enumerate(classes):
        for path in _visible(name):
            pictures.append(_picture(path))
            labels.append(label)
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1:
        kinds = ", ".join(map(str, shapes[:3])) or "none"
        raise Unusable(f"{folder}: pictures of one size and kind are needed; there are {kinds}")
    stacked = torch.from_numpy(np.stack(pictures)).float() / 255
    images = stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise Unusable(f"{folder}: {error.strerror}") from None


def _picture(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture's bytes (H, W) or (H, W, 3).

    Raises:
        Unusable: it cannot be read, or its values would have to be changed.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            kind, frames = picture.mode, getattr(picture, "n_frames", 1)
            if picture.has_transparency_data:
                opaque = picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
                kind = kind if opaque else "with transparent pixels"
            if frames == 1 and kind in EXACT:
                return np.array(picture.convert(EXACT[kind]))
    except Exception as error:  # whatever the readers of pictures make of damage
        raise Unusable(f"{path}: is no picture that can be read: {reason_of(error)}") from None
    what = f"of {frames} frames" if frames > 1 else f"of kind {kind}"
    raise Unusable(f"{path}: is a picture {what}; 8 bits of grey or RGB are needed")
