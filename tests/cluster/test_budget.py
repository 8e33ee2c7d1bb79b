"""`tradeoff plan`: what is counted, and what follows from it in closed form."""

from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from scipy.stats import norm, t

from tradeoff.cluster.budget import (
    DISAGREE,
    IMAGE,
    SEED_SPREAD,
    Card,
    Choice,
    Size,
    Work,
    attack_passes,
    choose,
    detectable,
    forward_operations,
    make_card,
    show,
    size_of,
    step_passes,
    table,
    work,
)
from tradeoff.core import foundations
from tradeoff.core.plugins import defines, module_names
from tradeoff.core.schema import BadParams
from tradeoff.core.settings import ModelSettings, WeightPerturbation
from tradeoff.core.study import Cell, Study

ROOT = Path(__file__).resolve().parents[2]
FEATURES = Size(train=7000, validation=352, test=2947, image=(1, 1, 561), classes=6)


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.load(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def cells(study: Study) -> dict[str, Cell]:
    """Of HAR and its fully connected network, by defense."""
    first = {cell.defense: cell for cell in reversed(study.trained_cells("mnist"))}
    return {
        name: replace(cell, architecture="mlp", dataset=study.datasets["har"])
        for name, cell in first.items()
    }


@pytest.mark.parametrize(("width", "layers"), [(1.0, (512, 256)), (0.5, (256, 128))])
def test_a_forward_pass_of_linear_layers_is_two_operations_a_weight(
    width: float, layers: tuple[int, int], cells: dict[str, Cell]
) -> None:
    first, second = layers
    expected = 2 * (561 * first + first * second + second * 6)
    assert forward_operations(cells["at"], FEATURES, width) == expected


def test_a_convolution_is_counted_at_each_pixel(cells: dict[str, Cell]) -> None:
    """The network of Wong & Kolter: two convolutions that halve the sides, two linear layers."""
    dataset = replace(
        cells["at"].dataset, models={"wongsmall": ModelSettings(width=1.0, pretrained=None)}
    )
    cell = replace(cells["at"], architecture="wongsmall", dataset=dataset)
    size = replace(FEATURES, image=(1, 28, 28), classes=10)
    convolutions = 14 * 14 * 16 * 16 * 1 + 7 * 7 * 32 * 16 * 16
    assert forward_operations(cell, size) == 2 * (convolutions + 32 * 7 * 7 * 100 + 100 * 10)


# Of a training step of each defense: passes for each step of the attack, passes beside it, and
# passes of which weights get a gradient; a forward or a backward pass is one. Sums of the formulas.
PASSES = {
    "act": (2, 0, 2),
    "alp": (2, 0, 2),
    "arda": (12, 0, 4),  # as many attacks as there are rotations, and objective
    "arow": (2, 1, 2),
    "at": (2, 0, 1),
    "ccat": (0, 41, 1),  # its own attack, in each of whose steps the best point is looked at
    "clp": (0, 0, 1),
    "cusp": (2, 0, 1),
    "distillation": (0, 1, 1),
    "distillation_1": (0, 1, 1),
    "distillation_10": (0, 1, 1),
    "dtrades": (2, 3, 2),
    "dtrades_alpha": (2, 3, 2),
    "dtrades_batch_mean": (2, 3, 2),
    "dtrades_beta": (2, 3, 2),
    "dtrades_class_mean": (2, 3, 2),
    "dtrades_shuffled": (2, 3, 2),
    "ewat": (2, 1, 2),
    "faal": (2, 0, 1),
    "fast": (0, 2, 1),
    "fat": (2, 0, 1),
    "fgsm": (0, 2, 2),
    "gaussian": (0, 0, 1),
    "hat": (2, 2, 3),
    "labeller": (0, 0, 1),
    "mail": (2, 1, 2),
    "mart": (2, 0, 2),
    "rst": (2, 1, 2),
    "standard": (0, 0, 1),
    "tempered": (0, 0, 1),
    "tempered_10": (0, 0, 1),
    "trades": (2, 1, 2),
    "trades_matched": (2, 1, 2),
    "trix": (2, 1, 2),
    "vat": (0, 3, 2),
    "vir": (2, 1, 2),
    "weat": (2, 1, 2),
}
# Of which no such sum is told: gradients of gradients, bounds, a density model.
COSTLIER = {"dtrades_differentiable", "igr", "interval", "crown_ibp", "outer_polytope",
            "second_stage", "pixeldefend"}  # fmt: skip
TRAINED = [
    name for name in module_names("defenses", "Knobs") if defines("defenses", name, "training_loss")
]


def of_defense(name: str, study: Study, at: Cell) -> Cell:
    bases = dict.fromkeys(foundations.roles(name), at)
    return replace(at, defense=name, knobs=study.knobs[name], bases=bases)


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_of_each_defense_is_that_of_its_formula(
    name: str, study: Study, cells: dict[str, Cell]
) -> None:
    cell = of_defense(name, study, cells["at"])
    if name in COSTLIER:
        assert step_passes(cell, FEATURES) > 5
        return
    by_step, beside, fitted = PASSES[name]
    # Two passes back for one forward, but for the first layer, which needs none by the images.
    layers = [prod(IMAGE) * 64, 64 * 32, 32 * 10]  # of the network that is counted
    each = 3 - layers[0] / sum(layers)
    expected = by_step * cell.train.attack.steps + beside + fitted * each
    assert step_passes(cell, FEATURES) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("architecture", ["resnet18", "vgg16"])
def test_convolutions_are_counted_alike_in_both_twins(
    architecture: str, cells: dict[str, Cell]
) -> None:
    """Three convolutional passes of AT but for the first layer's, and two for each step."""
    dataset = replace(
        cells["at"].dataset, models={architecture: ModelSettings(width=1.0, pretrained=None)}
    )
    cell = replace(cells["at"], architecture=architecture, dataset=dataset)
    assert step_passes(cell, FEATURES) == pytest.approx(2 * 10 + 3, abs=0.1)


def test_bounds_cost_what_they_multiply(study: Study, cells: dict[str, Cell]) -> None:
    """Intervals are two networks beside the usual one: of centres and of radii. Of the last layer
    only differences of logits are bounded, C of each image."""
    cell = of_defense("interval", study, cells["at"])
    layers = [561 * 512, 512 * 256, 256 * 10]
    least = 3 * (3 - layers[0] / sum(layers))
    assert least < step_passes(cell, FEATURES) < least + 3
    exact = of_defense("outer_polytope", study, cells["at"])
    assert step_passes(exact, FEATURES) > 100


def test_moved_weights_take_the_objective_a_second_time(cells: dict[str, Cell]) -> None:
    cell = cells["trades"]
    moved = WeightPerturbation(gamma=0.005, begins=0.0)
    train = cell.dataset.train.model_copy(update={"weight_perturbation": moved})
    both = replace(cell, dataset=replace(cell.dataset, train=train))
    plain, objective = step_passes(cell, FEATURES), step_passes(cells["standard"], FEATURES)
    # f(x) of the attack too is computed again.
    assert step_passes(both, FEATURES) == pytest.approx(plain + 2 * objective + 1)


def test_networks_that_train_together_are_attacked_each(
    study: Study, cells: dict[str, Cell]
) -> None:
    one = work(cells["at"], FEATURES)
    both = work(of_defense("act", study, cells["at"]), FEATURES)
    assert both.evaluation == 2 * one.evaluation and both.training > one.training


def test_attacks_are_counted_by_their_budget(study: Study) -> None:
    attacks = {
        attack.name: attack_passes(attack, 10)
        for suite in study.datasets["cifar10"].suites.values()
        for attack in suite.attacks
    }
    assert attacks["fgsm"] == 2 and attacks["bim"] == 20
    assert attacks["pgd"] == 2 * 20 * 2
    assert attacks["deepfool_l2"] == 2 * 50 * 10
    assert attacks["autoattack"] == 2 * (100 + 9 * 100 + 9 * 100) + 5000


def test_a_cell_takes_its_training_validation_and_attacks(cells: dict[str, Cell]) -> None:
    cell = cells["trades"]
    whole, half = (work(cell, FEATURES, share) for share in (1.0, 0.5))
    assert whole.training == 50 * 7000 * step_passes(cell, FEATURES)
    assert half.training == whole.training / 2
    assert whole.evaluation - half.evaluation == 25 * 352 * (2 * 10 + 1.5)
    card = Card("made up", {"float32": 1e9, "fp16": 4e9})
    assert Work(8e9, 1e9).seconds(3.0, card, "fp16") == 3 * (2 + 1)
    assert Work(8e9, 1e9).seconds(3.0, card, "float32") == 3 * (8 + 1)


def test_an_attack_on_the_first_images_takes_no_more_than_these(cells: dict[str, Cell]) -> None:
    cell = cells["trades"]
    suites = cell.dataset.suites
    first, *others = suites["autoattack"].attacks
    few = replace(suites["autoattack"], attacks=(replace(first, images=1), *others))
    fewer = replace(cell, dataset=replace(cell.dataset, suites=suites | {"autoattack": few}))
    images = min(suites["autoattack"].images or FEATURES.test, FEATURES.test)
    spared = work(cell, FEATURES).evaluation - work(fewer, FEATURES).evaluation
    assert spared == (images - 1) * attack_passes(first, FEATURES.classes)


def test_the_largest_training_that_fits_is_chosen(cells: dict[str, Cell]) -> None:
    card = make_card("T4")
    one, both = [cells["at"]], [cells["at"], cells["trades"]]
    forward = forward_operations(one[0], FEATURES)
    seconds = work(one[0], FEATURES).seconds(forward, card, "fp16")
    assert choose(one, FEATURES, card, 2.5 * seconds, 3) == Choice(1.0, 1.0, 2, 2 * seconds)
    assert choose(one, FEATURES, card, 9.5 * seconds, 3) == Choice(1.0, 1.0, 3, 3 * seconds)
    less = choose(both, FEATURES, card, 1.5 * seconds, 3)
    assert less is not None and less.width * less.epochs < 1 and less.seconds <= 1.5 * seconds
    assert choose(both, FEATURES, card, 0.001 * seconds, 3) is None


def test_what_is_resolved(study: Study) -> None:
    """Of one seed by images alone; of three, on endless images, by t with 2 degrees of freedom."""
    settings = study.statistics
    normal = norm.ppf(1 - settings.alpha / 2) + norm.ppf(settings.power)
    assert detectable(1, 10**6, settings) == pytest.approx(normal * (DISAGREE / 10**6) ** 0.5, 1e-4)
    student = t.ppf(1 - settings.alpha / 2, 2) + t.ppf(settings.power, 2)
    expected = student * SEED_SPREAD / 3**0.5
    assert detectable(3, 10**12, settings) == pytest.approx(expected, 1e-4)


def test_rates_are_shares_of_the_peak_or_what_was_measured() -> None:
    assert make_card("T4").rates == pytest.approx({"float32": 0.3 * 8.1e12, "fp16": 0.1 * 65e12})
    measured = make_card("T4", rate=9.0)
    assert measured.rates == pytest.approx({"float32": 0.3 * 8.1e12, "fp16": 9e12})
    assert (measured.fastest, measured.own("tf32"), measured.own("fp16")) == (
        "fp16", "float32", "fp16"
    )  # fmt: skip
    with pytest.raises(BadParams, match="--gpu T5: is not known; allowed: T4, "):
        make_card("T5")


def test_sizes_are_known_before_data_are_read(study: Study) -> None:
    size = size_of(study.datasets["cifar10"])
    assert size == Size(45_000, 5_000, 10_000, (3, 32, 32), 10)
    limited = study.datasets["mnist_5k"]
    assert size_of(limited) == Size(3500, 500, 1000, (1, 28, 28), 10)
    split = limited.split.model_copy(update={"limit": 900})
    assert size_of(replace(limited, split=split)) == Size(400, 500, 900, (1, 28, 28), 10)


def test_both_tables_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A data set that is not prepared, and is no published one, is told."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    axes = "  datasets: [digits, mnist_5k, mnist, cifar10]"
    assert axes in text
    (tmp_path / "params.yaml").write_text(text.replace(axes, "  datasets: [digits, cifar10]"))
    assert show(tmp_path, "T4", 9, None) == 0
    printed = capsys.readouterr().out
    assert "make it with: dvc repro prepare@digits" in printed
    rows = [line.split() for line in printed.splitlines() if line.startswith("cifar10 ")]
    assert [row[2] for row in rows[:6]] == ["standard", "at", "trades", "dtrades", "mart", "faal"]
    assert "fp16" in rows[-1] and rows[-1][-1] == "points"


def test_columns_are_as_wide_as_what_is_in_them() -> None:
    assert table("ab", [("long", 1), ("x", "y")]) == "a     b\nlong  1\nx     y"
