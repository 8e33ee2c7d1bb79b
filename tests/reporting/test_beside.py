"""Studies beside the table, as the first page and the chapter tell of them."""

import shutil
from dataclasses import replace

import pytest
from made_up import made_up_study, write_made_up
from pages import Page

from tradeoff.core.study import Study
from tradeoff.reporting.beside import Beside, read_beside, sum_up, write_beside
from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.index import build_index
from tradeoff.reporting.results import read_results


@pytest.fixture
def folder(tmp_path, templates, monkeypatch):
    """Where a study of the proposal and its control has run."""
    study = made_up_study(["dtrades", "at"], ["resnet18"])
    axes = study.axes.model_copy(update={"proposal": "dtrades", "controls_of_proposal": ["at"]})
    study = replace(study, axes=axes)
    write_made_up(study, tmp_path)
    shutil.copytree(templates, tmp_path / "report_templates")
    monkeypatch.setattr(Study, "load", lambda file: study)
    return tmp_path


def test_the_first_page_and_the_chapter_tell_it_in_their_language(folder, templates):
    told = [sum_up("asking", "digits", folder), Beside("further", "digits", {"en": [], "es": []})]
    for study in told:
        write_beside(study, folder)
    assert read_beside(folder) == told
    (english,), (spanish,) = told[0].said["en"], told[0].said["es"]
    assert "points of RA" in english and "puntos de RA" in spanish

    study, languages = Study.load(folder), ["en", "es"]
    results = {"digits": read_results(study, "digits", folder)}
    page = Page(build_index(study, results, templates, languages, told).decode())
    assert english in page.text and spanish in page.text
    links = {attributes.get("href") for _, attributes in page.tags}
    for name in ("asking", "further"):
        assert {f"{name}/report.{language}.html" for language in languages} <= links
    chapter = build_chapter(study, results, "es", templates, told)["chapter.es.tex"].decode()
    assert "un estudio de esta sola pregunta" in chapter


def test_a_study_that_asks_more_tells_nothing_there(folder):
    Study.load(folder).axes.controls_of_proposal.clear()
    assert sum_up("survey", "digits", folder).said == {"en": [], "es": []}
