"""Write the first page of the reports, of all data sets with results in git: reports/index.html."""

from pathlib import Path

import _environment

from tradeoff.core.files import atomic_write
from tradeoff.core.study import Study
from tradeoff.reporting.beside import read_beside
from tradeoff.reporting.index import build_index
from tradeoff.reporting.results import read_evaluated

TEMPLATES = Path("report_templates")


def main() -> None:
    study = Study.load()
    evaluated = read_evaluated(study)
    page = Path("reports", "index.html")
    with atomic_write(page) as partial:
        languages = study.report.languages
        partial.write_bytes(build_index(study, evaluated, TEMPLATES, languages, read_beside()))
    print(f"[index] {', '.join(evaluated) or 'no data set'}: {page}", flush=True)


if __name__ == "__main__":
    _environment.run(main, __doc__)
