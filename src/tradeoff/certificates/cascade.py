"""The certificate of a cascade as Wong et al. (2018, section 4) have it: no proof of the cascade.

An image counts as robust if the network that decides proves its own prediction there. Of an image
beside it another network may decide, so attacks on the cascade succeed on some of these images; how
many is the gap between RA and this figure, which may be below 0 (Mangal et al. 2023).
"""

import torch
from torch import Tensor

from tradeoff.certificates.ledger import Certificate
from tradeoff.classifiers.cascaded import Cascaded
from tradeoff.core.schema import BadParams, Section
from tradeoff.networks.threat import Threat

NORMS = ("linf", "l2")
CLASSIFIERS = ("cascaded",)


class Knobs(Section):
    """Radius and norm are the classifier's."""


@torch.no_grad()
def certify(
    classifier: Cascaded,
    images: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    batch_size: int,
    knobs: Knobs,
) -> Certificate:
    """The cascade's predictions, and epsilon where the deciding network proves its own, else 0.

    Raises:
        BadParams: the cascade is made for another threat than the data set's.
    """
    if classifier.threat != threat:
        mine, theirs = (f"{each.norm}, {each.epsilon:g}" for each in (classifier.threat, threat))
        raise BadParams(
            f"params.yaml: cascade.classifier: is {mine}; the threat of the data set is {theirs}"
        )
    predictions, radius = [], []
    for batch in images.split(batch_size):
        predictions.append(classifier(batch).argmax(1).cpu())
        radius.append(threat.epsilon * (classifier.stage(batch) >= 0).double().cpu())
    return Certificate(torch.cat(predictions), torch.cat(radius))
