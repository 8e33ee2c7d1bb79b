"""Anybody's models and images by name: files, libraries of models, and folders of pictures.

    robustbench:NAME  timm:NAME  hf:ORG/NAME  model.ts  model.pt2  model.safetensors
    images.npz  a folder with a folder of pictures for each class

What a source needs is imported when it is asked for; none of it is a dependency of the package.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from tradeoff.core.plugins import module_names
from tradeoff.core.schema import unknown
from tradeoff.evaluation.preflight import Unusable, reason_of
from tradeoff.networks.models import ModelMismatch, load_model
from tradeoff.networks.preprocess import Preprocess

NOT_PADDED = (1, 0)


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
                f"{text}: {reason_of(error)}. Where nothing can be downloaded, export the model "
                "elsewhere to TorchScript or torch.export, and name that file"
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
    """A TorchScript or torch.export (.pt2) file as a module.

    Raises:
        Unusable: it is neither; says what it is instead, as far as can be told.
    """
    try:
        if path.suffix == ".pt2":
            module = torch.export.load(path).module().to(device)
            module.training = False  # its mode is frozen in the graph; eval() is refused
            return module
        return torch.jit.load(str(path), map_location=device)
    except Exception as error:  # whatever their readers make of damage
        what = _kind(path) or reason_of(error)
        raise Unusable(f"{path}: neither TorchScript nor torch.export (.pt2): {what}") from error


def _kind(path: Path) -> str:
    """What a file seems to be that is no exported model; empty if nothing can be said."""
    if path.stat().st_size == 0:
        return "it is empty"
    if not is_zipfile(path):
        return ""
    try:
        names = [name.rpartition("/")[2] for name in ZipFile(path).namelist()]
    except (BadZipFile, OSError):
        return "it is damaged"
    if any(name.endswith(".npy") for name in names):
        return "it holds NumPy arrays"
    if "data.pkl" in names and "constants.pkl" not in names:
        return (
            "it is a pickle of weights or of a module, which is not loaded. Save the weights as "
            "safetensors and name their --architecture, or the module by torch.jit.trace"
        )
    return ""


def _safetensors(path: Path, device: torch.device, architecture: str | None) -> nn.Module:
    """A model of this study, or the weights of one of its architectures."""
    if architecture is None:
        try:
            return load_model(path, device)
        except ModelMismatch as error:
            raise Unusable(f"{error}; of other weights name the --architecture") from None
    known = module_names("archs", "build")
    if architecture not in known:
        raise Unusable(f"--architecture {unknown(architecture, known)}")
    try:
        state = load_file(path, str(device))
        convolutions = [tensor for tensor in state.values() if tensor.dim() == 4]
        heads = [tensor for tensor in state.values() if tensor.dim() == 2]
        channels, classes = convolutions[0].shape[1], heads[-1].shape[0]
    except (SafetensorError, OSError, IndexError) as error:
        raise Unusable(f"{path}: not the weights of a network: {error}") from None
    module = importlib.import_module(f"tradeoff.archs.{architecture}")
    network: nn.Module = module.build((channels, 32, 32), classes, 1.0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise Unusable(f"{path}: not the weights of {architecture} at width 1: {reason}") from None
    return network.eval().to(device)


def _extra(module: str, install: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Unusable(f"{module} is not installed: pip install {install}") from None


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
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
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
    """The pictures of a folder, whose folders in alphabetical order are the classes 0, 1, ..."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    if not classes:
        raise Unusable(f"{folder}: a folder of pictures for each class is needed in it")
    pictures, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted(name.iterdir()):
            try:
                with Image.open(path) as picture:
                    grey = picture.mode in ("1", "L")
                    pictures.append(np.array(picture.convert("L" if grey else "RGB")))
            except (UnidentifiedImageError, OSError) as error:
                raise Unusable(f"{path}: is no picture that can be read: {error}") from None
            labels.append(label)
    shapes = sorted({picture.shape for picture in pictures})
    if len(shapes) != 1:
        found = ", ".join(map(str, shapes[:3])) or "none"
        raise Unusable(f"{folder}: pictures of one size and kind are needed; there are {found}")
    stacked = torch.from_numpy(np.stack(pictures)).float() / 255
    images = stacked[:, None] if stacked.dim() == 3 else stacked.permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(labels)
