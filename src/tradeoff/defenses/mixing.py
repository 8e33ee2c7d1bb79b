"""Adaptive smoothing at a fixed weight (Bai et al. 2023): a standard and a robust network, mixed.

Nothing is trained; `mixing.classifier.alpha` is the weight of the robust network.
"""

from tradeoff.core.schema import Section

BASES = ("natural", "robust")
CLASSIFIER = "mixed"


class Knobs(Section):
    """All knobs are the classifier's."""
