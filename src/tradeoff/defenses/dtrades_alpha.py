"""D-TRADES by entropy alone, beta = 0."""

from tradeoff.defenses.dtrades import *  # noqa: F403
