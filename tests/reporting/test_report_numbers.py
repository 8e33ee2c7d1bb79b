"""The numbers, their bold and the sentences about them."""

import numpy as np
import pandas as pd
import pytest
from made_up import ATTACKS, MISSING, PARTS, made_up_study, made_up_tables, write_made_up
from pages import Page

from tradeoff.reporting.accuracy import attack_table, class_table, main_table, overfitting_table
from tradeoff.reporting.estimates import Estimate, best, estimate, percent, within_one_sd
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import BadResults, read_results
from tradeoff.reporting.sentences import coverage, leaders

pytestmark = pytest.mark.xdist_group("reporting")
METRICS = ["NA", "RA", "RD", "ASR", "RA_worst_class", "ECE"]


@pytest.fixture(scope="module")
def english(templates):
    return load_labels("en", templates)


def said_of_ra(study, results, english):
    """The sentence on RA of the first architecture, with plain spaces."""
    return leaders(study, results, english)[1].replace("\N{NO-BREAK SPACE}", " ")


def with_values(study, root, values, **holes):
    """Results whose cells have the given values: {(defense, seed): {column: value}}."""
    tables = made_up_tables(study)
    for (defense, seed), columns in values.items():
        mask = (tables.cells["defense"] == defense) & (tables.cells["seed"] == seed)
        for column, value in columns.items():
            tables.cells.loc[mask, column] = value
    write_made_up(study, root, tables=tables, **holes)
    return read_results(study, "digits", root)


def test_main_table_equals_numpy(complete, english):
    study, results = complete
    tables = made_up_tables(study)
    table = main_table(study, results, english)
    for block, architecture in zip(table.blocks, study.axes.architectures, strict=True):
        for row, defense in zip(block.rows, study.axes.defenses, strict=True):
            where = f"defense == {defense!r} and architecture == {architecture!r}"
            cells, expected = tables.cells.query(where), []
            for metric in METRICS:
                values = 100 * cells[metric].to_numpy()
                sd = f"{np.std(values, ddof=1):.1f}" if metric in ("NA", "RA") else ""
                expected.append((f"{np.mean(values):.1f}", sd))
            norms = tables.norms.query(f"{where} and norm == 'linf'")
            bound = "≥\N{NO-BREAK SPACE}" if norms["APN_is_lower_bound"].any() else ""
            expected.insert(5, (f"{bound}{norms['APN'].mean():.4f}", ""))
            assert [(number.mean, number.sd) for number in row.numbers] == expected


def test_the_main_table_says_what_ra_is(complete, english):
    caption = main_table(*complete, english).caption
    assert "every attack of suite bounded and AutoAttack must fail" in caption
    assert "both share: 360" in caption
    assert f"norm {english('norms.linf')}" in caption


def test_bold_is_on_the_best_of_each_column(complete, english):
    study, results = complete
    for block in main_table(study, results, english).blocks:
        for column, metric in enumerate([*METRICS[:5], "APN", "ECE"]):
            numbers = [row.numbers[column] for row in block.rows]
            bold = [number.best for number in numbers]
            if any("≥" in number.mean for number in numbers):
                assert not any(bold)
                continue
            means = [float(number.mean) for number in numbers]
            target = min(means) if metric in ("RD", "ASR", "ECE") else max(means)
            assert bold == [mean == target for mean in means]


def test_ties_at_the_printed_precision_are_all_bold():
    tie = [Estimate(0.85341, None, 1), Estimate(0.85349, None, 1), Estimate(0.85241, None, 1)]
    assert best(tie, True) == [True, True, False]
    assert best(tie, False) == [False, False, True]
    assert best([None, tie[0]], True) == [False, False]
    bound = Estimate(0.5, None, 1, at_least=True)
    assert best([*tie, bound], True) == [False] * 4


def test_attack_table_equals_the_csv(complete, english):
    study, results = complete
    tables = made_up_tables(study)
    attacks = tables.attacks.query("version == 'best' and `class` == 'all'")
    table = attack_table(study, results, english)
    names = ["natural", *ATTACKS, *PARTS, "all"]
    assert [group.header for group in table.groups] == [
        "", "Bounded attacks", "AutoAttack, cumulative", ""
    ]  # fmt: skip
    assert [column.header for column in table.columns[:-1]] == [
        english(f"attacks.{name}") for name in names
    ]
    for block, architecture in zip(table.blocks, study.axes.architectures, strict=True):
        for row, defense in zip(block.rows, study.axes.defenses, strict=True):
            mine = attacks[
                (attacks["defense"] == defense) & (attacks["architecture"] == architecture)
            ]
            means = mine.groupby("attack")["accuracy"].mean()
            printed = [number.mean for number in row.numbers[:-1]]
            assert printed == [f"{100 * means[name]:.1f}" for name in names]
            rates = tables.cells.query("defense == @defense and architecture == @architecture")
            assert row.numbers[-1].mean == f"{100 * rates['ASR_correct'].mean():.1f}"


def test_overfitting_is_the_mean_of_the_differences(incomplete, english):
    study, results = incomplete
    table = overfitting_table(study, results, english)
    index = study.axes.defenses.index("trades")
    rows = results.cells.query("defense == 'trades' and architecture == 'resnet18'")
    change = 100 * (rows["RA_last"] - rows["RA_bounded"])
    number = table.blocks[0].rows[index].numbers[-1]
    assert len(rows) == 2
    assert number.mean == f"{change.mean():.1f}".replace("-", "\N{MINUS SIGN}")
    assert number.sd == f"{change.std():.1f}"


def test_class_table_holds_every_class(complete, english):
    study, results = complete
    table = class_table(study, results, english)
    rows = results.attacks.query(
        "defense == 'mart' and architecture == 'vgg16' and version == 'best' and attack == 'all'"
    )
    means = rows[rows["class"] == "7"]["accuracy"].mean()
    row = table.blocks[1].rows[study.axes.defenses.index("mart")]
    assert len(row.numbers) == 10
    assert row.numbers[7].mean == f"{100 * means:.1f}"


def test_missing_seeds_are_noted_and_a_single_seed_has_no_sd(incomplete, english):
    study, results = incomplete
    table = main_table(study, results, english)
    rows = dict(zip(study.axes.defenses, table.blocks[0].rows, strict=True))
    other = dict(zip(study.axes.defenses, table.blocks[1].rows, strict=True))
    assert rows["at"].numbers[0].sd == ""
    assert rows["trades"].numbers[0].sd != ""
    assert [number.mean for number in other["mart"].numbers] == [""] * 7
    notes = {note.letter: note.text for note in table.notes}
    assert "1 of 3 seeds (missing: 1 and 2)" in notes[rows["at"].note]
    seeds, flags = rows["trades"].note.split(", ")
    assert "2 of 3 seeds (missing: 1)" in notes[seeds]
    assert "FOSC (1 of 2 seeds); Cosine of gradients (1 of 2 seeds)" in notes[flags]
    assert "none of the 3 cells" in notes[other["mart"].note]
    assert rows["faal"].note == ""


def test_missing_cells_and_histories_are_named(incomplete, english):
    _, results = incomplete
    cells, histories = coverage(results, english)
    assert "30 of 36" in cells
    assert all(key in cells for key in MISSING)
    assert "29 of 36" in histories
    assert "faal-vgg16-digits-0" in histories


@pytest.mark.parametrize(
    ("rival", "leads", "said"),
    [
        ((0.60, 0.61, 0.62), "D-TRADES", "The two are more than one standard deviation apart."),
        ((0.69, 0.70, 0.71), "D-TRADES", "AT is within one standard deviation of the highest"),
        # Equal: the one that params.yaml names first, and that it is no lead.
        ((0.70, 0.71, 0.72), "AT", "D-TRADES is within one standard deviation of the highest"),
    ],
)
def test_who_leads_and_by_how_much(tmp_path, english, rival, leads, said):
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    values = {("dtrades", s): {"RA": v} for s, v in enumerate((0.70, 0.71, 0.72))}
    values |= {("at", s): {"RA": v} for s, v in enumerate(rival)}
    text = said_of_ra(study, with_values(study, tmp_path, values), english)
    assert f"the highest mean is that of {leads} (71.0 ± 1.0 %)" in text
    assert said in text


def test_the_proposal_is_not_praised_when_it_loses(tmp_path, english):
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    values = {("dtrades", s): {"RA": v} for s, v in enumerate((0.50, 0.51, 0.52))}
    values |= {("at", s): {"RA": v} for s, v in enumerate((0.60, 0.61, 0.62))}
    text = said_of_ra(study, with_values(study, tmp_path, values), english)
    assert "the highest mean is that of AT (61.0 ± 1.0 %), then D-TRADES (51.0 ± 1.0 %)" in text


def test_a_single_seed_is_compared_with_nothing(tmp_path, english):
    study = made_up_study(["at", "trades"], ["vgg16"], [4])
    write_made_up(study, tmp_path)
    text = said_of_ra(study, read_results(study, "digits", tmp_path), english)
    assert "no standard deviation to compare" in text
    assert "±" not in text


def test_estimates():
    assert estimate([0.5, float("nan")]) == Estimate(0.5, None, 1)
    assert estimate([float("nan")]) is None
    one, other = Estimate(0.7, 0.01, 3), Estimate(0.71, 0.002, 3)
    assert within_one_sd(one, other) is True
    assert within_one_sd(one, Estimate(0.72, 0.002, 3)) is False
    assert within_one_sd(one, Estimate(0.7, None, 1)) is None
    assert percent(-0.0001, ",") == "0,0"
    assert percent(-0.0123, ",") == "\N{MINUS SIGN}1,2"


def test_the_page_shows_the_table(complete, complete_report, english):
    study, results = complete
    rows = Page(complete_report["report.en.html"].decode()).tables["table-main"]
    shown = [
        [" ".join(f"{n.mean} ± {n.sd}".split()) if n.sd else " ".join(n.mean.split())
         for n in row.numbers]
        for block in main_table(study, results, english).blocks
        for row in block.rows
    ]  # fmt: skip
    assert [row[1:] for row in rows[1:] if len(row) > 1] == shown


def test_spanish_has_decimal_commas(complete_report):
    page = Page(complete_report["report.es.html"].decode())
    cells = [cell for row in page.tables["table-main"] for cell in row]
    assert not any("." in cell for cell in cells)
    assert sum("," in cell for cell in cells) == 84
    for words in ("precisión natural", "precisión robusta", "caída de robustez",
                  "tasa de éxito del ataque", "norma media de perturbación"):  # fmt: skip
        assert words in page.text.lower()
    assert "96,1" in complete_report["chapter.es.tex"].decode()
    assert "96.1" not in complete_report["chapter.es.tex"].decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="ASR"), "no column 'ASR'"),
        (lambda table: pd.concat([table, table.head(1)]), "more than one row"),
        (lambda table: table.assign(RA=61.0), "RA is 61.0"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, change, said):
    study = made_up_study(["at"], ["vgg16"])
    write_made_up(study, tmp_path)
    path = tmp_path / "plots" / "cells" / "digits.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(BadResults, match=said) as error:
        read_results(study, "digits", tmp_path)
    assert "digits.csv" in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(BadResults, match=r"cells/digits\.csv: not found; the stage summarize"):
        read_results(made_up_study(), "digits", tmp_path)


def test_a_dropped_seed_leaves_the_report(tmp_path):
    write_made_up(made_up_study(["at"], ["vgg16"]), tmp_path)
    results = read_results(made_up_study(["at"], ["vgg16"], [0, 2]), "digits", tmp_path)
    assert sorted(results.cells["seed"]) == [0, 2]
    assert list(results.histories) == ["at-vgg16-digits-0", "at-vgg16-digits-2"]
