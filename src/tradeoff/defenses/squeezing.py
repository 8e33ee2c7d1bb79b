"""Feature squeezing (Xu et al. 2018): the network of the base `natural` sees squeezed images.

Nothing is trained; `squeezing.classifier` says which squeezers there are.
"""

from tradeoff.core.schema import Section

BASES = ("natural",)
CLASSIFIER = "squeezed"


class Knobs(Section):
    """All knobs are the classifier's."""
