"""D-TRADES whose lambda is the batch's mean: a schedule, and nothing of the single image."""

from tradeoff.defenses.dtrades import *  # noqa: F403
