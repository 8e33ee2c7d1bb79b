"""MixedNUTS (Bai et al. 2024): two bases mixed by how sure the robust one is; nothing is trained.

Its classifier is calibrated on the validation split when the cell is put together.
"""

from tradeoff.core.schema import Section

BASES = ("natural", "robust")
CLASSIFIER = "mixednuts"


class Knobs(Section):
    """All knobs are the classifier's."""
