"""Mixing at another alpha: a row of its own in the curve of accuracy over alpha."""

from tradeoff.defenses.mixing import *  # noqa: F403
