"""The ledger of certificates: for every test image what is proved about it.

An .npz file of one cell, read with `numpy.load(path)` alone:

    labels     (n,) int16    true classes; image i is the i-th of the test split
    prediction (n,) int16    what the certified classifier predicts; -1 where it abstains
    radius     (n,) float64  in the norm of the threat: nothing nearer changes the prediction
    about      () str        JSON: cell, threat, certificate and its knobs
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from tradeoff.core.files import atomic_write


class Certificate(NamedTuple):
    """What is proved about images: both (N,).

    Attributes:
        prediction: int64; -1 where nothing can be proved.
        radius: float64, at least 0, in the norm that was asked for.
    """

    prediction: Tensor
    radius: Tensor


def save_certificates(
    certificate: Certificate, labels: Tensor, about: dict[str, Any], path: Path
) -> None:
    """Write a ledger of certificates, whole or not at all; the same one gives the same bytes."""
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez_compressed(
            file,
            labels=labels.cpu().numpy().astype(np.int16),
            prediction=certificate.prediction.cpu().numpy().astype(np.int16),
            radius=certificate.radius.cpu().numpy(),
            about=np.array(json.dumps(about, sort_keys=True)),
        )
