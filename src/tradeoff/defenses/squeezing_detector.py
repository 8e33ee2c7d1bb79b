"""Feature squeezing as a detector (Xu et al. 2018, section V): the base's predictions, or none.

What squeezing would classify otherwise is suspicious; see `classifiers.squeezed`.
"""

from tradeoff.core.schema import Section

BASES = ("natural",)
CLASSIFIER = "squeezed"


class Knobs(Section):
    """All knobs are the classifier's."""
