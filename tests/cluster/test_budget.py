"""`tradeoff plan`: what is counted, and what follows from it in closed form."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import norm, t

from tradeoff.cluster.budget import (
    DISAGREE,
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
from tradeoff.core.schema import BadParams
from tradeoff.core.settings import ModelSettings
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


@pytest.mark.parametrize(
    ("defense", "beside"), [("at", 3), ("trades", 7), ("dtrades", 9), ("mart", 6), ("faal", 3)]
)
def test_a_step_is_that_of_the_algorithm(defense: str, beside: int, cells: dict[str, Cell]) -> None:
    """Two passes for each step of the ascent, and those of the objective."""
    steps = cells[defense].train.attack.steps
    assert step_passes(cells[defense]) == 2 * steps + beside
    assert step_passes(cells["standard"]) == 3


def test_networks_that_train_together_cost_as_many_times(
    study: Study, cells: dict[str, Cell]
) -> None:
    """In ACT each of two is attacked and fitted as in AT."""
    act = replace(cells["at"], defense="act", knobs=study.knobs["act"])
    one, both = (work(cell, FEATURES) for cell in (cells["at"], act))
    assert both.training == 2 * one.training and both.evaluation == 2 * one.evaluation


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
    assert whole.training == 50 * 7000 * (2 * 10 + 7)
    assert half.training == whole.training / 2
    assert whole.evaluation - half.evaluation == 25 * 352 * (2 * 10 + 1.5)
    card = Card("made up", {"float32": 1e9, "fp16": 4e9})
    assert Work(8e9, 1e9).seconds(3.0, card, "fp16") == 3 * (2 + 1)
    assert Work(8e9, 1e9).seconds(3.0, card, "float32") == 3 * (8 + 1)


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
    assert table("a|b", [("long", 1), ("x", "y")]) == "a     b\nlong  1\nx     y"
