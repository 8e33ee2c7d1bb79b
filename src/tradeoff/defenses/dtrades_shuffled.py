"""D-TRADES whose lambda is another image's of the batch: as spread out, and not adapted."""

from tradeoff.defenses.dtrades import *  # noqa: F403
