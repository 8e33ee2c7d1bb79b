"""D-TRADES by sensitivity alone, alpha = 0."""

from tradeoff.defenses.dtrades import *  # noqa: F403
