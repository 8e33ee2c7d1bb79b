"""What DVC's experiments changed, in a table that fits a screen: `make experiments`.

It reads what `dvc exp show --csv` prints, whose own table names each column by its whole path.
"""

import csv
import os
import re
import sys
from collections.abc import Iterable

from tradeoff.running import words

MEAN = re.compile(r"metrics/means/(?P<dataset>[^/]+)/(?P<name>[^:]+)\.json:(?P<metric>.+)")


def table(printed: Iterable[str], only: str = "") -> str:
    """The experiments, a line each, with their means and parameters.

    Args:
        printed: lines of CSV.
        only: such as "dtrades-resnet18": of all means these; "": every one.
    """
    header, *rows = csv.reader(printed)
    means = {place: MEAN.fullmatch(column) for place, column in enumerate(header)}
    several = len({mean["dataset"] for mean in means.values() if mean}) > 1
    chosen: dict[str, int] = {}
    for place, column in enumerate(header):
        if (mean := means[place]) is None:
            chosen[column.removeprefix("params.yaml:")] = place
        elif only in ("", mean["name"]):
            whose = [mean["dataset"]] * several + [mean["name"]] * (not only)
            chosen[" ".join([*whose, mean["metric"]])] = place
    revision, kind = chosen.pop("rev"), chosen.pop("typ")
    experiment = chosen.pop("Experiment")
    lines = []
    for row in rows:
        name = row[experiment] if row[kind].startswith("branch") else ""
        numbers = [row[place] or "-" for place in chosen.values()]
        lines.append([" ".join(filter(None, (row[revision], name))), *numbers])
    return words.table(["experiment", *chosen], lines)


if __name__ == "__main__":
    printed = sys.stdin.readlines()
    if not printed:  # DVC failed, and has said why
        sys.exit(1)
    print(table(printed, os.environ.get("ONLY", "")))
