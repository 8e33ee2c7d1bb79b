"""What a stage says while it works: a bar in a terminal, a line an epoch or attack in a log."""

import sys
import time

from tqdm import tqdm

from tradeoff.running import state
from tradeoff.running.live import live_curves
from tradeoff.running.words import duration


class Progress:
    """Messages of one cell: `[train 5/36] trades-resnet18-digits-1: ...`.

    Args:
        position: (number of the cell, number of cells), from 1.
    """

    def __init__(self, stage: str, cell: str, position: tuple[int, int]) -> None:
        self._head = f"[{stage} {position[0]}/{position[1]}] {cell}:"
        self._bar: tqdm[None] | None = None
        self._last = time.monotonic()
        self._rate_told = False
        self._curves = live_curves(cell) if stage == "train" else None

    def say(self, message: str) -> None:
        """One line."""
        tqdm.write(f"{self._head} {message}", file=sys.stdout)
        sys.stdout.flush()

    def training(
        self, epoch: int, epochs: int, step: int, steps: int, row: dict[str, float] | None
    ) -> None:
        """After a step (row None) or an epoch of training; the first tells the true rate."""
        state.note(f"epoch {epoch + 1}/{epochs}", (epoch + (step + 1) / steps) / epochs)
        if row is not None:
            self._close()
            left = row["seconds"] * (epochs - epoch - 1)
            rate = f"; {duration(left)} left at this rate" if left and not self._rate_told else ""
            self._rate_told = True
            if self._curves is not None:
                self._curves(epoch, row)
            self.say(
                f"epoch {epoch + 1}/{epochs}, loss {row['loss']:.3f}, "
                f"NA {row['validation_natural_accuracy']:.1%}, "
                f"RA {row['validation_robust_accuracy']:.1%}, {row['seconds']:.1f} s{rate}"
            )
        elif sys.stderr.isatty():
            self._advance(f"epoch {epoch + 1}/{epochs}", step + 1, steps, "step")

    def attacking(self, version: str, attack: str, done: int, images: int) -> None:
        """After a batch of an attack."""
        state.note(f"{attack} on {version}, image {done}/{images}")
        if sys.stderr.isatty():
            self._advance(f"{attack} on {version}", done, images, "image")
        if done == images:
            self._close()
            now = time.monotonic()
            self.say(f"{attack} on {version}, {now - self._last:.1f} s")
            self._last = now

    def _advance(self, what: str, done: int, total: int, unit: str) -> None:
        if self._bar is None or self._bar.desc != f"{what}: ":
            self._close()
            self._bar = tqdm(total=total, desc=what, unit=unit, leave=False)
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
