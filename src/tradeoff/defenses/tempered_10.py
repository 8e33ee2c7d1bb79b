"""The teacher of `distillation_10`."""

from tradeoff.defenses.tempered import *  # noqa: F403
