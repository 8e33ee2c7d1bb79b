"""Turn the ledgers of a data set's cells into tables, plots/summary/DATASET, and means."""

import shutil

import _environment

from tradeoff.core.files import write_json
from tradeoff.core.study import Study
from tradeoff.evaluation import summary
from tradeoff.evaluation.certified import certified_table
from tradeoff.evaluation.completeness import complete, missing_table
from tradeoff.evaluation.csv_tables import write_table
from tradeoff.evaluation.detection import asking_table, detection_table


def main(dataset: str) -> None:
    study = Study.load()
    chosen = study.dataset(dataset)
    cells, seeds = study.cells(dataset), len(study.axes.seeds)
    completed, missing = complete(cells), missing_table(cells)
    print(f"[summarize] {dataset}: {len(completed)} of {len(cells)} cells", flush=True)
    for row in missing.itertuples():
        print(f"[summarize] missing: {row.stage}: {row.error}", flush=True)
    ledgers = [summary.load_cell_ledgers(cell) for cell in completed]
    compared = study.statistics, seeds, study.axes.proposal
    tables = {
        "cells": summary.cell_table(ledgers),
        "attacks": summary.attack_table(ledgers),
        "norms": summary.norm_table(ledgers),
        "curve": summary.curve_table(ledgers),
        "differences": summary.difference_table(ledgers, *compared),
        "detectable": summary.detectable_table(ledgers, *compared),
        "confusion": summary.confusion_table(ledgers, study.axes.proposal),
        "masking": summary.masking_table(ledgers, study.masking),
        "provenance": summary.provenance_table(ledgers),
        "certified": certified_table(ledgers),
        "detection": detection_table(ledgers),
        "asking": asking_table(ledgers),
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
