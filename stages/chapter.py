"""Write the thesis's chapter in one language, of all data sets with results in git: reports/."""

import shutil
from pathlib import Path

import _environment

from tradeoff.core.study import Study
from tradeoff.reporting.beside import read_beside
from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.results import read_evaluated

TEMPLATES = Path("report_templates")


def main(language: str) -> None:
    study = Study.load()
    evaluated = read_evaluated(study)
    folder = Path("reports")
    # Figures of what the study has dropped must not stay.
    shutil.rmtree(folder / "figures" / language, ignore_errors=True)
    files = build_chapter(study, evaluated, language, TEMPLATES, read_beside())
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    datasets = ", ".join(evaluated) or "no data set"
    print(f"[chapter] {language}: {datasets}, {folder}/chapter.{language}.tex", flush=True)


if __name__ == "__main__":
    _environment.run(main, __doc__, language="a language of params.yaml, such as es")
