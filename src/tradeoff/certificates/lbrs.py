"""The certificate of locally biased smoothing (Anderson & Sojoudi 2022, theorems 6 and 8).

For two classes, with s the score of one against the other, L a Lipschitz constant of its gradient
in the threat's norm, and m = s +- alpha || grad s ||_* the biased score:

    r_data  how far the nearest memory stays of its class,
    r_base  how far m keeps its sign, by b = alpha L + || grad s ||_*:
            (sqrt(b^2 + 4 L |m|) - b) / (2 L), for a linear score |m| / || grad s ||_*

and the lesser of both is proved. `tight` has 2 L in place of 4 L under the root and L in place of
2 L below it, by the gradient and half of L ||delta||^2 in place of L ||delta||^2; it is never less.

L is known of the architecture `softplus`: softplus'' is at most 1/4, so for readout . softplus(W x)
it is 1/4 of the largest singular value of W^T diag |readout| W in l2, and
1/4 sum_k |readout_k| ||W_k||_1^2 in linf. With ReLUs there is no L and no proof.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from tradeoff.certificates.ledger import Certificate
from tradeoff.core.schema import BadParams, Section
from tradeoff.networks.preprocess import Preprocess
from tradeoff.networks.threat import Threat

NORMS = ("linf", "l2")
CLASSIFIERS = ("locally_biased",)
NETWORKS = ("softplus",)
CERTAIN = True  # of the classifier that is attacked: `summarize` checks that no attack breaks it


class Knobs(Section):
    tight: bool


@torch.no_grad()
def certify(
    classifier: Any,
    images: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    batch_size: int,
    knobs: Knobs,
) -> Certificate:
    """Predictions of images (N, C, H, W), and how far they are proved to hold; in float64.

    Args:
        classifier: a `classifiers.locally_biased.LocallyBiased`, of the threat's norm.

    Raises:
        BadParams: it has more than two classes, or another network than `softplus`.
    """
    model = copy.deepcopy(classifier).double()
    curvature = lipschitz(model.network, threat.norm, images.shape[1:])
    predictions, radii = [], []
    for batch in images.double().split(batch_size):
        scores, lengths = model.parts(batch)
        biased = model.decided(batch, scores, lengths)
        base = base_radius(biased[:, 0], lengths[:, 0], curvature, model.alpha, knobs.tight)
        data = data_radius(batch, model.memory, model.memory_labels, threat.norm)
        predictions.append(biased.argmax(1).cpu())
        radii.append(base.minimum(data).cpu())
    return Certificate(torch.cat(predictions), torch.cat(radii))


def lipschitz(network: nn.Module, norm: str, image: torch.Size) -> Tensor:
    """L of the score of one class against the other, for a preprocessed `archs.softplus`.

    Raises:
        BadParams: it is another network, or has more than two classes.
    """
    match list(network.children()):
        case [Preprocess() as first, nn.Sequential() as body]:
            layers = list(body)
        case _:
            layers = []
    match layers:
        case [nn.Flatten(), nn.Linear() as hidden, nn.Softplus(), nn.Linear(out_features=2) as out]:
            deviation = first.std.expand(image).flatten()
            return softplus_lipschitz(
                hidden.weight / deviation, out.weight[1] - out.weight[0], norm
            )
    raise BadParams(
        "certificates: lbrs is a proof for two classes and the architecture softplus alone; this "
        "network is another one"
    )


def softplus_lipschitz(weight: Tensor, readout: Tensor, norm: str) -> Tensor:
    """L of the gradient of readout . softplus(weight x + offset)."""
    size = readout.abs()
    if norm == "linf":
        return (size * weight.abs().sum(1).square()).sum() / 4
    return torch.linalg.matrix_norm(weight.T @ (size[:, None] * weight), 2) / 4


def base_radius(
    biased: Tensor, length: Tensor, lipschitz: Tensor | float, alpha: Tensor | float, tight: bool
) -> Tensor:
    """r_base of biased scores m, (N,), from the dual norms of the scores' gradients.

    A lipschitz of 0 is a linear score's. Written without the difference of nearly equal numbers.
    """
    b, m = alpha * lipschitz + length, biased.abs()
    return 2 * m / (b + (b.square() + (2 if tight else 4) * lipschitz * m).sqrt())


def data_radius(points: Tensor, memory: Tensor, labels: Tensor, norm: str) -> Tensor:
    """r_data: how far points (N, ...) can go and have the nearest memory (M, ...) of one label.

    Infinite where no memory has another label.
    """
    points, memory = points.flatten(1), memory.flatten(1)
    squares = torch.cdist(points, memory).square()
    nearest = squares.argmin(1)
    order = 1 if norm == "linf" else 2  # of the dual norm
    apart = torch.cdist(memory, memory, p=order)[nearest]
    further = (squares - squares.gather(1, nearest[:, None])) / (2 * apart)
    same = labels[None] == labels[nearest][:, None]
    return further.masked_fill(same, float("inf")).amin(1)
