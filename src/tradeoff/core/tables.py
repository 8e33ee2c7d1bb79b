"""The tables of results: columns that evaluation writes and reporting reads, each told once."""

from typing import NamedTuple

# What stands for the defense of several surrogates at once, and of a substitute of the target.
ENSEMBLE, EXTRACTION = "ensemble", "extraction"
HEADLINE = ("NA", "RA")  # the metrics in which the proposal is compared with the others
FURTHER_ATTACKS = ("pgd_unaware", "pgd_evading")  # of classifiers that are more than a network
LOW_IS_SUSPICIOUS = {"gradient_cosine"}  # all other masking flags are raised by large numbers
CELL = ("defense", "architecture", "seed")


class Columns(NamedTuple):
    """The columns that a table has in any case.

    Attributes:
        key: those that tell its rows apart.
        texts: others that hold names or sentences.
        numbers: numbers of any size.
        rates: numbers in [0, 1].
        signed: differences of rates, in [-1, 1].
    """

    key: tuple[str, ...]
    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    signed: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        return [name for names in self for name in names]


TABLES = {
    "cells": Columns(
        CELL,
        numbers=("images", "images_bounded"),
        rates=(
            "NA", "RA", "RA_worst_class", "NA_last", "RA_last", "RA_bounded", "ASR",
            "ASR_correct", "ECE",
        ),
        signed=("RD",),
    ),
    "attacks": Columns(
        (*CELL, "version", "attack", "class"), numbers=("images",), rates=("accuracy",)
    ),
    "norms": Columns(
        (*CELL, "norm"),
        numbers=("images", "APN", "APN_fooled", "APN_fooled_median"),
        rates=("unfooled",),
    ),
    "curve": Columns((*CELL, "epsilon"), rates=("RA",)),
    "certified": Columns(
        (*CELL, "epsilon"), numbers=("images",), rates=("certified_accuracy", "abstained")
    ),
    "detection": Columns(
        (*CELL, "attack"),
        numbers=("images", "examples", "threshold"),
        rates=(
            "area", "false_alarms", "detected", "NA_rejecting", "coverage", "selective_accuracy",
            "RA_rejecting", "evaded", "RErr_all", "RErr", "RErr_99",
        ),
    ),
    "asking": Columns(CELL, numbers=("forward_passes", "calibration_images")),
    "differences": Columns(
        ("architecture", "other", "metric"),
        numbers=("seeds", "images", "low", "high", "detectable"),
        signed=("difference",),
    ),
    "detectable": Columns(
        ("architecture", "metric", "one", "other"), ("resolved",), numbers=("detectable", "p")
    ),
    "masking": Columns(
        (*CELL, "flag"), ("raised", "suggests"), numbers=("number", "threshold")
    ),
    "transfer": Columns(
        ("source", "target"),
        (
            "role", "source_defense", "source_architecture", "target_defense",
            "target_architecture",
        ),
        numbers=("images",),
        rates=("fooled", "RA"),
    ),
    "examples": Columns(
        ("architecture", "defense", "image"),
        numbers=("row", "label", "clean_prediction", "prediction", "amplification"),
        rates=("clean_confidence", "confidence"),
    ),
    "gradients": Columns(
        CELL,
        numbers=("images", "row", "alignment", "roughness"),
        rates=("sparsity",),
        signed=("agreement",),
    ),
    "sizes": Columns(("kind", "name"), numbers=("count",)),
    "provenance": Columns(("cell", "stage")),
    "missing": Columns(("cell", "stage"), ("error",)),
}  # fmt: skip
