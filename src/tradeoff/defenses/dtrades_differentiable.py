"""D-TRADES with the gradient through lambda."""

from tradeoff.defenses.dtrades import *  # noqa: F403
