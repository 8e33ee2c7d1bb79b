"""Does adapting the weight help? D-TRADES against its controls, with more seeds than the table has.

    python studies/adapting.py digits      12 seeds
    python studies/adapting.py mnist_5k    4 seeds: for a night

The table has three seeds of each defense, which resolve ten points. Here are only the rows that the
question needs: D-TRADES; the same with the weights of a batch shuffled among its images, or their
mean for all of them; and `trades_matched`, TRADES with a weight that on digits is D-TRADES's mean
(for mnist_5k put the mean there into params.yaml, which its histories tell). Differences are
paired; that so many seeds and images resolve two points of RA is an estimate, and the report says
what they do resolve. What is found is in reports/adapting-DATASET.
"""

import sys
from typing import Any

from beside import list_trained, reproduce

DEFENSES = ("trades_matched", "dtrades", "dtrades_shuffled", "dtrades_batch_mean")
# Seeds, and test images that are attacked: of digits all.
SIZE = {"digits": (12, 400), "mnist_5k": (4, 500)}


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in SIZE:
        print(__doc__, file=sys.stderr)
        return 2
    dataset = sys.argv[1]
    return reproduce(f"adapting-{dataset}", dataset, lambda params: rows(params, dataset))


def rows(params: Any, dataset: str) -> None:
    """Give the study's params the rows of this question, in place."""
    seeds, images = SIZE[dataset]
    study, suites = params["study"], params["datasets"][dataset]["suites"]
    list_trained(study, DEFENSES)
    study.update(
        defenses=list(DEFENSES), architectures=["resnet18"], datasets=[dataset],
        seeds=list(range(seeds)), baseline="trades_matched", control=None,
    )  # fmt: skip
    suites["bounded"].update(images=images)
    suites["autoattack"].update(images=images)
    params["transfer"].update(extraction=None)


if __name__ == "__main__":
    sys.exit(main())
