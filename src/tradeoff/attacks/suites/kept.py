"""The results that an interrupted suite leaves, so that the next run does not repeat them."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from tradeoff.attacks.suites.ledger import Array

Columns = dict[str, Array]
Parts = dict[str, Columns]


class KeptResults(Protocol):
    """Results of attacks on batches, by name; `running.attack_checkpoints` keeps them in files."""

    def of(
        self, model: nn.Module, images: Tensor, labels: Tensor, logits: Tensor, about: Any
    ) -> "KeptResults":
        """The results that belong to this model, these images and budgets, and today's code."""

    def get(self, name: str, compute: Callable[[], Parts]) -> Parts:
        """The result kept under `name`, else that of `compute`, which is kept."""

    def done(self) -> None:
        """Forget everything: the suite is finished."""


class NothingKept:
    """Nothing is kept: every result is computed."""

    def of(self, *_inputs: Any) -> "NothingKept":
        return self

    def get(self, _name: str, compute: Callable[[], Parts]) -> Parts:
        return compute()

    def done(self) -> None:
        pass
