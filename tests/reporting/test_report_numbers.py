"""The numbers, their bold and the sentences about them."""

import numpy as np
import pandas as pd
import pytest
from made_up import (
    ATTACKS,
    DETECTABLE,
    MISSING,
    PARTS,
    judged,
    made_up_study,
    made_up_tables,
    write_made_up,
)
from pages import Page

from tradeoff.reporting import evidence
from tradeoff.reporting.accuracy import (
    attack_table,
    class_table,
    fairness_table,
    main_table,
    overfitting_table,
)
from tradeoff.reporting.coverage import coverage
from tradeoff.reporting.estimates import (
    PERCENT,
    Estimate,
    Scale,
    estimate_of,
    localized,
    rank,
    rounded,
)
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import BadResults, read_results
from tradeoff.reporting.sentences import leaders
from tradeoff.reporting.view import View

METRICS = ["NA", "RA", "RD", "ASR", "RA_worst_class", "ECE"]
LOW_IS_BEST = ("RD", "ASR", "ECE")


@pytest.fixture(scope="module")
def english(templates):
    return load_labels("en", templates)


def said_of_ra(view):
    """The sentence on RA of the first architecture, with plain spaces."""
    return leaders(view)[1].replace("\N{NO-BREAK SPACE}", " ")


def with_values(study, root, values, **holes):
    """Results whose cells have the given values: {(defense, seed): {column: value}}."""
    tables = made_up_tables(study)
    for (defense, seed), columns in values.items():
        mask = (tables.cells["defense"] == defense) & (tables.cells["seed"] == seed)
        for column, value in columns.items():
            tables.cells.loc[mask, column] = value
    tables.detectable = judged(study, tables.cells, tables.attacks, tables.norms)
    write_made_up(study, root, tables=tables, **holes)
    return read_results(study, "digits", root)


def test_main_table_equals_numpy(complete, english):
    study, results = complete
    tables = made_up_tables(study)
    table = main_table(View(study, results, english))
    for block, architecture in zip(table.blocks, study.axes.architectures, strict=True):
        for row, defense in zip(block.rows[:-1], study.axes.defenses, strict=True):
            where = f"defense == {defense!r} and architecture == {architecture!r}"
            cells, expected = tables.cells.query(where), []
            for metric in METRICS:
                values = 100 * cells[metric].to_numpy()
                sd = f"{np.std(values, ddof=1):.1f}" if metric != "ASR" else ""
                expected.append((f"{np.mean(values):.1f}", sd))
            norms = tables.norms.query(f"{where} and norm == 'linf'")
            apn = norms["APN"].to_numpy()
            expected.insert(5, (f"{apn.mean():.4f}", f"{np.std(apn, ddof=1):.4f}"))
            assert [(number.mean, number.sd) for number in row.numbers] == expected
            extra = "4.0 % not fooled" if norms["unfooled"].any() else ""
            assert row.numbers[5].extra == extra


def test_the_main_table_says_what_ra_is(complete, english):
    caption = main_table(View(*complete, english)).caption
    assert "every attack of suite bounded and AutoAttack must fail" in caption
    assert "360 for RA, RD, ASR and the worst class" in caption
    assert "360 for NA and ECE; 50 for APN." in caption and "means over 3 seeds" in caption
    assert "example that any attack of the suites minimal and bounded or AutoAttack" in caption
    assert f"norm {english('norms.linf')}" in caption


def test_marks_follow_what_is_resolved(complete, english):
    study, results = complete
    for block, architecture in zip(
        main_table(View(study, results, english)).blocks, study.axes.architectures, strict=True
    ):
        *rows, below = block.rows
        assert below.minor
        for column, metric in enumerate([*METRICS[:5], "APN", "ECE"]):
            numbers = [row.numbers[column] for row in rows]
            untested = metric in ("RA_worst_class", "ECE")
            shown = "" if untested else "0.0300" if metric == "APN" else "3.0"
            assert below.numbers[column].mean == shown
            if untested or any("not fooled" in number.extra for number in numbers):
                assert not any(number.best or number.second for number in numbers)
                continue
            means = [
                (results.norm("linf", "APN") if metric == "APN" else results.metric(metric))[
                    architecture, defense
                ].mean()
                for defense in study.axes.defenses
            ]
            sign = -1 if metric in LOW_IS_BEST else 1
            lead = max(sign * mean for mean in means)
            ties = [lead - sign * mean < DETECTABLE for mean in means]
            assert [number.best for number in numbers] == [tied and not all(ties) for tied in ties]
            rest = [sign * mean for mean, tied in zip(means, ties, strict=True) if not tied]
            tied_rest = [max(rest, default=0) - one < DETECTABLE for one in rest]
            underlined = [] if all(tied_rest) else [
                mean for mean, tied in zip(rest, tied_rest, strict=True) if tied
            ]  # fmt: skip
            assert [number.second for number in numbers] == [
                sign * mean in underlined for mean in means
            ]


def test_nothing_is_marked_where_nothing_is_tested(complete, english):
    study, results = complete
    fairness = fairness_table(View(study, results, english))
    transfer = evidence.transfer_table(View(study, results, english))
    attacks = attack_table(View(study, results, english))
    untested = [
        *(number for block in fairness.blocks for row in block.rows for number in row.numbers[1:]),
        *(number for block in transfer.blocks for row in block.rows for number in row.numbers),
        *(number for block in attacks.blocks for number in block.rows[-1].numbers),
    ]
    assert len(untested) > 100
    assert not any(number.best or number.second for number in untested)
    # A substitute stands for one model: nothing is averaged.
    assert transfer.columns[-1].header == english("roles.extraction")
    assert all(number.sd for block in transfer.blocks for row in block.rows
               for number in row.numbers[:-1] if number.mean)  # fmt: skip


def test_rank():
    def ranks(estimates, higher_is_better, resolved):
        found = rank(dict(enumerate(estimates)), higher_is_better, resolved)
        return [found.get(place, 0) for place in range(len(estimates))]

    def gaps(*pairs):
        return lambda one, other: {one, other} in pairs

    def all_resolved(one, other):
        return True

    four = [Estimate(value, 0.01, 3) for value in (0.80, 0.84, 0.70, 0.60)]
    assert ranks(four, True, all_resolved) == [2, 1, 0, 0]
    assert ranks(four, False, all_resolved) == [0, 0, 2, 1]
    # What is not resolved from the best ties with it, and what was not tested is not resolved.
    assert ranks(four, True, gaps({1, 2}, {1, 3}, {2, 3})) == [1, 1, 2, 0]
    assert ranks(four, True, lambda one, other: None) == [0, 0, 0, 0]
    assert ranks(four, True, lambda one, other: False) == [0, 0, 0, 0]
    # Of the rest nobody stands out, or several do.
    assert ranks(four, True, gaps({1, 0}, {1, 2}, {1, 3})) == [0, 1, 0, 0]
    assert ranks(four, True, gaps({1, 0}, {1, 2}, {1, 3}, {0, 3})) == [2, 1, 2, 0]
    tie = [Estimate(0.85341, None, 1), Estimate(0.85349, None, 1), Estimate(0.85241, None, 1)]
    assert ranks(tie, True, all_resolved) == [1, 1, 0]
    assert ranks(tie, False, all_resolved) == [0, 0, 1]
    assert ranks(tie[:1], True, all_resolved) == [0]
    assert ranks([], True, all_resolved) == []
    assert ranks([*tie, Estimate(0.5, None, 1, left_out=0.1)], True, all_resolved) == [0, 0, 0, 0]


def test_attack_table_equals_the_csv(complete, english):
    study, results = complete
    tables = made_up_tables(study)
    attacks = tables.attacks.query("version == 'best' and `class` == 'all'")
    table = attack_table(View(study, results, english))
    names = ["natural", *ATTACKS, *PARTS, "all"]
    assert [column.header for column in table.columns[:-1]] == [
        english(f"defenses.{name}") for name in study.axes.defenses
    ]
    for block, architecture in zip(table.blocks, study.axes.architectures, strict=True):
        assert [row.header for row in block.rows[:-1]] == [english(f"attacks.{n}") for n in names]
        mine = attacks[attacks["architecture"] == architecture]
        means = mine.groupby(["attack", "defense"])["accuracy"].mean()
        for row, name in zip(block.rows[:-1], names, strict=True):
            printed = [number.mean for number in row.numbers]
            expected = [f"{100 * means[name, defense]:.1f}" for defense in study.axes.defenses]
            assert printed == [*expected, "3.0"]
        rates = tables.cells.query("architecture == @architecture")
        rates = 100 * rates.groupby("defense")["ASR_correct"].mean()
        printed = [number.mean for number in block.rows[-1].numbers]
        assert printed == [*(f"{rates[defense]:.1f}" for defense in study.axes.defenses), ""]


def test_overfitting_is_the_mean_of_the_differences(incomplete, english):
    study, results = incomplete
    table = overfitting_table(View(study, results, english))
    index = study.axes.defenses.index("trades")
    rows = results.cells.query("defense == 'trades' and architecture == 'resnet18'")
    change = 100 * (rows["RA_last"] - rows["RA_bounded"])
    number = table.blocks[0].rows[index].numbers[-1]
    assert len(rows) == 2
    assert number.mean == f"{change.mean():.1f}".replace("-", "\N{MINUS SIGN}")
    assert number.sd == f"{change.std():.1f}"


def test_class_table_holds_every_class(complete, english):
    study, results = complete
    table = class_table(View(study, results, english))
    rows = results.attacks.query(
        "defense == 'mart' and architecture == 'vgg16' and version == 'best' and attack == 'all'"
    )
    means = rows[rows["class"] == "7"]["accuracy"].mean()
    row = table.blocks[1].rows[study.axes.defenses.index("mart")]
    assert len(row.numbers) == 10
    assert row.numbers[7].mean == f"{100 * means:.1f}"


def test_missing_seeds_are_noted_and_a_single_seed_has_no_sd(incomplete, english):
    study, results = incomplete
    table = main_table(View(study, results, english))
    rows, other = (
        dict(zip(study.axes.defenses, block.rows[:-1], strict=True)) for block in table.blocks
    )
    assert rows["at"].numbers[0].sd == ""
    assert rows["trades"].numbers[0].sd != ""
    assert [number.mean for number in other["mart"].numbers] == [""] * 7
    assert "1 of 3 seeds (missing: 1 and 2)" in table.notes[rows["at"].note]
    seeds, flags = rows["trades"].note.split(", ")
    assert "2 of 3 seeds (missing: 1)" in table.notes[seeds]
    assert "FOSC (1 of 2 seeds); Cosine of gradients (1 of 2 seeds)" in table.notes[flags]
    assert "no cell is evaluated" in table.notes[other["mart"].note]
    assert rows["faal"].note == ""


def test_missing_cells_and_histories_are_named(incomplete, english):
    study, results = incomplete
    cells, histories = coverage(View(study, results, english))
    assert "30 of 36" in cells
    assert all(key in cells for key in MISSING)
    assert "29 of 36" in histories
    assert "faal-vgg16-digits-0" in histories


def robust_of(study, **means):
    """Three seeds around each mean."""
    return {
        (defense, seed): {"RA": mean + gap}
        for defense, mean in means.items()
        for seed, gap in enumerate((-0.01, 0.0, 0.01))
    }


@pytest.mark.parametrize(
    ("mine", "rival", "leads", "said"),
    [
        (0.71, 0.61, "D-TRADES (71.0 ± 1.0 %), then AT", "The difference from AT is resolved."),
        (0.61, 0.71, "AT (71.0 ± 1.0 %), then D-TRADES", "from D-TRADES is resolved."),
        (0.71, 0.69, "D-TRADES (71.0 ± 1.0 %), then AT", "from AT is not resolved."),
        # Equal: the one that params.yaml names first, and that it is no lead.
        (0.71, 0.71, "AT (71.0 ± 1.0 %), then D-TRADES", "from D-TRADES is not resolved."),
    ],
)
def test_the_proposal_wins_loses_and_ties(tmp_path, english, mine, rival, leads, said):
    study = made_up_study(["at", "dtrades"], ["resnet18"])
    values = robust_of(study, dtrades=mine, at=rival)
    text = said_of_ra(View(study, with_values(study, tmp_path, values), english))
    assert f"the highest mean is that of {leads}" in text
    assert said in text


def test_what_is_not_known_is_not_judged(tmp_path, english):
    study = made_up_study(["at", "trades", "dtrades"], ["vgg16"], [4])
    tables = made_up_tables(study)
    tables.cells = tables.cells.assign(RA=tables.cells["defense"].map(
        {"at": 0.7, "trades": 0.6, "dtrades": 0.5}))  # fmt: skip
    found = judged(study, tables.cells, tables.attacks, tables.norms)
    tables.detectable = found.query("one != 'at' or other != 'trades'")
    write_made_up(study, tmp_path, tables=tables)
    text = said_of_ra(View(study, read_results(study, "digits", tmp_path), english))
    assert "The difference from D-TRADES is resolved." in text
    assert "The difference from TRADES could not be tested." in text
    assert "±" not in text


def test_estimates():
    assert estimate_of([0.5, float("nan")]) == Estimate(0.5, None, 1)
    assert estimate_of([float("nan")]) is None
    assert localized(rounded(-0.0001, PERCENT), ",") == "0,0"
    assert localized(rounded(-0.0123, PERCENT), ",") == "\N{MINUS SIGN}1,2"
    assert localized(rounded(13 / 8, Scale(1, 2)), ".") == "1.63"
    assert localized(rounded(-13 / 8, Scale(1, 2)), ".") == "\N{MINUS SIGN}1.63"


def test_the_page_shows_the_table(complete, complete_report, english):
    study, results = complete
    rows = Page(complete_report["report.en.html"].decode()).tables["table-main"]
    shown = [
        [" ".join(f"{n.mean}{f' ± {n.sd}' if n.sd else ''} {n.extra}".split())
         for n in row.numbers]
        for block in main_table(View(study, results, english)).blocks
        for row in block.rows
    ]  # fmt: skip
    assert [row[1:] for row in rows[1:] if len(row) > 1] == shown


def test_spanish_has_decimal_commas(complete_report, complete_chapter):
    page = Page(complete_report["report.es.html"].decode())
    cells = [cell for row in page.tables["table-main"] for cell in row]
    assert not any("." in cell for cell in cells)
    # What is detectable has its row too, of five metrics on both networks.
    assert sum("," in cell for cell in cells) == 84 + 10
    for words in ("precisión natural", "precisión robusta", "caída de robustez",
                  "tasa de éxito del ataque", "norma media de perturbación"):  # fmt: skip
        assert words in page.text.lower()
    assert "96,1" in complete_chapter["chapter.es.tex"].decode()
    assert "96.1" not in complete_chapter["chapter.es.tex"].decode()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.drop(columns="ASR"), "no column 'ASR'"),
        (lambda table: pd.concat([table, table.head(1)]), "more than one row for at, vgg16, 0$"),
        (lambda table: table.assign(RA=61.0), "RA is 61.0"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, change, said):
    study = made_up_study(["at"], ["vgg16"])
    write_made_up(study, tmp_path)
    path = tmp_path / "plots" / "summary" / "digits" / "cells.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(BadResults, match=said) as error:
        read_results(study, "digits", tmp_path)
    assert "cells.csv" in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(BadResults, match=r"digits/cells\.csv: not found; the stage summarize"):
        read_results(made_up_study(), "digits", tmp_path)


def test_a_dropped_seed_leaves_the_report(tmp_path):
    write_made_up(made_up_study(["at"], ["vgg16"]), tmp_path)
    results = read_results(made_up_study(["at"], ["vgg16"], [0, 2]), "digits", tmp_path)
    assert sorted(results.cells["seed"]) == [0, 2]
    assert list(results.histories) == ["at-vgg16-digits-0", "at-vgg16-digits-2"]
