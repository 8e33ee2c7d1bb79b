"""What is said of fairness, cost, lambda and limits: by rules, from numbers."""

from dataclasses import replace

import pandas as pd
import pytest
from made_up import EPOCHS, TRAIN_IMAGES, made_up_study, made_up_tables, write_made_up

from tradeoff.core.plugins import knobs_class
from tradeoff.core.study import Attack, Suite
from tradeoff.reporting import accuracy, discussion, sentences
from tradeoff.reporting.accuracy import fairness_table
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.pictures import classes, tradeoff, weights
from tradeoff.reporting.pictures import cost as cost_picture
from tradeoff.reporting.pictures import transfer as transfer_picture
from tradeoff.reporting.results import read_evaluated, read_results, worst
from tradeoff.reporting.setting import (
    defense_knobs,
    describe_setting,
    knob_text,
    software,
)
from tradeoff.reporting.view import View


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
        (0.25, "D-TRADES is 5.0 points below it; with one number per seed, that is not tested."),
    ],
)
def test_the_worst_class_wins_or_loses(tmp_path, english, mine, said):
    study = made_up_study(["at", "dtrades"], ["vgg16"])
    found = results_with(study, tmp_path, RA_worst_class={"at": 0.30, "dtrades": mine})
    (text,) = discussion.fairness(View(study, found, english))
    assert said in text.replace("\N{NO-BREAK SPACE}", " ")


def test_every_class_that_is_worst_counts_and_the_control_does_not(tmp_path, english):
    """Class 9 shares its minimum with class 2 in each model of AT: it is as often the worst."""
    study = made_up_study(["standard", "at", "dtrades"], ["vgg16"])
    tables = made_up_tables(study)
    table = tables.attacks
    of_class = (table["version"] == "best") & (table["attack"] == "all") & (table["class"] != "all")
    least = {"standard": {str(c): 0.0 for c in range(10)}, "at": {"2": 0.1, "9": 0.1},
             "dtrades": {"9": 0.2}}  # fmt: skip
    table.loc[of_class, "accuracy"] = [
        least[defense].get(name, 0.5)
        for defense, name in table.loc[of_class, ["defense", "class"]].itertuples(index=False)
    ]
    write_made_up(study, tmp_path, tables=tables)
    found = read_results(study, "digits", tmp_path)
    counts, models = discussion.worst_classes(View(study, found, english), "vgg16")
    assert models == 6 and +counts == {2: 3, 9: 6}
    (text,) = discussion.fairness(View(study, found, english))
    assert (
        "Class 9 is, alone or with others, the worst one of 6 of 6 models, Standard left out."
        in text
    )
    assert "AT class 2 and 9, 10.0 %" in classes.description(View(study, found, english))
    named = pd.DataFrame(
        [("class", f"digit {c}", 40) for c in range(10)], columns=found.sizes.columns
    )
    view = View(study, replace(found, sizes=pd.concat([found.sizes, named])), english)
    assert "Class 9 (digit 9) is, alone" in discussion.fairness(view)[0]
    images = describe_setting(view)[english("setting.images")]
    assert "The classes are 0 (digit 0), 1 (digit 1)," in images and "and 9 (digit 9)." in images


def test_classes_that_differ_by_rounding_alone_are_all_worst():
    values = pd.Series({0: 0.1 + 0.2, 1: 0.3, 2: float("nan"), 3: 0.4})
    assert list(worst(values)) == [True, True, False, False]


def test_fairness_table_equals_pandas(complete, english):
    study, found = complete
    table = fairness_table(View(study, found, english))
    rows = found.attacks.query("version == 'best' and attack == 'all' and `class` != 'all'")
    mine = rows.query("defense == 'at' and architecture == 'vgg16'")
    by_seed = 100 * mine.pivot(index="seed", columns="class", values="accuracy")
    gap = by_seed.max(axis=1) - by_seed.min(axis=1)
    numbers = table.blocks[1].rows[study.axes.defenses.index("at")].numbers
    assert numbers[1].mean == f"{by_seed.min(axis=1).mean():.1f}"
    assert (numbers[3].mean, numbers[3].sd) == (f"{gap.mean():.1f}", f"{gap.std():.1f}")
    assert numbers[4].mean == f"{by_seed.std(axis=1, ddof=0).mean():.1f}"


def test_cost_is_the_mean_over_seeds_of_each_ones_epochs(complete, english):
    view = View(*complete, english)
    key, found = "mart-vgg16-digits-0", view.results
    history = found.histories[key].assign(forward_passes=2 * TRAIN_IMAGES)
    history.loc[0, "forward_passes"] = 14 * TRAIN_IMAGES
    found = replace(found, histories=found.histories | {key: history})
    counts = accuracy.passes(replace(view, results=found))["vgg16", "mart"]
    assert list(counts) == [pytest.approx(2 + 12 / EPOCHS + 11), 23, 23]
    table = accuracy.cost_table(view)
    assert [column.header for column in table.columns] == ["Passes per image"]
    assert table.blocks[1].rows[view.defenses.index("mart")].numbers[0].mean == "23.0"
    first, _ = sentences.cost(view)
    assert "The number of network passes of an epoch of D-TRADES is 1.00 times that of St" in first
    assert "epoch. ResNet-18: Standard 23.0; AT 23.0" in cost_picture.description(view)


def test_histories_without_passes_tell_no_cost(tmp_path, english):
    study = made_up_study(["at", "dtrades"], ["vgg16"], [0])
    write_made_up(study, tmp_path)
    for path in (tmp_path / "plots" / "training" / "digits").glob("*.csv"):
        history = pd.read_csv(path).drop(columns=["forward_passes", "backward_passes"])
        history.to_csv(path, index=False)
    view = View(study, read_results(study, "digits", tmp_path), english)
    assert accuracy.cost_table(view) is None
    assert sentences.cost(view) == cost_picture.pictures(view) == []


def test_a_collapse_of_training_on_one_step_is_told_by_epoch_and_by_how_much(complete, english):
    view = View(*complete, english)
    assert sentences.collapses(view) == []
    histories = {}
    for key in ("mart-vgg16-digits-0", "mart-vgg16-digits-1", "at-vgg16-digits-0"):
        histories[key] = view.results.histories[key].assign(
            collapse=0.0, validation_one_step_accuracy=0.5
        )
    history = histories["mart-vgg16-digits-1"]
    history.loc[6, "collapse"] = 0.412
    history.loc[5:6, "validation_robust_accuracy"] = [0.443, 0.031]
    history.loc[5:6, "validation_one_step_accuracy"] = [0.6, 0.95]
    found = replace(view.results, histories=view.results.histories | histories)
    quiet, told = sentences.collapses(replace(view, results=found))
    assert quiet == "AT, VGG16: training on one step collapsed in none of 1 seed."
    assert told.startswith("MART, VGG16, seed 1: training collapsed in epoch 6 (")
    assert (
        "fell from 44.3 to 3.1 %, while the accuracy under one step went from 60.0 to 95.0" in told
    )


def test_lambda_is_told_with_the_share_of_its_terms(complete, english):
    view = View(*complete, english)
    text, _, control = discussion.weights(view)
    assert "TRADES weighs all images alike:" in control
    last = pd.DataFrame([
        view.results.histories[f"dtrades-resnet18-digits-{seed}"].iloc[-1] for seed in range(3)
    ]).mean(numeric_only=True)  # fmt: skip
    share = 100 * last["lambda_entropy_mean"] / last["lambda_mean"]
    assert f"to {last['lambda_mean']:.2f} in the last" in text
    assert f"{share:.1f} % of it is due to α · entropy and {100 - share:.1f} % of it" in text  # noqa: RUF001
    assert "Class 9 has most weight" in text and "class 0 least" in text


def test_any_weight_of_images_has_its_figure(complete, english):
    """Whatever its terms are called, and without any: no module knows the defense."""
    view = View(*complete, english)
    histories = {
        key: history.rename(columns=lambda name: name.replace("_entropy", "_doubt"))
        for key, history in view.results.histories.items()
    }
    plain = view.results.histories["at-vgg16-digits-0"].assign(
        lambda_mean=2.0, lambda_std=1.0, lambda_0=1.0, lambda_1=3.0
    )
    histories |= {"at-vgg16-digits-0": plain}
    other = replace(view, results=replace(view.results, histories=histories))
    assert weights.weighted_defenses(other) == ["at", "dtrades"]
    assert weights.terms_of(other, "dtrades") == ["doubt", "sensitivity"]
    assert weights.terms_of(other, "at") == []
    at, dtrades = weights.pictures(other)
    assert "terms" not in at.caption and "doubt and β · sensitivity" in dtrades.caption
    assert at.drawn() and dtrades.drawn()


def test_sentences_of_many_defenses_count_them(tmp_path, english):
    """The tables tell of each; a sentence of forty names tells nothing."""
    names = [f"variant_{number}" for number in range(sentences.MOST_NAMED + 1)]
    study = made_up_study(["trades", "dtrades", *names], ["vgg16"])
    write_made_up(study, tmp_path)
    view = View(study, read_results(study, "digits", tmp_path), english)
    (cost,) = sentences.cost(view)
    assert f"1.00 to 1.00 times that of each of {len(names) + 1} others" in cost
    compared = sentences.differences(view)[1]
    assert "defenses" in compared and "variant_3" not in compared
    (figure,) = transfer_picture.pictures(view)
    assert figure.drawn().get_size_inches()[1] < 9


def test_lambda_has_as_many_decimals_everywhere(complete, english):
    study, found = complete
    six = {key: history.assign(lambda_mean=6.0) for key, history in found.histories.items()}
    view = View(study, replace(found, histories=six), english)
    said = discussion.weights_by(view, "dtrades")[0]
    assert "mean λ goes from 6.00 in the first epoch to 6.00 in the last." in said
    assert "mean λ is 6.00 in" in weights.description(view, "dtrades")


def test_limits_are_stated_from_the_numbers(incomplete, english):
    study, found = incomplete
    text = " ".join(discussion.limits(View(study, found, english)))
    assert "3 seeds" in text and "another defense from 3.0 points on, and" in text
    assert "RA counts on 360 test images" in text and "up to 2.6 points" in text
    cells = found.cells
    error = 100 * ((cells["NA"] * (1 - cells["NA"])).max() / 360) ** 0.5
    assert f"NA counts on 360, and its standard error is up to {error:.1f} points" in text
    assert "In ℓ₀ and ℓ₂ only minimum norms were sought, on 50 images and without Auto" in text
    assert "as few as 36 of them, so that its RA moves in steps of 2.8 points" in text
    assert "of 29 models are those of the last epoch" in text
    assert "6 of 36 cells are missing" in text
    assert "ResNet-18 to 0.25 of its width" in text
    assert "cells raise a masking flag" in text
    single = made_up_study(["at"], ["vgg16"], [0])
    assert "A single seed says nothing" in discussion.limits(View(single, found, english))[0]


def test_the_pareto_front(complete, english):
    study, found = complete
    means = {"standard": (0.9, 0.5), "at": (0.8, 0.6), "trades": (0.8, 0.5), "mart": (0.9, 0.5)}
    for column, place in (("NA", 0), ("RA", 1)):
        values = found.cells["defense"].map({name: pair[place] for name, pair in means.items()})
        found = replace(found, cells=found.cells.assign(**{column: values}))
    front = tradeoff.pareto_front(View(study, found, english), "vgg16", list(means))
    assert front == ["standard", "mart", "at"]


def test_software_is_told_or_said_to_be_unknown(complete, tmp_path, english):
    study, found = complete
    (text,) = software(View(study, found, english))
    assert text == (
        "PyTorch 2.14.1, arithmetic that is the same on every x86-64 processor, CPU: 36 results. "
        "The same computation gives the same bytes there."
    )
    write_made_up(study, tmp_path)
    (tmp_path / "plots" / "summary" / "digits" / "provenance.csv").write_text("cell,stage\n")
    assert (
        "do not tell" in software(View(study, read_results(study, "digits", tmp_path), english))[0]
    )


def test_only_data_sets_with_results_are_evaluated(complete, tmp_path):
    study, _ = complete
    assert read_evaluated(study, tmp_path) == {}
    write_made_up(study, tmp_path)
    assert list(read_evaluated(study, tmp_path)) == ["digits"]


def test_other_threats_are_not_claimed_where_no_norm_was_sought(tmp_path, english):
    study = made_up_study(["at"], ["vgg16"])
    tables = made_up_tables(study)
    tables.norms = tables.norms.query("norm == 'linf'")
    write_made_up(study, tmp_path, tables=tables)
    text = " ".join(
        discussion.limits(View(study, read_results(study, "digits", tmp_path), english))
    )
    assert "robustness to other threats was not measured" in text


def training_text(view):
    return describe_setting(view)[view("setting.training")]


def with_precision(study, precision):
    dataset = study.datasets["digits"]
    train = dataset.train.model_copy(update={"precision": precision, "compile": "auto"})
    changed = replace(dataset, train=train)
    return replace(study, datasets={"digits": changed}), changed


@pytest.mark.parametrize(
    ("devices", "ways", "said"),
    [
        ([None], ["not compiled: too short, or no GPU"],
         "ran in float32; networks not compiled (training too short, or no GPU)."),
        (["NVIDIA A100"], ["compiled"], "ran in TF32 (cards before 2020 float32); networks compi"),
        ([None, "NVIDIA A100"], ["compiled", "not compiled: Broken: no compiler"],
         "ran in TF32 (cards before 2020 float32) and float32; networks compiled and not compiled: "
         "Broken: no compiler."),
    ],
)  # fmt: skip
def test_what_ran_is_told_and_not_what_was_set(tmp_path, english, devices, ways, said):
    study, dataset = with_precision(made_up_study(["at"], ["vgg16"], [0, 1]), "tf32")
    tables = made_up_tables(study)
    tables.provenance["device"] = [devices[0], devices[-1]]
    tables.provenance["compilation"] = [ways[0], ways[-1]]
    write_made_up(study, tmp_path, tables=tables)
    found = replace(read_results(study, "digits", tmp_path), dataset=dataset)
    text = training_text(View(study, found, english))
    assert said in text
    assert "automatic" not in text
    without = replace(found, provenance=found.provenance.drop(columns="compilation"))
    assert "do not tell" in training_text(View(study, without, english))


def test_settings_that_nothing_uses_are_not_shown(complete, english):
    study, found = complete
    faal = {"radius": 0.5, "fine_tuning": {"epochs": 2, "rate": 0.1}}
    assert "fine-tuned (epochs = 2; share" in defense_knobs("faal", faal, english)
    auto = {"version": "standard", "apgd_steps": 100, "plus_restarts": 5}
    assert "restarts of plus" not in knob_text(auto, english)
    assert "restarts of plus = 5" in knob_text(auto | {"version": "plus"}, english)
    # An attack's own momentum is used whatever the optimizer of training.
    assert knob_text({"steps": 10, "momentum": 1.0}, english) == "steps = 10; momentum = 1"
    assert "momentum" not in training_text(View(study, found, english))


@pytest.mark.parametrize(
    ("budget", "standard"),
    [({}, True), ({"plus_restarts": 2}, True), ({"fab_steps": 10}, False),
     ({"square_rescale_schedule": True}, False), ({"version": "plus"}, False)],
)  # fmt: skip
def test_another_autoattack_than_the_standard_one_is_a_limit(complete, english, budget, standard):
    study, found = complete
    attack = Attack("autoattack", "autoattack", knobs_class("attacks", "autoattack")(**budget))
    suite = Suite("autoattack", None, 64, ["best"], None, (attack,))
    dataset = replace(found.dataset, suites={"autoattack": suite})
    said = discussion.limits(View(study, replace(found, dataset=dataset), english))
    assert (english("limits.autoattack") in said) != standard


def test_the_level_of_the_tests_is_not_called_like_a_knob(complete, english):
    study, found = complete
    text = describe_setting(View(study, found, english))[english("setting.statistics")]
    assert text == "Confidence level 95 %, significance level 5 %, power 80 %."


def test_an_attack_on_the_first_images_says_on_how_many(complete, english):
    study, found = complete
    attack = Attack("fgsm", "fgsm", knobs_class("attacks", "fgsm")(), images=100)
    suite = Suite("bounded", 500, 64, ["best"], None, (attack,))
    few = replace(found, dataset=replace(found.dataset, suites={"bounded": suite}))
    text = describe_setting(View(study, few, english))[english("setting.suite", name="bounded")]
    assert text.endswith("FGSM (images = 100; step / ε = 1).")


def test_an_attack_on_the_first_images_is_a_limit_of_ra(complete, english):
    study, found = complete
    attacks = tuple(Attack(name, name, knobs_class("attacks", name)(), images=images)
                    for name, images in (("fgsm", None), ("autoattack", 100)))  # fmt: skip
    suites = {"autoattack": Suite("autoattack", 500, 64, ["best"], None, attacks)}
    few = replace(found, dataset=replace(found.dataset, suites=suites))
    said = discussion.limits(View(study, few, english))
    told = "AutoAttack attacked the first 100 images alone. On the others RA may be too high."
    assert f"Not all of RA rests on all attacks: {told}" in said
    assert "attacked the first" not in " ".join(discussion.limits(View(study, found, english)))


def test_what_few_classes_leave_of_autoattack_is_a_limit(complete, english):
    study, found = complete
    assert "Fewer than four classes" not in " ".join(discussion.limits(View(study, found, english)))
    without = found.attacks[~found.attacks["attack"].isin(["apgd-t", "fab-t"])]
    said = discussion.limits(View(study, replace(found, attacks=without), english))
    (text,) = [sentence for sentence in said if sentence.startswith("Fewer than four classes")]
    assert text == (
        "Fewer than four classes leave APGD-T undefined, so AutoAttack here is APGD-CE and Square."
    )


def test_no_more_images_are_told_than_there_are(complete, english):
    study, found = complete
    few = replace(found, sizes=found.sizes.replace({"count": {360: 250}}))
    text = describe_setting(View(study, few, english))[english("headings.transfer")]
    assert text.startswith("On 250 test images: steps = 20")
