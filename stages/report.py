"""Write a data set's pages, in every language, from what is in git: reports/DATASET/."""

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
    languages = study.report.languages
    folder = Path("reports", dataset)
    # Pages in a language that the study has dropped must not stay.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in build_report(study, results, TEMPLATES, languages).items():
        (folder / name).write_bytes(content)
    evaluated, asked = len(results.cells), len(results.expected)
    page = folder / f"report.{languages[0]}.html"
    print(f"[report] {dataset}: {evaluated} of {asked} cells, {page}", flush=True)


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
