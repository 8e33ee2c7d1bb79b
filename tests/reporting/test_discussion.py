"""What is said of fairness, cost, lambda and limits: by rules, from numbers."""

import pandas as pd
import pytest
from made_up import TRAIN_IMAGES, made_up_study, made_up_tables, write_made_up

from tradeoff.reporting import cost, descriptions, discussion
from tradeoff.reporting.accuracy import fairness_table
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_evaluated, read_results
from tradeoff.reporting.setting import software

pytestmark = pytest.mark.xdist_group("reporting")


@pytest.fixture(scope="module")
def english(templates):
    return load_labels("en", templates)


def results_with(study, root, **columns):
    tables = made_up_tables(study)
    for column, by_defense in columns.items():
        tables.cells[column] = tables.cells["defense"].map(by_defense)
    write_made_up(study, root, tables=tables)
    return read_results(study, "digits", root)


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (0.40, "the highest mean RA of the worst class is that of D-TRADES (40.0 ± 0.0 %)."),
        (0.25, "D-TRADES is \N{MINUS SIGN}5.0 points from it; the difference is resolved."),
        (0.28, "D-TRADES is \N{MINUS SIGN}2.0 points from it; the difference is not resolved."),
    ],
)
def test_the_worst_class_wins_loses_and_ties(tmp_path, english, mine, said):
    study = made_up_study(["at", "dtrades"], ["vgg16"])
    found = results_with(study, tmp_path, RA_worst_class={"at": 0.30, "dtrades": mine},
                         worst_class={"at": 3, "dtrades": 5})  # fmt: skip
    (text,) = discussion.fairness(study, found, english)
    assert said in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Classes 3 and 5 are each the worst one of 3 of 6 models." in text


def test_fairness_table_equals_pandas(complete, english):
    study, found = complete
    table = fairness_table(study, found, english)
    rows = found.attacks.query("version == 'best' and attack == 'all' and `class` != 'all'")
    mine = rows.query("defense == 'at' and architecture == 'vgg16'")
    by_seed = 100 * mine.pivot(index="seed", columns="class", values="accuracy")
    gap = by_seed.max(axis=1) - by_seed.min(axis=1)
    numbers = table.blocks[1].rows[study.axes.defenses.index("at")].numbers
    assert numbers[1].mean == f"{by_seed.min(axis=1).mean():.1f}"
    assert (numbers[3].mean, numbers[3].sd) == (f"{gap.mean():.1f}", f"{gap.std():.1f}")
    assert numbers[4].mean == f"{by_seed.std(axis=1, ddof=0).mean():.1f}"


def test_cost_is_the_mean_of_epochs_and_seeds(complete, english):
    study, found = complete
    table = cost.cost_table(study, found, english)
    histories = [found.histories[f"mart-vgg16-digits-{seed}"] for seed in range(3)]
    seconds = pd.Series([history["seconds"].mean() for history in histories])
    numbers = table.blocks[1].rows[study.axes.defenses.index("mart")].numbers
    assert [column.header for column in table.columns] == ["Seconds per epoch", "Passes per image"]
    assert numbers[0].mean == f"{seconds.mean():.1f}"
    assert numbers[1].mean == "23.0"
    assert found.histories["mart-vgg16-digits-0"]["forward_passes"].iloc[0] == 12 * TRAIN_IMAGES
    first, _ = cost.cost_sentences(study, found, english)
    assert "The number of network passes is 1.00 times that of Standard, " in first


def test_histories_without_passes_are_told_by_seconds_alone(tmp_path, english):
    study = made_up_study(["at", "dtrades"], ["vgg16"], [0])
    write_made_up(study, tmp_path)
    for path in (tmp_path / "plots" / "training" / "digits").glob("*.csv"):
        history = pd.read_csv(path).drop(columns=["forward_passes", "backward_passes"])
        history.to_csv(path, index=False)
    found = read_results(study, "digits", tmp_path)
    table = cost.cost_table(study, found, english)
    assert [column.header for column in table.columns] == ["Seconds per epoch"]
    (text,) = cost.cost_sentences(study, found, english)
    assert "passes" not in text


def test_lambda_is_told_with_the_share_of_its_entropy(complete, english):
    study, found = complete
    text, _ = discussion.weights("dtrades", study, found, english)
    last = pd.DataFrame([
        found.histories[f"dtrades-resnet18-digits-{seed}"].iloc[-1] for seed in range(3)
    ]).mean(numeric_only=True)  # fmt: skip
    share = 100 * 2.5 * last["entropy_mean"] / last["lambda_mean"]
    assert f"to {round(last['lambda_mean'], 2):g} in the last" in text
    assert f"the entropy term makes {share:.1f} % of it" in text
    assert "Class 9 has most weight" in text and "class 0 least" in text


def test_limits_are_stated_from_the_numbers(incomplete, english):
    study, found = incomplete
    text = " ".join(discussion.limits(study, found, english))
    assert "3 seeds" in text and "from 3.0 to 3.0 points on" in text
    assert "RA counts on 360 test images" in text and "up to 2.6 points" in text
    assert "as few as 36 of them, so that its RA moves in steps of 2.8 points" in text
    assert "of 29 models are those of the last epoch" in text
    assert "6 of 36 cells are missing" in text
    assert "ResNet-18 to 0.25 of its width" in text
    assert "cells raise a masking flag" in text
    single = made_up_study(["at"], ["vgg16"], [0])
    assert "A single seed says nothing" in discussion.limits(single, found, english)[0]


def test_the_pareto_front():
    class Found:
        def group(self, defense, architecture):
            means = {"a": (0.9, 0.5), "b": (0.8, 0.6), "c": (0.8, 0.5), "d": (0.9, 0.5)}
            return pd.DataFrame([dict(zip(("NA", "RA"), means[defense], strict=True))])

    front = descriptions.pareto_front(["a", "b", "c", "d"], "vgg16", Found())
    assert [name for name, _, _ in front] == ["a", "d", "b"]


def test_software_is_told_or_said_to_be_unknown(complete, tmp_path, english):
    study, found = complete
    (text,) = software(found, english)
    assert text == (
        "Python 3.11.9, PyTorch 2.14.1, cpu, 1 threads: 36 results. "
        "The same computation gives the same bytes there."
    )
    write_made_up(study, tmp_path)
    (tmp_path / "plots" / "provenance" / "digits.csv").write_text("cell,stage\n")
    assert "do not tell" in software(read_results(study, "digits", tmp_path), english)[0]


def test_only_data_sets_with_results_are_evaluated(complete, tmp_path):
    study, _ = complete
    assert read_evaluated(study, tmp_path) == {}
    write_made_up(study, tmp_path)
    assert list(read_evaluated(study, tmp_path)) == ["digits"]
