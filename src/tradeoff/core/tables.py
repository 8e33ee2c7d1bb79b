"""What the tables of results are called in: names that evaluation writes and reporting reads."""

PROPOSAL = "dtrades"  # the defense that all others are compared with
FIXED = "trades"  # the same objective with one weight for all images
CONTROL = "standard"  # trained without any defense
ENSEMBLE = "ensemble"  # what stands for the defense of several surrogates at once
HEADLINE = ("NA", "RA")  # the metrics in which the proposal is compared with the others

EXAMPLE_COLUMNS = [
    "architecture", "defense", "row", "image", "label", "clean_prediction", "clean_confidence",
    "prediction", "confidence", "amplification",
]  # fmt: skip
SIZE_COLUMNS = ["kind", "name", "count"]
MISSING_COLUMNS = ["cell", "stage", "error"]
