"""The outer polytope as a detector (Wong & Kolter 2018, corollary 2).

The base's predictions, or none: what it cannot prove is suspicious (`classifiers.proving`). Nothing
is trained.
"""

from tradeoff.core.schema import Section

BASES = ("first",)
CLASSIFIER = "proving"


class Knobs(Section):
    """All knobs are the classifier's."""
