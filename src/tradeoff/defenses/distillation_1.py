"""Distillation at temperature 1, whose teacher is the standard network: a row of the sweep."""

from tradeoff.defenses.distillation import *  # noqa: F403

BASES = ("natural",)
