"""Durations as a person would say them."""

import pytest

from tradeoff.running.words import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (40, "40 s"),
        (119, "119 s"),
        (720, "12 min"),
        (5.5 * 3600, "5.5 h"),
        (47 * 3600, "47.0 h"),
        (3.1 * 86400, "3.1 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
