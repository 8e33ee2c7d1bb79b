"""Randomized smoothing (Cohen et al. 2019): the network of the base `noisy`, smoothed.

Nothing is trained; `smoothing.classifier` says how the network of `gaussian` is smoothed.
"""

from tradeoff.core.schema import Section

BASES = ("noisy",)
CLASSIFIER = "smoothed"
CERTIFICATE = "smoothing"


class Knobs(Section):
    """All knobs are the classifier's."""
