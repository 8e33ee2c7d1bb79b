"""Reports of a matrix in which cells failed: a note on top, and what rests on fewer seeds."""

import re
import shutil
import subprocess
from dataclasses import replace

import pandas as pd
import pytest
from made_up import made_up_study, made_up_tables, write_made_up
from pages import Page

from tradeoff.core.tables import TABLES
from tradeoff.evaluation import completeness as evaluation
from tradeoff.reporting import accuracy, coverage, discussion, evidence, sentences
from tradeoff.reporting.chapter import build_chapter
from tradeoff.reporting.index import build_index
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.latex import breakable
from tradeoff.reporting.pictures import pictures
from tradeoff.reporting.report import build_report
from tradeoff.reporting.results import read_results
from tradeoff.reporting.view import View

LOST = "at-resnet18-digits-1"
ERROR = "OSError: <b>50 % of /a_very/" + 20 * "long_path/" + " & {x}"
# A seed of one defense, and all of another on one architecture.
GONE = frozenset({LOST, *(f"mart-resnet18-digits-{seed}" for seed in range(3))})
NOTES = {
    "en": ("Cells missing: 4 of 12", "did not run"),
    "es": ("Faltan celdas: 4 de 12", "no se ejecutó"),
}


def rows(*more):
    """The table plots/missing."""
    own = [(LOST, f"attack@{LOST}-bounded", ERROR), *more]
    return pd.DataFrame(own, columns=TABLES["missing"].names)


def study_of(defenses=("at", "dtrades", "mart", "trades")):
    return made_up_study(list(defenses), ["resnet18"])


@pytest.fixture(scope="module")
def partly(tmp_path_factory):
    """A study and its results without the cells of GONE, one of which has no word in the table."""
    root = tmp_path_factory.mktemp("partly")
    study = study_of()
    write_made_up(study, root, GONE)
    table = rows(*((f"mart-resnet18-digits-{seed}", f"train@mart-resnet18-digits-{seed}",
                    "did not run") for seed in (0, 1)))  # fmt: skip
    table.to_csv(root / "plots" / "summary" / "digits" / "missing.csv", index=False)
    return study, read_results(study, "digits", root)


@pytest.fixture(scope="module")
def built(partly, templates):
    study, results = partly
    files = build_report(study, results, templates)
    files["index.html"] = build_index(study, {"digits": results}, templates, ["en", "es"])
    for language in ("en", "es"):
        files |= build_chapter(study, {"digits": results}, language, templates)
    return files


@pytest.fixture(scope="module")
def english(templates):
    return load_labels("en", templates)


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_page_begins_with_what_is_missing_and_why(built, language):
    page = Page(built[f"report.{language}.html"].decode())
    text, (count, idle) = page.text, NOTES[language]
    assert text.index(count) < text.index("What was run" if language == "en" else "Qué se ejecutó")
    assert f"attack@{LOST}-bounded: {ERROR}" in text
    assert f"train@mart-resnet18-digits-0: {idle}" in text
    assert "mart-resnet18-digits-2: " in text  # of which no word is known
    # Once on top, once at the cell itself.
    assert text.count(f"attack@{LOST}-bounded: {ERROR}") == 2


def test_what_the_study_has_not_begun_is_one_sentence_and_no_row(tmp_path, templates, english):
    """A network and a seed without any cell: no dashes, no notes at rows; what failed there is
    told all the same."""
    study = made_up_study(["at", "dtrades"], ["resnet18", "vgg16"])
    gone = {c.key for c in study.cells() if c.architecture == "vgg16" or c.seed == 1}
    write_made_up(study, tmp_path, frozenset(gone))
    failed = "at-vgg16-digits-0"
    idle = [(key, f"train@{key}", "did not run") for key in sorted(gone - {failed})]
    table = pd.DataFrame([(failed, f"train@{failed}", "OSError: full"), *idle],
                         columns=TABLES["missing"].names)  # fmt: skip
    table.to_csv(tmp_path / "plots" / "summary" / "digits" / "missing.csv", index=False)
    results = read_results(study, "digits", tmp_path)
    view = View(study, results, english)
    note = coverage.missing(view)
    assert "Cells missing: 8 of 12. Of VGG16 and seed 1 nothing is evaluated yet" in note["head"]
    assert note["reasons"] == [f"train@{failed}: OSError: full"]
    (block,) = accuracy.main_table(view).blocks
    assert all(row.numbers[1].mean for row in block.rows if not row.minor)
    assert len(pictures(view)["tradeoff"]) == 1
    page = Page(build_report(study, results, templates, ["en"])["report.en.html"].decode())
    assert "means over 2 seeds" in page.text and "of 3 seeds" not in page.text
    assert page.text.count("did not run") == 0


def test_a_study_under_way_in_which_nothing_failed_compiles(tmp_path, templates):
    """No reasons: a list without items is an error of LaTeX."""
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    gone = frozenset(cell.key for cell in study.cells() if cell.seed == 2)
    write_made_up(study, tmp_path, gone)
    results = {"digits": read_results(study, "digits", tmp_path)}
    for language in ("en", "es"):
        text = build_chapter(study, results, language, templates)[f"chapter.{language}.tex"]
        assert rb"\begin{itemize}\raggedright" + b"\n\\end{itemize}" not in text
    page = build_index(study, results, templates, ["en"]).decode()
    assert "Of seed 2 nothing is evaluated yet" in Page(page).text


def test_the_index_has_it_in_every_language(built):
    page = Page(built["index.html"].decode())
    assert page.text.count(ERROR) == 2
    assert all(count in page.text for count, _ in NOTES.values())


def test_the_index_says_on_how_many_seeds_the_leader_rests(partly, templates):
    study, results = partly
    better = results.cells.assign(RA=results.cells["RA"].where(results.cells["defense"] != "at", 1))
    found = {"digits": replace(results, cells=better)}
    page = Page(build_index(study, found, templates, ["en"]).decode())
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "AT (100.0 ± 0.0 %; 2 of 3 seeds)" in text


@pytest.mark.parametrize("language", ["en", "es"])
def test_a_chapter_begins_with_it(built, language):
    text = built[f"chapter.{language}.tex"].decode()
    top = text[: text.index("\\label{sec:setup}")]
    count, idle = NOTES[language]
    assert count in " ".join(top.split())
    assert f"train@mart-resnet18-digits-0: {idle}" in top.replace(r"\hspace{0pt}", "")
    assert r"\textless{}b\textgreater{}50 \% of" in top
    assert r"\& \{x\}" in top


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("language", ["en", "es"])
def test_such_a_chapter_compiles_and_no_line_is_too_long(built, tmp_path, language):
    for name, content in built.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"standalone.{language}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    log = done.stdout.decode("latin-1")
    if "not found" in log and done.returncode:
        pytest.skip("LaTeX lacks a package")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log


def test_long_words_may_be_broken():
    cut = r"\hspace{0pt}"
    assert breakable("a_b " + 25 * "x") == r"a\_b " + 20 * "x" + cut + 5 * "x"
    parts = ["/", r"one\_", "two/", 20 * "x", "/"]
    assert breakable(f"/one_two/{20 * 'x'}/") == cut.join(parts)


def test_a_complete_matrix_has_no_note(tmp_path, templates):
    """The same bytes with a table without rows as before there was such a table."""
    study = made_up_study(["at"], ["resnet18"], [0])
    write_made_up(study, tmp_path)
    before = read_results(study, "digits", tmp_path)
    (tmp_path / "plots" / "summary" / "digits" / "missing.csv").write_text(
        ",".join(TABLES["missing"].names) + "\n"
    )
    after = read_results(study, "digits", tmp_path)
    pages = [build_report(study, found, templates, ["es"]) for found in (before, after)]
    assert pages[0] == pages[1]
    assert b"Faltan celdas" not in pages[0]["report.es.html"]
    assert coverage.missing(View(study, after, load_labels("en", templates))) is None


def test_a_dropped_cell_leaves_the_note(tmp_path, english):
    """What the table says of cells that the study does not ask for any more is not shown."""
    study = study_of(["at", "dtrades"])
    write_made_up(study, tmp_path, frozenset({LOST}))
    table = rows(("mart-resnet18-digits-0", "train@mart-resnet18-digits-0", "gone"))
    table.to_csv(tmp_path / "plots" / "summary" / "digits" / "missing.csv", index=False)
    note = coverage.missing(View(study, read_results(study, "digits", tmp_path), english))
    assert note["reasons"] == [f"attack@{LOST}-bounded: {ERROR}"]


def notes_of(table, study):
    """The notes below a table by the defense they stand at."""
    (block,) = table.blocks
    return {
        row.header: " ".join(table.notes[letter] for letter in row.note.split(", "))
        for row in block.rows
        if row.note
    }


@pytest.mark.parametrize(
    "build",
    [accuracy.main_table, accuracy.overfitting_table, accuracy.class_table, accuracy.fairness_table,
     evidence.norm_table, evidence.transfer_table, accuracy.cost_table],
)  # fmt: skip
def test_every_table_of_means_says_of_how_many_seeds_they_are(partly, english, build):
    study, _ = partly
    table = build(View(*partly, english))
    notes = notes_of(table, study)
    assert "2 of 3 seeds (missing: 1)" in notes["AT"]
    assert re.search("no cell is evaluated|nothing is there of any seed", notes["MART"])
    assert "D-TRADES" not in notes
    (block,) = table.blocks
    mart = next(row for row in block.rows if row.header == "MART")
    assert all(number.mean == "" for number in mart.numbers)


def test_the_table_of_attacks_has_a_row_of_seeds(partly, complete, english):
    (block,) = accuracy.attack_table(View(*partly, english)).blocks
    row = block.rows[-1]
    assert row.minor and row.header == "Seeds"
    assert [number.mean for number in row.numbers] == ["2 of 3", "3 of 3", "0 of 3", "3 of 3", ""]
    for other in accuracy.attack_table(View(*complete, english)).blocks:
        assert not any(row.minor for row in other.rows)


def test_differences_say_on_which_seeds_they_rest(tmp_path, english):
    study = study_of()
    tables = made_up_tables(study)
    found = tables.differences
    found.loc[found["other"] == "at", "seeds"] = 2
    found.loc[found["other"] == "trades", ["seeds", "detectable"]] = [1, float("nan")]
    tables.differences = found[found["other"] != "mart"]
    write_made_up(study, tmp_path, tables=tables)
    results = read_results(study, "digits", tmp_path)
    table = evidence.difference_table(View(study, results, english))
    assert notes_of(table, study) == {
        "AT": "Of the 2 of 3 seeds that both have.",
        "TRADES": "Of the 1 of 3 seeds that both have.",
    }
    numbers = {row.header: [number.mean for number in row.numbers] for row in table.blocks[0].rows}
    assert numbers["MART"] == [""] * 6
    assert numbers["TRADES"][0] and not numbers["TRADES"][2]  # what is detectable is not known
    assert not any("nan" in text.lower() for texts in numbers.values() for text in texts)
    _, text = sentences.differences(View(study, results, english))
    assert re.search(r"AT \([^;)]*; 2 of 3 seeds\)", text)
    assert "The comparison with MART is missing." in text


def test_sentences_say_it_too(partly, english):
    study, results = partly
    fewer = "Fewer seeds than in the study: ResNet-18, AT 2 of 3; ResNet-18, MART 0 of 3."
    assert sentences.cost(View(study, results, english))[-1] == fewer
    (source,) = coverage.gaps(View(study, results, english))["transfer"]
    assert source.startswith("Examples were made on 3 of 4 models. Missing: mart-resnet18-digits-0")
    assert coverage.seed_sentence(View(study, results, english), "cells", ["dtrades"]) == ""
    lead = results.cells.copy()
    lead.loc[lead["defense"] == "at", "RA_worst_class"] = 0.99
    (text,) = discussion.fairness(View(study, replace(results, cells=lead), english))
    assert "that of AT (99.0 ± 0.0 %; 2 of 3 seeds)" in text.replace("\N{NO-BREAK SPACE}", " ")


def test_captions_say_it_of_figures_of_means(partly, complete, english):
    study, results = partly
    found = pictures(View(study, results, english))
    fewer = "Fewer seeds than in the study: ResNet-18, AT 2 of 3; ResNet-18, MART 0 of 3."
    for subject in ("tradeoff", "classes", "curve", "transfer", "cost"):
        (picture,) = found[subject]
        assert picture.caption.endswith(fewer), subject
    (weights,) = found["lambda"]  # of D-TRADES, of which nothing is missing
    assert "Fewer seeds" not in weights.caption
    for group in pictures(View(*complete, english)).values():
        assert not any("Fewer seeds" in picture.caption for picture in group)


@pytest.mark.parametrize("gone", ["dtrades", "at"])
def test_a_study_of_which_a_defense_is_all_that_is_left(tmp_path, templates, gone):
    """Neither the proposal nor what it is compared with has to be there."""
    study = study_of(["at", "dtrades"])
    keys = frozenset(f"{gone}-resnet18-digits-{seed}" for seed in range(3))
    tables = made_up_tables(study)
    tables.differences = tables.differences.iloc[:0]
    tables.detectable = tables.detectable.iloc[:0]
    write_made_up(study, tmp_path, keys, tables=tables)
    results = read_results(study, "digits", tmp_path)
    text = build_report(study, results, templates, ["en"])["report.en.html"].decode()
    assert "Cells missing: 3 of 6" in Page(text).text
    names = {"at": "AT", "dtrades": "D-TRADES"}
    row = next(row for row in Page(text).tables["table-main"] if row[0].startswith(names[gone]))
    assert row[1:] == ["—"] * 7


def test_what_stands_for_no_error_has_words_in_every_language(templates):
    for language in ("en", "es"):
        texts = load_labels(language, templates).texts
        assert coverage.DID_NOT_RUN == evaluation.DID_NOT_RUN
        for sentence in (evaluation.DID_NOT_RUN, evaluation.DID_NOT_END, "no word of why"):
            assert f"missing.errors.{sentence.replace(' ', '_')}" in texts
