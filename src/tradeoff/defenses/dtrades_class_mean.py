"""D-TRADES whose lambda is the mean of the image's class in the batch."""

from tradeoff.defenses.dtrades import *  # noqa: F403
