"""What is said of fairness, cost, lambda and limits: by rules, from numbers."""

from dataclasses import replace

import pandas as pd
import pytest
from made_up import EPOCHS, TRAIN_IMAGES, made_up_study, made_up_tables, write_made_up

from tradeoff.core.schema import knobs_class
from tradeoff.core.study import Attack, Suite
from tradeoff.reporting import cost, descriptions, discussion
from tradeoff.reporting.accuracy import fairness_table
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_evaluated, read_results, worst
from tradeoff.reporting.setting import describe_setting, device_name, knob_text, software

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
        (0.25, "D-TRADES is 5.0 points below it; with one number per seed, that is not tested."),
    ],
)
def test_the_worst_class_wins_or_loses(tmp_path, english, mine, said):
    study = made_up_study(["at", "dtrades"], ["vgg16"])
    found = results_with(study, tmp_path, RA_worst_class={"at": 0.30, "dtrades": mine})
    (text,) = discussion.fairness(study, found, english)
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
    counts, models = discussion.worst_classes("vgg16", study, found)
    assert models == 6 and +counts == {2: 3, 9: 6}
    (text,) = discussion.fairness(study, found, english)
    assert (
        "Class 9 is, alone or with others, the worst one of 6 of 6 models, Standard left out."
        in text
    )
    assert "AT class 2 and 9, 10.0 %" in descriptions.classes(study, found, english)


def test_classes_that_differ_by_rounding_alone_are_all_worst():
    values = pd.Series({0: 0.1 + 0.2, 1: 0.3, 2: float("nan"), 3: 0.4})
    assert list(worst(values)) == [True, True, False, False]


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


def test_cost_is_the_mean_over_seeds_of_each_ones_epochs(complete, english):
    study, found = complete
    table = cost.cost_table(study, found, english)
    histories = [found.histories[f"mart-vgg16-digits-{seed}"] for seed in range(3)]
    seconds = pd.Series([history["seconds"].median() for history in histories])
    numbers = table.blocks[1].rows[study.axes.defenses.index("mart")].numbers
    assert [column.header for column in table.columns] == ["Passes per image", "Seconds per epoch"]
    assert numbers[0].mean == "23.0"
    assert numbers[1].mean == f"{seconds.mean():.1f}"
    assert found.histories["mart-vgg16-digits-0"]["forward_passes"].iloc[0] == 12 * TRAIN_IMAGES
    first, _ = cost.cost_sentences(study, found, english)
    passes, seconds = first.split("The measured time of an epoch")
    assert "The number of network passes of an epoch of D-TRADES is 1.00 times that of St" in passes
    assert seconds.endswith("but depends on how many cells trained at once, which is not known.")
    assert "epoch: ResNet-18 Standard 23.0" in descriptions.costs(study, found, english)


def test_a_first_epoch_that_compiles_does_not_count_as_the_cost_of_an_epoch(complete):
    _, found = complete
    key = "at-vgg16-digits-0"
    history = found.histories[key].assign(seconds=2.0, forward_passes=2 * TRAIN_IMAGES)
    history.loc[0, ["seconds", "forward_passes"]] = 200.0, 14 * TRAIN_IMAGES
    found = replace(found, histories={key: history})
    assert cost.cost("seconds", "at", "vgg16", found) == [2.0]
    assert cost.cost("passes", "at", "vgg16", found) == [pytest.approx(2 + 12 / EPOCHS + 11)]


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
    text, _, control = discussion.weights("dtrades", study, found, english)
    assert "TRADES weighs all images alike, by 6:" in control
    last = pd.DataFrame([
        found.histories[f"dtrades-resnet18-digits-{seed}"].iloc[-1] for seed in range(3)
    ]).mean(numeric_only=True)  # fmt: skip
    share = 100 * 2.5 * last["entropy_mean"] / last["lambda_mean"]
    assert f"to {last['lambda_mean']:.2f} in the last" in text
    assert f"the entropy term makes {share:.1f} % of it" in text
    assert "Class 9 has most weight" in text and "class 0 least" in text


def test_lambda_has_as_many_decimals_everywhere(complete, english):
    study, found = complete
    six = {key: history.assign(lambda_mean=6.0) for key, history in found.histories.items()}
    found = replace(found, histories=six)
    said = discussion.weights("dtrades", study, found, english)[0]
    assert "mean λ goes from 6.00 in the first epoch to 6.00 in the last." in said
    assert "mean λ is 6.00 in" in descriptions.weights("dtrades", study, found, english)


def test_limits_are_stated_from_the_numbers(incomplete, english):
    study, found = incomplete
    text = " ".join(discussion.limits(study, found, english))
    assert "3 seeds" in text and "from 3.0 to 3.0 points on" in text
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
        "PyTorch 2.14.1, CPU, 1 thread: 36 results. "
        "The same computation gives the same bytes there."
    )
    write_made_up(study, tmp_path)
    (tmp_path / "plots" / "summary" / "digits" / "provenance.csv").write_text("cell,stage\n")
    assert "do not tell" in software(read_results(study, "digits", tmp_path), english)[0]


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
    text = " ".join(discussion.limits(study, read_results(study, "digits", tmp_path), english))
    assert "robustness to other threats was not measured" in text


@pytest.mark.parametrize(
    ("device", "english_name", "spanish_name"),
    [
        ("cpu, 1 threads", "CPU, 1 thread", "CPU, 1 hilo"),
        ("cpu, 1 thread", "CPU, 1 thread", "CPU, 1 hilo"),
        ("cpu, 16 threads", "CPU, 16 threads", "CPU, 16 hilos"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
    ],
)
def test_devices_are_named_in_the_language(templates, device, english_name, spanish_name):
    assert device_name(device, load_labels("en", templates)) == english_name
    assert device_name(device, load_labels("es", templates)) == spanish_name


def training_text(study, found, labels):
    (item,) = (item for item in describe_setting(study, study.dataset("digits"), found, labels)
               if item.term == labels("setting.training"))  # fmt: skip
    return item.text


def with_precision(study, precision):
    dataset = study.datasets["digits"]
    train = dataset.train.model_copy(update={"precision": precision, "compile": "auto"})
    changed = replace(dataset, train=train)
    return replace(study, datasets={"digits": changed}), changed


@pytest.mark.parametrize(
    ("devices", "ways", "said"),
    [
        (["cpu, 1 threads"], ["not compiled: too short, or no GPU"],
         "ran in float32; networks not compiled (training too short, or no GPU)."),
        (["NVIDIA A100"], ["compiled"], "ran in TF32 (cards before 2020 float32); networks compi"),
        (["cpu, 2 threads", "NVIDIA A100"], ["compiled", "not compiled: Broken: no compiler"],
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
    text = training_text(study, found, english)
    assert said in text
    assert "automatic" not in text
    without = replace(found, provenance=found.provenance.drop(columns="compilation"))
    assert "do not tell" in training_text(study, without, english)
    if devices == ["cpu, 1 threads"]:
        assert (
            "taken on CPU, 1 thread, and depend on"
            in cost.cost_table(study, found, english).caption
        )


def test_settings_that_nothing_uses_are_not_shown(complete, english):
    study, found = complete
    faal = {"radius": 0.5, "finetune_epochs": 2, "pretrain": "at", "pretrain_beta": 6.0}
    assert "its β" not in knob_text(faal, english)
    assert "its β = 6" in knob_text(faal | {"pretrain": "trades"}, english)
    scratch = faal | {"finetune_epochs": None, "finetune_rate": 0.1}
    assert knob_text(scratch, english).count(";") == 1
    auto = {"version": "standard", "apgd_steps": 100, "plus_restarts": 5}
    assert "restarts of plus" not in knob_text(auto, english)
    assert "restarts of plus = 5" in knob_text(auto | {"version": "plus"}, english)
    # An attack's own momentum is used whatever the optimizer of training.
    assert knob_text({"steps": 10, "momentum": 1.0}, english) == "steps = 10; momentum = 1"
    assert "momentum" not in training_text(study, found, english)


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
    said = discussion.limits(study, replace(found, dataset=dataset), english)
    assert (english("limits.autoattack") in said) != standard


def test_the_level_of_the_tests_is_not_called_like_a_knob(complete, english):
    study, found = complete
    items = describe_setting(study, study.dataset("digits"), found, english)
    (text,) = (item.text for item in items if item.term == english("setting.statistics"))
    assert text == "Confidence level 95 %, significance level 5 %, power 80 %."


def test_no_more_images_are_told_than_there_are(complete, english):
    study, found = complete
    few = replace(found, sizes=found.sizes.replace({"count": {360: 250}}))
    items = describe_setting(study, study.dataset("digits"), few, english)
    (text,) = (item.text for item in items if item.term == english("headings.transfer"))
    assert text.startswith("On 250 test images: steps = 20")
