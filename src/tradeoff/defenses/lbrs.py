"""Locally biased smoothing (Anderson & Sojoudi 2022): the network of the base `natural`, biased.

Nothing is trained; `lbrs.classifier` says by how much the nearest of how many images biases it.
"""

from tradeoff.core.schema import Section

BASES = ("natural",)
CLASSIFIER = "locally_biased"
CERTIFICATE = "lbrs"  # of two classes on the architecture softplus


class Knobs(Section):
    """All knobs are the classifier's."""
