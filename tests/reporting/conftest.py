from pathlib import Path

import pytest
from made_up import MISSING, MISSING_HISTORY, made_up_study, write_made_up

from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results

TEMPLATES = Path(__file__).parents[2] / "report_templates"


@pytest.fixture(scope="session")
def templates():
    return TEMPLATES


@pytest.fixture(scope="session")
def complete(tmp_path_factory):
    """A study and the results of its whole matrix."""
    root = tmp_path_factory.mktemp("complete")
    study = made_up_study()
    write_made_up(study, root)
    return study, read_results(study, "digits", root)


@pytest.fixture(scope="session")
def incomplete(tmp_path_factory):
    """A study of which cells and training CSVs are missing, run on few images."""
    root = tmp_path_factory.mktemp("incomplete")
    study = made_up_study(limit=500)
    write_made_up(study, root, MISSING, MISSING_HISTORY)
    return study, read_results(study, "digits", root)


@pytest.fixture(scope="session")
def complete_report(complete, templates):
    study, results = complete
    return build_report(study, results, templates)


@pytest.fixture(scope="session")
def complete_chapter(complete, templates):
    study, results = complete
    return build_chapter(study, {"digits": results}, "es", templates)


@pytest.fixture(scope="session")
def incomplete_report(tmp_path_factory, templates):
    """In one language and of three defenses: the figures take most of the time."""
    root = tmp_path_factory.mktemp("incomplete_report")
    study = made_up_study(["at", "trades", "mart"], limit=500)
    write_made_up(study, root, MISSING)
    results = read_results(study, "digits", root)
    pages = build_report(study, results, templates, ["en"])
    return pages | build_chapter(study, {"digits": results}, "en", templates)
