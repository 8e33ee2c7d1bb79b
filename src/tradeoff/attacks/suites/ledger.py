"""The ledger: what became of every test image under every attack. All numbers stem from it.

A ledger is an .npz file (zip of plain arrays, no pickle) of one cell and one suite, which
`numpy.load(path)` alone reads. Axes: v model versions, a attacks, n images.

    versions (v,) str            "best", "last"
    attacks  (a,) str            names of the suite's entries, in the order run
    labels   (n,) int16          true classes; image i is the i-th of the test split
    clean_prediction (v, n) int16, clean_margin (v, n) float32, clean_confidence (v, n) float32
    check_* (v, n) float32       what PGD met on its way (`gradients`); NaN if not asked for
    attempted (v, a, n) bool     false where an earlier attack of the ensemble had succeeded, and
                                 beyond the images that the attack was to be tried on
    fooled    (v, a, n) bool     prediction on the attacked image differs from the label
    prediction (v, a, n) int16   on the attacked image
    margin     (v, a, n) float32 logit of the label minus the best other logit, attacked image
    l0, l2, linf (v, a, n) float32  norms of the perturbation; l0 counts changed components
    queries    (v, a, n) int32   forward passes spent on the image (Square: proposals)
    gradients  (v, a, n) float32 backward passes, the mean over the images of its batch
    about    () str              JSON: cell, suite, number of classes, threat, attacks; `tried` has
                                 the attacks that were tried on the first images alone: how many

Only the ledger of a classifier that can reject an image has these as well:

    clean_rejection (v, n) float32   its score of the clean image, larger for a more suspicious one
    rejection (v, a, n) float32      its score of the attacked image; NaN if not attempted
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from tradeoff.core.files import atomic_write

Array = NDArray[Any]

# What zipfile, zlib and numpy raise for a file that is damaged or something else.
_DAMAGED = (BadZipFile, zlib.error, KeyError, ValueError, OSError, EOFError, NotImplementedError)

_COLUMNS = {
    "labels": np.int16,
    "clean_prediction": np.int16,
    "clean_margin": np.float32,
    "clean_confidence": np.float32,
    "check_fooled": np.float32,
    "check_fosc": np.float32,
    "check_gradient_cosine": np.float32,
    "check_zero_gradient": np.float32,
    "check_fooled_at_large_epsilon": np.float32,
    "attempted": np.bool_,
    "fooled": np.bool_,
    "prediction": np.int16,
    "margin": np.float32,
    "l0": np.float32,
    "l2": np.float32,
    "linf": np.float32,
    "queries": np.int32,
    "gradients": np.float32,
}
REJECTION = ("clean_rejection", "rejection")
CHECKS = tuple(name for name in _COLUMNS if name.startswith("check_"))
PER_IMAGE: tuple[str, ...] = ("clean_prediction", "clean_margin", "clean_confidence", *CHECKS)
_OUTCOMES = ("attempted", "fooled", "prediction", "margin", "l0", "l2", "linf")
PER_ATTACK: tuple[str, ...] = (*_OUTCOMES, "queries", "gradients")


class BadLedger(Exception):
    """A ledger is missing, damaged or of another run; the message says which and what to do."""


@dataclass(frozen=True)
class Ledger:
    """The arrays of one file, as the module's docstring lists them."""

    versions: tuple[str, ...]
    attacks: tuple[str, ...]
    columns: dict[str, Array]
    about: dict[str, Any]

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def tried(self, attack: str) -> int:
        """On how many images, the first ones, an attack was to be tried."""
        count = len(self["labels"])
        return min(count, int(self.about.get("tried", {}).get(attack, count)))

    def first(self, count: int) -> "Ledger":
        """The ledger of the first `count` images."""
        columns = {name: values[..., :count] for name, values in self.columns.items()}
        return Ledger(self.versions, self.attacks, columns, self.about)

    def version(self, name: str) -> int:
        """Index of a model version."""
        return self.versions.index(name)


def save_ledger(ledger: Ledger, path: Path) -> None:
    """Write the ledger, whole or not at all; the same ledger gives the same bytes."""
    arrays: dict[str, Any] = {name: ledger[name].astype(kind) for name, kind in _COLUMNS.items()}
    rejection = [name for name in REJECTION if name in ledger.columns]
    arrays |= {name: ledger[name].astype(np.float32) for name in rejection}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(  # not compressed: every zlib writes other bytes
            file,
            versions=np.array(ledger.versions),
            attacks=np.array(ledger.attacks),
            about=np.array(json.dumps(ledger.about, sort_keys=True)),
            **arrays,
        )


def load_ledger(path: Path, cell: str, suite: str) -> Ledger:
    """Read a ledger.

    Raises:
        BadLedger: it is missing, damaged, or of another cell or suite.
    """
    remedy = f"run: dvc repro attack@{cell}-{suite}"
    try:
        with np.load(path, allow_pickle=False) as file:
            ledger = Ledger(
                tuple(map(str, file["versions"])),
                tuple(map(str, file["attacks"])),
                {n: file[n] for n in (*_COLUMNS, *REJECTION) if n in _COLUMNS or n in file},
                dict(json.loads(str(file["about"]))),
            )
    except FileNotFoundError:
        raise BadLedger(f"{path}: not there; {remedy}") from None
    except _DAMAGED as error:
        raise BadLedger(
            f"{path}: damaged or not a ledger ({error}); delete it and {remedy}"
        ) from None
    owner = (ledger.about.get("cell"), ledger.about.get("suite"))
    if owner != (cell, suite):
        raise BadLedger(f"{path}: belongs to {owner[0]}, suite {owner[1]}; delete it and {remedy}")
    return ledger
