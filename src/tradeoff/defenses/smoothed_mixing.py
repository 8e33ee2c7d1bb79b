"""Mixing with proof (Bai et al. 2023, section 4): a standard network and a smoothed one, mixed.

Nothing is trained; the smoothed network is that of the base `noisy`.
"""

from tradeoff.core.schema import Section

BASES = ("natural", "noisy")
CLASSIFIER = "mixed_smoothed"
CERTIFICATE = "smoothing"


class Knobs(Section):
    """All knobs are the classifier's."""
