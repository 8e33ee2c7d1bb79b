"""TRADES with the mean of D-TRADES's lambda as its beta: a control of the weight's mere size."""

from tradeoff.defenses.trades import *  # noqa: F403
