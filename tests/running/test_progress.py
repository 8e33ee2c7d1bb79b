"""What a stage says while it works."""

import pytest

from tradeoff.running.progress import Progress

ROW = {
    "loss": 1.0,
    "validation_natural_accuracy": 0.9,
    "validation_robust_accuracy": 0.5,
    "seconds": 90.0,
}


def test_the_first_epoch_of_a_process_tells_the_true_rate(capsys: pytest.CaptureFixture) -> None:
    for first, last in ((0, 2), (3, 4)):  # a new cell, and one that goes on in its fourth epoch
        progress = Progress("train", "cell", (1, 1))
        for epoch in range(first, last + 1):
            progress.training(epoch, 5, 9, 10, ROW)
        said = capsys.readouterr().out.splitlines()
        rates = [line.split("90.0 s")[1] for line in said]
        left = "6 min" if first == 0 else "90 s"
        assert rates == [f"; {left} left at this rate", *[""] * (last - first)]
