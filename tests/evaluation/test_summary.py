"""From ledgers to tables, by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.ledgers import ledger, suites
from tradeoff.attacks.suites.ledger import BadLedger, save_ledger
from tradeoff.core.settings import StatisticsSettings, ThreatSettings
from tradeoff.core.study import Cell, Study
from tradeoff.evaluation.csv_tables import write_table
from tradeoff.evaluation.statistics import t_test
from tradeoff.evaluation.summary import (
    CURVE_POINTS,
    CellLedgers,
    attack_table,
    cell_table,
    confusion_table,
    curve_table,
    detectable_table,
    difference_table,
    load_cell_ledgers,
    masking_table,
    means,
    norm_table,
)

STUDY = Study.load(Path(__file__).parents[2] / "params.yaml")
EPSILON = 0.25
FGSM = {"attack": "fgsm", "relative_step_size": 1.0, "random_start": False}


def cell(defense: str = "trades", seed: int = 0) -> Cell:
    dataset = replace(STUDY.datasets["digits"], threat=ThreatSettings(norm="l2", epsilon=EPSILON))
    return Cell(defense, "resnet18", dataset, seed, STUDY.knobs["standard"])


def evaluated(
    defense: str = "trades", seed: int = 0, square: list[int] | None = None
) -> CellLedgers:
    return CellLedgers(cell(defense, seed), **suites(square))


def test_a_row_per_cell_with_the_headline_metrics() -> None:
    table = cell_table([evaluated(), evaluated("at", 1, square=[0, 0, 0, 0, 1])])
    first, second = table.to_dict("records")
    expected = {
        "defense": "trades",
        "architecture": "resnet18",
        "seed": 0,
        "images": 5,
        "images_bounded": 5,
        "NA": 0.8,
        "RA": 0.4,
        "RD": 0.4,
        "ASR": 0.6,
        "ASR_correct": 0.5,
        "RA_worst_class": 0.0,
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


def test_what_lies_beyond_the_threat_has_a_row_of_its_own_and_no_part_in_ra() -> None:
    turned = ledger({"best": {"spatial": [1, 1, 1, 1, 1]}}, suite="beyond")
    plain, more = evaluated(), replace(evaluated(), beyond=turned)
    pd.testing.assert_frame_equal(cell_table([plain]), cell_table([more]))
    table, before = attack_table([more]), attack_table([plain])
    rows = table[table["attack"] == "spatial"]
    assert set(rows["class"]) == {"all", "0", "1", "2"} and (rows["accuracy"] == 0).all()
    pd.testing.assert_frame_equal(table.drop(rows.index), before)
    pair = [more, replace(more, cell=cell("dtrades"))]
    tested = detectable_table(pair, SETTINGS, 1, "dtrades")
    assert "accuracy_spatial" in set(tested["metric"])
    norms = norm_table([more])
    pd.testing.assert_frame_equal(norms, norm_table([plain]))


def test_norms_are_the_least_that_fooled_and_zero_where_already_wrong() -> None:
    table = norm_table([evaluated()]).set_index("norm")
    # Per image: 0.1, min(0.4, 0.2), 0.3 but fooled within epsilon, 0 (wrong already), 0.3.
    assert table.loc["l2", "APN"] == pytest.approx((0.1 + 0.2 + 0.25 + 0 + 0.3) / 5)
    assert table.loc["l2", "APN_fooled"] == pytest.approx((0.1 + 0.2 + 0.25 + 0.3) / 4)
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
    assert at[0.25] == pytest.approx(0.2)
    assert at[0.5] == 0.0


def test_no_image_that_was_fooled_within_epsilon_is_robust_at_epsilon() -> None:
    """Square alone fools the image whose least norm is above epsilon; RA then is 0.2."""
    subject = evaluated(square=[0, 0, 0, 0, 1])
    table = curve_table([subject]).set_index("epsilon")
    assert table.loc[EPSILON, "RA"] <= cell_table([subject])["RA"].iloc[0] == pytest.approx(0.2)
    assert table.loc[EPSILON, "RA"] < curve_table([evaluated()]).set_index("epsilon").loc[
        EPSILON, "RA"
    ]  # fmt: skip


def test_natural_accuracy_is_of_all_bounded_images_and_rd_of_the_shared_ones() -> None:
    found = suites()
    subject = CellLedgers(cell(), **(found | {"autoattack": found["autoattack"].first(3)}))
    (row,) = cell_table([subject]).to_dict("records")
    assert (row["images"], row["images_bounded"]) == (3, 5)
    # Of the first three images all are right, and one is held.
    assert (row["NA"], row["RA"]) == (pytest.approx(0.8), pytest.approx(1 / 3))
    assert row["RD"] == pytest.approx(1 - 1 / 3)
    others = [replace(subject, cell=cell(name)) for name in ("dtrades", "at")]
    table = difference_table(others, SETTINGS, 1, "dtrades").set_index("metric")
    assert list(table["images"]) == [5, 3]


SETTINGS = StatisticsSettings(level=0.95, alpha=0.05, power=0.8)


def test_differences_are_those_of_the_proposal_to_each_other_defense() -> None:
    cells = [evaluated("dtrades", seed) for seed in (0, 1)]
    cells += [evaluated("at", seed, square=[0, 0, 0, 0, 1]) for seed in (0, 1)]
    table = difference_table(cells, SETTINGS, 2, "dtrades").set_index(["other", "metric"])
    assert list(table.index) == [("at", "NA"), ("at", "RA")]
    assert table.loc[("at", "NA"), "difference"] == 0
    assert table.loc[("at", "RA"), "difference"] == pytest.approx(0.2)
    low, high = table.loc[("at", "RA"), ["low", "high"]]
    assert low <= 0.2 <= high and low < high
    assert set(table["seeds"]) == {2} and set(table["images"]) == {5}


def test_differences_are_the_same_each_time_and_none_without_the_proposal() -> None:
    cells = [evaluated("dtrades"), evaluated("at", square=[0, 0, 0, 0, 1])]
    pd.testing.assert_frame_equal(
        difference_table(cells, SETTINGS, 1, "dtrades"),
        difference_table(cells, SETTINGS, 1, "dtrades"),
    )
    none = difference_table([evaluated("at"), evaluated("trades")], SETTINGS, 1, "dtrades")
    assert len(none) == 0
    assert {"other", "metric", "difference", "low", "high", "detectable"} <= set(none.columns)


def test_pairs_are_compared_on_the_seeds_that_both_have() -> None:
    """Seed 0 of the proposal and seed 2 of the other are missing, and differ from the rest."""
    ours = [evaluated("dtrades", seed) for seed in (1, 2)]
    theirs = [evaluated("at", seed, square=[0, 0, 0, 0, int(seed == 0)]) for seed in (0, 1)]
    table = difference_table([*theirs, *ours], SETTINGS, 3, "dtrades").set_index("metric")
    assert list(table["seeds"]) == [1, 1]
    # On seed 1 both are the same; seed 0 of the other held one image less.
    assert table.loc["RA", "difference"] == 0
    assert difference_table([*ours, theirs[0]], SETTINGS, 3, "dtrades").empty
    assert detectable_table([*ours, theirs[0]], SETTINGS, 3, "dtrades").empty


def test_unequal_seeds_leave_the_tables_of_those_that_are_shared() -> None:
    def cells(defense: str, seeds: tuple[int, ...]) -> list[CellLedgers]:
        flip = defense == "at"
        return [
            evaluated(defense, seed, square=[0, int(flip and seed == 1), 0, 0, int(seed == 2)])
            for seed in seeds
        ]

    shared = [*cells("dtrades", (1, 2)), *cells("at", (1, 2))]
    more = [*cells("dtrades", (1, 2)), *cells("at", (0, 1, 2))]
    for table in (difference_table, detectable_table):
        pd.testing.assert_frame_equal(
            table(more, SETTINGS, 3, "dtrades"), table(shared, SETTINGS, 3, "dtrades")
        )
        assert len(table(more, SETTINGS, 3, "dtrades"))
    detectable = difference_table(more, SETTINGS, 3, "dtrades").set_index("metric")["detectable"]
    # In NA they do not differ anywhere, so that nothing tells how much they might.
    assert detectable.notna().to_dict() == {"NA": False, "RA": True}


def test_one_seed_left_of_several_tells_nothing_of_what_is_detectable() -> None:
    cells = [evaluated("dtrades"), evaluated("at", square=[0, 0, 0, 0, 1])]
    assert detectable_table(cells, SETTINGS, 3, "dtrades")[["p", "resolved"]].isna().all(axis=None)
    for table in (difference_table, detectable_table):
        assert table(cells, SETTINGS, 3, "dtrades")["detectable"].isna().all()
        # A study of a single seed compares two models, on other images.
        assert table(cells, SETTINGS, 1, "dtrades")["detectable"].notna().any()


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
    cells = [
        evaluated(defense, seed, square=[0, int(seed == 1), 0, 0, 0])
        for defense in ("trades", "at", "mart")
        for seed in (0, 1)
    ]
    table = detectable_table(cells, SETTINGS, 2, "dtrades")
    pairs = set(table[["one", "other"]].itertuples(index=False, name=None))
    assert pairs == {("at", "trades"), ("at", "mart"), ("mart", "trades")}
    # Neither the worst class nor ECE: three numbers do not tell how much they vary.
    assert set(table["metric"]) == {
        "NA", "RA", "RD", "accuracy_pgd", "accuracy_fgsm", "accuracy_apgd-ce", "accuracy_square",
        "APN_l0", "APN_l2", "APN_linf",
    }  # fmt: skip
    # The same models: nothing varies, and nothing is resolved.
    assert table["detectable"].isna().all()
    assert (table["p"] == 1).all() and not table["resolved"].any()


def hundred(defense: str, seed: int, held: int, architecture: str = "resnet18") -> CellLedgers:
    """A cell with a hundred images, all of them right, of which the first `held` are robust."""
    labels = [0] * 100
    clean = {"best": labels, "last": labels}
    one = {"fmn": [1] * 100}
    norms = {"fmn": [0.1 + 0.2 * (image < held) for image in range(100)]}
    lost = [int(image >= held) for image in range(100)]
    return CellLedgers(
        replace(cell(defense, seed), architecture=architecture),
        ledger({version: {"pgd": lost, "fgsm": lost} for version in clean}, labels, clean),
        ledger({"best": {"square": lost}}, labels, clean, suite="autoattack"),
        ledger({"best": one}, labels, clean, norms=norms, suite="minimal"),
    )


def test_what_is_resolved_is_a_test_adjusted_for_the_rows_of_its_table() -> None:
    held = {"dtrades": (60, 61, 60), "at": (53, 54, 52), "mart": (30, 31, 30)}
    cells = [hundred(name, seed, held[name][seed]) for name in held for seed in range(3)]
    table = detectable_table(cells, SETTINGS, 3, "dtrades").set_index(["metric", "one", "other"])
    raw = {
        other: t_test(*(np.stack([np.arange(100) < n for n in held[name]])
                        for name in ("dtrades", other)))
        for other in ("at", "mart")
    }  # fmt: skip
    assert raw["mart"] < raw["at"] < 0.05
    # The proposal's family has four tests, two of them in NA, of which p is 1.
    near, far = ("RA", "at", "dtrades"), ("RA", "dtrades", "mart")
    assert table.loc[far, "p"] == pytest.approx(4 * raw["mart"], abs=1e-12)
    assert table.loc[near, "p"] == pytest.approx(3 * raw["at"])
    assert table.loc[far, "resolved"] is True
    assert table.loc[near, "resolved"] is bool(3 * raw["at"] <= 0.05)
    assert table.loc[("NA", "at", "dtrades"), "resolved"] is False
    # APN has a number for each image, as accuracies have, so that images count.
    assert table.loc[("APN_l2", "dtrades", "mart"), "detectable"] > 0


def test_norms_are_not_tested_where_an_image_has_none() -> None:
    whole = [hundred(name, seed, 50) for name in ("at", "mart") for seed in (0, 1)]
    whole[0].minimal.columns["fooled"][:, :, 0] = False
    table = detectable_table(whole, SETTINGS, 2, "dtrades").set_index("metric")
    assert table.loc["APN_l2", ["detectable", "p", "resolved"]].isna().all()
    assert table.loc["RA", ["p", "resolved"]].notna().all()


def test_the_confusion_of_the_proposals_first_seed() -> None:
    table = confusion_table(
        [evaluated("dtrades", 0), evaluated("dtrades", 1), evaluated("at")], "dtrades"
    )
    assert list(table["actual"]) == [0, 0, 1, 1, 2]
    assert list(table["predicted"]) == [1, 0, 1, 2, 2]
    assert confusion_table([evaluated("at")], "dtrades").empty
    # Without its first seed, the next one there is; others have theirs.
    left = confusion_table(
        [evaluated("dtrades", 1), evaluated("dtrades", 2), evaluated("at", 0)], "dtrades"
    )
    pd.testing.assert_frame_equal(left, table)


def written(subject: CellLedgers, **about: object) -> None:
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
        cell_table([load_cell_ledgers(subject.cell)]), cell_table([subject]), rtol=1e-6
    )
    for suite in ("minimal", "autoattack", "bounded"):
        subject.cell.ledger(suite).unlink()
        with pytest.raises(BadLedger, match=f"{suite}.npz: not there"):
            load_cell_ledgers(subject.cell)


@pytest.mark.parametrize(
    ("about", "says"),
    [
        (
            {"threat": {"norm": "l2", "epsilon": 0.3}},
            "threat.epsilon was 0.3, params.yaml has",
        ),
        ({"threat": {"norm": "linf", "epsilon": EPSILON}}, "threat.norm was linf, params.yaml has"),
        ({"attacks": {"fgsm": FGSM}}, "attacks.bim.attack was None"),
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
        load_cell_ledgers(subject.cell)
    message = str(caught.value)
    assert message.startswith(f"{subject.cell.ledger('bounded')}: of another run: {says}")
    assert f"dvc repro attack@{subject.cell.key}-bounded" in message


def test_tables_are_written_with_six_digits(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "table.csv"
    write_table(pd.DataFrame({"a": [1 / 3, np.nan], "b": ["x", "y"], "n": [1, 2]}), file)
    assert file.read_text() == "a,b,n\n0.333333,x,1\n,y,2\n"
    assert [path.name for path in file.parent.iterdir()] == ["table.csv"]
