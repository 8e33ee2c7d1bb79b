"""Distillation at a lower temperature, with a teacher of that temperature: a row of the sweep."""

from tradeoff.defenses.distillation import *  # noqa: F403

BASES = ("teacher_10",)
