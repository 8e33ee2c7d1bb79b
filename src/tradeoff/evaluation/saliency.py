"""What a network looks at: the gradient of the predicted class's logit by the image, measured.

Adversarial training makes these gradients resemble the image (Tsipras et al. 2019; Etmann et al.
2019). Four numbers say how much, each one for each image and in float64; where the gradient is 0,
NaN.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from tradeoff.core.tables import TABLES
from tradeoff.evaluation.examples import Examples
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.elementary import sqrt


def saliency(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """The gradient of each image's logit of its class, (N, C, H, W) float64."""
    return input_gradient(
        lambda points: model(points).gather(1, classes[:, None]).squeeze(1), images
    ).double()


def alignment(images: Tensor, gradients: Tensor) -> Tensor:
    """| <x, g> | / || g ||, (N,) (Etmann et al. 2019, definition 3): the distance of a linear
    network's image from the class's boundary."""
    x, g = images.double().flatten(1), gradients.flatten(1)
    return (x * g).sum(1).abs() / sqrt(g.square().sum(1))


def sparsity(gradients: Tensor) -> Tensor:
    """The Gini index of | g |, (N,) in [0, 1): 0 if all of d components are equally large,
    1 - 1/d if all but one are 0."""
    sizes = gradients.abs().flatten(1).sort(1).values
    count = sizes.shape[1]
    weights = 2 * torch.arange(count, 0, -1, device=sizes.device) - 1
    return 1 - (sizes * weights).sum(1) / (count * sizes.sum(1))


def roughness(gradients: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring pixels over the mean of | g |, (N,) in [0, 2]:
    0 if the gradient is constant, 2 on a chessboard of +1 and -1."""
    steps = [gradients.diff(dim=axis).abs().flatten(1) for axis in (2, 3)]
    return torch.cat(steps, 1).mean(1) / gradients.abs().flatten(1).mean(1)


def agreement(gradients: Tensor, others: Tensor) -> Tensor:
    """The cosine of two gradients, (N,) in [-1, 1]."""
    one, other = gradients.flatten(1), others.flatten(1)
    return (one * other).sum(1) / sqrt(one.square().sum(1) * other.square().sum(1))


def measures(model: nn.Module, images: Tensor, examples: Examples) -> dict[str, float]:
    """Means over the images; of `agreement`, between each image and its adversarial one, by the
    class that is predicted for the former."""
    classes = examples.clean.argmax(1)
    clean = saliency(model, images, classes)
    attacked = saliency(model, examples.adversarial, classes)
    values = {
        "alignment": alignment(images, clean),
        "sparsity": sparsity(clean),
        "roughness": roughness(clean),
        "agreement": agreement(clean, attacked),
    }
    return {name: float(value.nanmean()) for name, value in values.items()}


def gradient_table(
    measured: Mapping[tuple[str, str, int], dict[str, float]],
    seed: int,
    pictured: Sequence[tuple[str, str]],
    images: int,
) -> pd.DataFrame:
    """A row of measures for each (defense, architecture, seed).

    Args:
        seed: whose gradients are in the picture; column `row` tells where, 0 of other seeds.
        pictured: (defense, architecture) of each of the picture's rows, but for the images above.
    """
    rows = []
    for (defense, architecture, of), values in measured.items():
        place = {"defense": defense, "architecture": architecture, "seed": of}
        row = 1 + pictured.index((defense, architecture)) if of == seed else 0
        rows.append(place | {"images": images, "row": row} | values)
    return pd.DataFrame(rows, columns=TABLES["gradients"].names)


def tiles(gradients: Tensor) -> Tensor:
    """Gradients as pictures in [0, 1]: grey where 0, each by its own largest component."""
    largest = gradients.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)
    return 0.5 + 0.5 * gradients / largest
