"""A cascade of two stages (Wong et al. 2018, section 4): the first that proves its prediction.

Nothing is trained. The stages are the networks of the bases `first` and `second`.
"""

from tradeoff.core.schema import Section

BASES = ("first", "second")
CLASSIFIER = "cascaded"
CERTIFICATE = "cascade"


class Knobs(Section):
    """All knobs are the classifier's."""
