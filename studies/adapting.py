"""Does adapting the weight help? D-TRADES against its shuffle, with more seeds than the table has.

    python studies/adapting.py digits      12 seeds: half an hour on two cores
    python studies/adapting.py mnist_5k    4 seeds: an hour and a half to two

The table has three seeds of each defense, which resolve ten points. Here are only the two rows
that the question needs, which differ in one thing: whose image a weight is. The shuffle has
D-TRADES's own weights, dealt out anew within each batch. Differences are paired by seed and image.
So many detect 2.6 points of RA on digits, 4.7 on mnist_5k. What is found is in
reports/adapting-DATASET, and told in docs/tuning.md.
"""

import argparse
import sys
from typing import Any

from beside import list_trained, reproduce

DEFENSES = ("dtrades", "dtrades_shuffled")
SEEDS = {"digits": 12, "mnist_5k": 4}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=SEEDS)
    dataset = parser.parse_args().dataset
    return reproduce(f"adapting-{dataset}", dataset, lambda params: rows(params, dataset))


def rows(params: Any, dataset: str) -> None:
    """Give the study's params the rows of this question, in place."""
    study, suites = params["study"], params["datasets"][dataset]["suites"]
    list_trained(study, DEFENSES)
    study.update(
        defenses=list(DEFENSES), architectures=["resnet18"], datasets=[dataset],
        seeds=list(range(SEEDS[dataset])),
        baseline=None, control=None, controls_of_proposal=["dtrades_shuffled"],
    )  # fmt: skip
    params["transfer"].update(extraction=None)
    suites["minimal"].update(images=10)
    if dataset == "digits":
        for suite in ("bounded", "autoattack"):
            suites[suite].update(images=None)
    else:  # RA is of the 500 images of APGD, as in the table; all of AutoAttack decides little more
        suites["autoattack"]["attacks"]["autoattack"].update(images=20)


if __name__ == "__main__":
    sys.exit(main())
