"""Where training leaves its state, so that an interrupted run goes on from there."""

from typing import Any, Protocol


class Checkpoint(Protocol):
    """The last state of one cell; `running.training_checkpoints` keeps it in a file."""

    @property
    def due(self) -> bool:
        """Whether the last state is old enough for another within an epoch."""

    @property
    def due_after_epoch(self) -> bool:
        """Whether it is old enough for another at the end of an epoch."""

    def interrupted(self) -> bool:
        """Whether the process was asked to stop."""

    def load(self) -> dict[str, Any] | None:
        """The last state, on the CPU; None if there is none that can be read."""

    def save(self, state: dict[str, Any]) -> None:
        """Replace the last state, whole or not at all."""


class NoCheckpoint:
    """Keeps nothing and is never asked to stop."""

    due = due_after_epoch = False

    def interrupted(self) -> bool:
        return False

    def load(self) -> dict[str, Any] | None:
        return None

    def save(self, state: dict[str, Any]) -> None:
        pass
