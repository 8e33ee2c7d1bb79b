"""Starting from torchvision's ImageNet weights, where shapes fit."""

from urllib.error import URLError

import torch
from torch import Tensor, nn

# What torchvision calls them.
NETWORKS = {
    "densenet121": "densenet121",
    "googlenet": "googlenet",
    "resnet18": "resnet18",
    "vgg16": "vgg16_bn",
}


class WeightsMissing(Exception):
    """Pretrained weights cannot be had; says which file to put where."""


def load_pretrained(network: nn.Module, architecture: str, dataset: str) -> str:
    """Copy what fits into `network` (without preprocessing) and say what did not.

    Raises:
        WeightsMissing: torchvision has no weights for it, or the download failed.
    """
    if architecture not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise WeightsMissing(
            f"params.yaml: datasets.{dataset}.models.{architecture}.pretrained: torchvision has "
            f"no ImageNet weights for {architecture}; it has them for {known}"
        )
    from torchvision import models  # slow to import, and needed by few cells

    name = NETWORKS[architecture]
    weights = models.get_model_weights(name).IMAGENET1K_V1
    try:  # as torchvision's own network has them: it renames some of an old file
        theirs = models.get_model(name, weights=weights).state_dict()
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsMissing(
            f"the download of {weights.url} failed: {error}. On a machine without internet, put "
            f"the file into {torch.hub.get_dir()}/checkpoints"
        ) from error
    return copy_fitting(network, theirs)


def copy_fitting(network: nn.Module, theirs: dict[str, Tensor]) -> str:
    """Copy the tensors that have the same name and shape; a sentence on what was left."""
    mine = network.state_dict()
    fitting = {
        name: tensor
        for name, tensor in theirs.items()
        if name in mine and mine[name].shape == tensor.shape
    }
    network.load_state_dict(mine | fitting)
    left = [name for name in mine if name not in fitting]
    return (
        f"ImageNet weights: {len(fitting)} of {len(mine)} tensors loaded; "
        f"from scratch: {', '.join(left) or 'none'}"
    )
