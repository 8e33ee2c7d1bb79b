"""Write a data set's report, in every language, from what is in git: reports/DATASET/."""

import shutil
from pathlib import Path

import _environment

from tradeoff.core.study import Study
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results

TEMPLATES = Path("report_templates")


def main(dataset: str) -> None:
    study = Study.load()
    results = read_results(study, dataset)
    files = build_report(study, dataset, results, TEMPLATES)
    folder = Path("reports", dataset)
    # Figures of an architecture that the study has dropped must not stay.
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    there, asked = len(results.cells), len(results.expected)
    print(f"[report] {dataset}: {there} of {asked} cells, {folder}/report.en.html", flush=True)


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
