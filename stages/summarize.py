"""Turn the ledgers of a data set's cells into tables, plots/summary/DATASET, and means."""

import shutil

import _environment

from tradeoff.core.files import write_json
from tradeoff.core.study import Study
from tradeoff.evaluation import summary
from tradeoff.evaluation.missing import complete, missing_table
from tradeoff.evaluation.tables import write_table


def main(dataset: str) -> None:
    study = Study.load()
    chosen = study.dataset(dataset)
    cells, seeds = study.cells(dataset), len(study.axes.seeds)
    there, missing = complete(cells), missing_table(cells)
    print(f"[summarize] {dataset}: {len(there)} of {len(cells)} cells", flush=True)
    for row in missing.itertuples():
        print(f"[summarize] missing: {row.stage}: {row.error}", flush=True)
    evaluated = [summary.load_evaluated(cell) for cell in there]
    compared = study.statistics, seeds, study.axes.proposal
    tables = {
        "cells": summary.cell_table(evaluated),
        "attacks": summary.attack_table(evaluated),
        "norms": summary.norm_table(evaluated),
        "curve": summary.curve_table(evaluated),
        "differences": summary.difference_table(evaluated, *compared),
        "detectable": summary.detectable_table(evaluated, *compared),
        "confusion": summary.confusion_table(evaluated, study.axes.proposal),
        "masking": summary.masking_table(evaluated, study.masking),
        "provenance": summary.provenance_table(evaluated),
        "missing": missing,
    }
    # Both folders are this stage's outputs: a dropped defense's means must not stay.
    for folder in (chosen.table("cells").parent, chosen.summary):
        shutil.rmtree(folder, ignore_errors=True)
    for name, table in tables.items():
        write_table(table, chosen.table(name))
    for name, means in summary.means(tables["cells"], seeds).items():
        write_json(means, chosen.summary / f"{name}.json")


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
