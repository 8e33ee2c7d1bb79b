"""From ledgers to tables, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.evaluation.ledgers import suites
from tradeoff.attacks.suites.ledger import BadLedger, save_ledger
from tradeoff.core.study import Cell, StatisticsSettings, Study, ThreatSettings
from tradeoff.evaluation import summary
from tradeoff.evaluation.summary import (
    CURVE_POINTS,
    Evaluated,
    attack_table,
    cell_table,
    confusion_table,
    curve_table,
    detectable_table,
    difference_table,
    load_evaluated,
    masking_table,
    means,
    norm_table,
)
from tradeoff.evaluation.tables import write_table

STUDY = Study.load(Path(__file__).parents[2] / "params.yaml")
EPSILON = 0.25


def cell(defense: str = "trades", seed: int = 0) -> Cell:
    dataset = replace(STUDY.datasets["digits"], threat=ThreatSettings(norm="l2", epsilon=EPSILON))
    return Cell(defense, "resnet18", dataset, seed, STUDY.knobs["standard"])


def evaluated(defense: str = "trades", seed: int = 0, square: list[int] | None = None) -> Evaluated:
    return Evaluated(cell(defense, seed), **suites(square))


def test_a_row_per_cell_with_the_headline_metrics() -> None:
    table = cell_table([evaluated(), evaluated("at", 1, square=[0, 0, 0, 0, 1])])
    first, second = table.to_dict("records")
    expected = {
        "defense": "trades",
        "architecture": "resnet18",
        "seed": 0,
        "images": 5,
        "NA": 0.8,
        "RA": 0.4,
        "RD": 0.4,
        "ASR": 0.6,
        "ASR_correct": 0.5,
        "RA_worst_class": 0.0,
        "worst_class": 1,
        "NA_last": 0.6,
        "RA_last": 0.2,
        "RA_bounded": 0.4,
        "queries": 7 * (5 * 2 * 2 + 5 * 2),
    }
    for name, value in expected.items():
        assert first[name] == (pytest.approx(value) if isinstance(value, float) else value), name
    assert (second["defense"], second["seed"]) == ("at", 1)
    assert (second["RA"], second["RA_bounded"]) == (pytest.approx(0.2), pytest.approx(0.4))


def test_accuracy_per_attack_version_and_class() -> None:
    table = attack_table([evaluated(square=[0, 0, 0, 0, 1])])
    found = table.set_index(["version", "attack", "class"])["accuracy"].to_dict()
    expected = {
        ("best", "natural", "all"): 0.8,
        ("best", "pgd", "all"): 0.6,
        ("best", "fgsm", "all"): 0.6,
        ("best", "apgd-ce", "all"): 0.6,
        ("best", "square", "all"): 0.4,
        ("best", "all", "all"): 0.2,
        ("last", "natural", "all"): 0.6,
        ("last", "all", "all"): 0.2,
        ("best", "natural", "1"): 0.5,
        ("best", "all", "0"): 0.5,
        ("best", "all", "2"): 0.0,
        ("last", "natural", "2"): 0.0,
    }
    for place, value in expected.items():
        assert found[place] == pytest.approx(value), place
    assert ("last", "square", "all") not in found
    assert not table.duplicated(["version", "attack", "class"]).any()
    images = table[table["class"] != "all"].groupby(["version", "attack"])["images"].sum()
    assert (images == 5).all()


def test_norms_are_the_least_that_fooled_and_zero_where_already_wrong() -> None:
    table = norm_table([evaluated()]).set_index("norm")
    # Per image: 0.1, min(0.4, 0.2), 0.3, 0 (wrong already), 0.3.
    assert table.loc["l2", "APN"] == pytest.approx((0.1 + 0.2 + 0.3 + 0 + 0.3) / 5)
    assert table.loc["l2", "APN_fooled"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.3) / 4)
    assert list(table.index) == ["l0", "l2", "linf"]
    assert set(table["images"]) == {5}


def test_the_curve_counts_who_is_left_at_each_epsilon() -> None:
    table = curve_table([evaluated()])
    assert len(table) == CURVE_POINTS
    assert table["epsilon"].iloc[0] == 0 and table["epsilon"].iloc[-1] == 2 * EPSILON
    assert table["RA"].is_monotonic_decreasing
    at = {round(row.epsilon, 4): row.RA for row in table.itertuples()}
    assert at[0.0] == pytest.approx(0.8)
    assert at[0.15] == pytest.approx(0.6)
    assert at[0.25] == pytest.approx(0.4)
    assert at[0.5] == 0.0


SETTINGS = StatisticsSettings(resamples=200, level=0.95, alpha=0.05, power=0.8)


def test_differences_are_those_of_the_proposal_to_each_other_defense() -> None:
    cells = [evaluated("dtrades", seed) for seed in (0, 1)]
    cells += [evaluated("at", seed, square=[0, 0, 0, 0, 1]) for seed in (0, 1)]
    table = difference_table(cells, SETTINGS, 2).set_index(["other", "metric"])
    assert list(table.index) == [("at", "NA"), ("at", "RA")]
    assert table.loc[("at", "NA"), "difference"] == 0
    assert table.loc[("at", "RA"), "difference"] == pytest.approx(0.2)
    low, high = table.loc[("at", "RA"), ["low", "high"]]
    assert low <= 0.2 <= high and low < high
    assert set(table["seeds"]) == {2} and set(table["images"]) == {5}


def test_differences_are_the_same_each_time_and_none_without_the_proposal() -> None:
    cells = [evaluated("dtrades"), evaluated("at", square=[0, 0, 0, 0, 1])]
    pd.testing.assert_frame_equal(
        difference_table(cells, SETTINGS, 1), difference_table(cells, SETTINGS, 1)
    )
    none = difference_table([evaluated("at"), evaluated("trades")], SETTINGS, 1)
    assert len(none) == 0
    assert {"other", "metric", "difference", "low", "high", "detectable"} <= set(none.columns)


def test_pairs_are_compared_on_the_seeds_that_both_have() -> None:
    """Seed 0 of the proposal and seed 2 of the other are missing, and differ from the rest."""
    ours = [evaluated("dtrades", seed) for seed in (1, 2)]
    theirs = [evaluated("at", seed, square=[0, 0, 0, 0, int(seed == 0)]) for seed in (0, 1)]
    table = difference_table([*theirs, *ours], SETTINGS, 3).set_index("metric")
    assert list(table["seeds"]) == [1, 1]
    # On seed 1 both are the same; seed 0 of the other held one image less.
    assert table.loc["RA", "difference"] == 0
    assert difference_table([*ours, theirs[0]], SETTINGS, 3).empty
    assert detectable_table([*ours, theirs[0]], SETTINGS, 3).empty


def test_unequal_seeds_leave_the_tables_of_those_that_are_shared() -> None:
    def cells(defense: str, seeds: tuple[int, ...]) -> list[Evaluated]:
        flip = defense == "at"
        return [
            evaluated(defense, seed, square=[0, int(flip and seed == 1), 0, 0, int(seed == 2)])
            for seed in seeds
        ]

    shared = [*cells("dtrades", (1, 2)), *cells("at", (1, 2))]
    more = [*cells("dtrades", (1, 2)), *cells("at", (0, 1, 2))]
    for table in (difference_table, detectable_table):
        pd.testing.assert_frame_equal(table(more, SETTINGS, 3), table(shared, SETTINGS, 3))
        assert len(table(more, SETTINGS, 3))
    assert difference_table(more, SETTINGS, 3)["detectable"].notna().all()


def test_one_seed_left_of_several_tells_nothing_of_what_is_detectable() -> None:
    cells = [evaluated("dtrades"), evaluated("at", square=[0, 0, 0, 0, 1])]
    for table in (difference_table, detectable_table):
        assert table(cells, SETTINGS, 3)["detectable"].isna().all()
        # A study of a single seed compares two models, on other images.
        assert table(cells, SETTINGS, 1)["detectable"].notna().any()


def test_masking_flags_are_raised_by_square_alone() -> None:
    """Square fools an image that nothing else does: 1 of 5 is above any threshold."""

    def raised(square: list[int]) -> set[str]:
        table = masking_table([evaluated(square=square)], STUDY.masking)
        return set(table[table["raised"].eq(True)]["flag"])

    assert "square_alone" not in raised([0, 0, 0, 0, 0])
    assert "square_alone" in raised([0, 0, 0, 0, 1])


def test_means_are_over_seeds_by_architecture_and_defense() -> None:
    cells = [
        evaluated("trades", 0),
        evaluated("trades", 1, square=[0, 1, 0, 0, 1]),
        evaluated("at"),
    ]
    found = means(cell_table(cells), 1)
    assert list(found) == ["trades-resnet18", "at-resnet18"]
    assert found["trades-resnet18"] == {
        "NA": 80.0, "RA": 20.0, "RD": 60.0, "ASR": 80.0, "RA worst class": 0.0
    }  # fmt: skip
    assert found["at-resnet18"]["RA"] == 40.0
    fewer = means(cell_table(cells), 2)
    assert fewer == found | {"at-resnet18": found["at-resnet18"] | {"seeds": 1}}


def test_what_is_detectable_between_every_pair_of_defenses() -> None:
    settings = StatisticsSettings(resamples=10, level=0.95, alpha=0.05, power=0.8)
    cells = [
        evaluated(defense, seed, square=[0, int(seed == 1), 0, 0, 0])
        for defense in ("trades", "at", "mart")
        for seed in (0, 1)
    ]
    table = detectable_table(cells, settings, 2)
    pairs = set(table[["one", "other"]].itertuples(index=False, name=None))
    assert pairs == {("at", "trades"), ("at", "mart"), ("mart", "trades")}
    assert {"NA", "RA", "RD", "accuracy_pgd", "accuracy_square", "accuracy_all", "ECE",
            "RA_worst_class", "APN_l2"} == set(table["metric"]) & {
        "NA", "RA", "RD", "accuracy_pgd", "accuracy_square", "accuracy_all", "ECE",
        "RA_worst_class", "APN_l2"}  # fmt: skip
    # The same models: no difference between any two of them varies.
    assert (table["detectable"].dropna() == 0).all()


def test_what_seeds_alone_tell_is_detectable_by_the_t_test() -> None:
    settings = StatisticsSettings(resamples=10, level=0.95, alpha=0.05, power=0.8)
    one, other = np.array([[0.5], [0.6], [0.7]]), np.array([[0.4], [0.6], [0.5]])
    error = np.std([0.1, 0.0, 0.2], ddof=1) / np.sqrt(3)
    factor = stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)
    assert summary._detectable(one, other, settings, 3) == pytest.approx(factor * error)
    assert np.isnan(summary._detectable(one[:1], other[:1], settings, 1))


def test_the_confusion_of_the_proposals_first_seed() -> None:
    table = confusion_table([evaluated("dtrades", 0), evaluated("dtrades", 1), evaluated("at")])
    assert list(table["actual"]) == [0, 0, 1, 1, 2]
    assert list(table["predicted"]) == [1, 0, 1, 2, 2]
    assert confusion_table([evaluated("at")]).empty
    # Without its first seed, the next one there is; others have theirs.
    left = confusion_table([evaluated("dtrades", 1), evaluated("dtrades", 2), evaluated("at", 0)])
    pd.testing.assert_frame_equal(left, table)


def written(subject: Evaluated, **about: object) -> None:
    """Put the ledgers where a cell's are, with what the attacks say of themselves."""
    for suite in ("bounded", "autoattack", "minimal"):
        item = getattr(subject, suite)
        said = replace(item, about=item.about | subject.cell.dataset.evaluation(suite) | about)
        save_ledger(said, subject.cell.ledger(suite))


def test_ledgers_of_a_cell_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subject = evaluated()
    written(subject)
    pd.testing.assert_frame_equal(
        cell_table([load_evaluated(subject.cell)]), cell_table([subject]), rtol=1e-6
    )
    for suite in ("minimal", "autoattack", "bounded"):
        subject.cell.ledger(suite).unlink()
        with pytest.raises(BadLedger, match=f"{suite}.npz: not there"):
            load_evaluated(subject.cell)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        (
            {"threat": {"norm": "l2", "epsilon": 0.3}},
            "threat.epsilon was 0.3, params.yaml has",
        ),
        ({"threat": {"norm": "linf", "epsilon": EPSILON}}, "threat.norm was linf, params.yaml has"),
        ({"attacks": {"fgsm": {"attack": "fgsm"}}}, "attacks.bim.attack was None"),
        ({"attacks": None}, "attacks.fgsm.attack was None"),
    ],
)
def test_a_ledger_of_another_run_is_refused_by_name(
    about: dict[str, object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subject = evaluated()
    written(subject, **about)
    with pytest.raises(BadLedger) as caught:
        load_evaluated(subject.cell)
    message = str(caught.value)
    assert message.startswith(f"{subject.cell.ledger('bounded')}: of another run: {says}")
    assert f"dvc repro attack@{subject.cell.key}-bounded" in message


def test_tables_are_written_with_six_digits(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "table.csv"
    write_table(pd.DataFrame({"a": [1 / 3, np.nan], "b": ["x", "y"], "n": [1, 2]}), file)
    assert file.read_text() == "a,b,n\n0.333333,x,1\n,y,2\n"
    assert [path.name for path in file.parent.iterdir()] == ["table.csv"]
