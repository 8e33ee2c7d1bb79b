"""MixedNUTS: the published map, search and mixture, and an attack that the classifier judges."""

from itertools import product

import pytest
import torch

from tests import golden, tiny
from tradeoff.attacks.outcome import check_inputs
from tradeoff.classifiers import mixednuts
from tradeoff.classifiers.mixednuts import MixedNuts
from tradeoff.core.schema import BadParams
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.threat import Threat

KNOBS = mixednuts.Knobs(
    scale=[0.05, 5.0],
    bias=[-1.1, 0.0],
    power=[1.0, 4.0],
    points=4,
    kept=0.9,
    steps=5,
    surrogate_alpha=0.957,
)


@pytest.mark.parametrize("largest", [10, 3])
def test_logits_are_normalised_by_the_largest_ones(largest: int) -> None:
    found = mixednuts.normalized(golden.tensor("mixture/robust_logits"), largest)
    golden.assert_close(found, golden.tensor(f"nuts/normalized/{largest}"), 1e-9)


def test_the_map_is_the_published_one() -> None:
    robust = golden.tensor("mixture/robust_logits")
    for row, (scale, power, bias) in enumerate(golden.tensor("nuts/parameters").tolist()):
        found = mixednuts.sharpened(robust, scale, bias, power)
        golden.assert_close(found, golden.tensor("nuts/mapped")[row], 1e-9)
        golden.assert_close(found.softmax(1), golden.tensor("nuts/probabilities")[row], 1e-9)
        plain = mixednuts.sharpened(robust, 1.0, bias, 1.0)
        golden.assert_close(plain, golden.tensor("nuts/clamped")[row], 1e-9)


def golden_model() -> MixedNuts:
    networks = [golden.network(name).eval().double() for name in ("standard", "robust")]
    b = golden.number("nuts/surrogate_alpha")
    model = mixednuts.build(
        networks, KNOBS.model_copy(update={"surrogate_alpha": b}), image=(1, 8, 8), seed=0
    )
    scale, power, bias = golden.tensor("nuts/parameters")[int(golden.number("nuts/mixture/row"))]
    alpha = golden.tensor("nuts/mixture/alpha")
    assert isinstance(model, MixedNuts)
    model.calibrated.copy_(torch.stack([scale, bias, power, alpha]))
    return model


def test_mixture_and_surrogate_are_the_published_ones() -> None:
    model, images = golden_model(), golden.images().double()
    logits = model(images)
    golden.assert_close(logits, golden.tensor("nuts/mixture/logits"), 1e-9)
    assert torch.equal(logits.argmax(1), golden.tensor("nuts/mixture/prediction"))
    smooth = mixednuts.smooth(model, model.natural(images), model.robust(images))
    golden.assert_close(smooth, golden.tensor("nuts/mixture/surrogate_logits"), 1e-9)


def test_the_surrogate_says_what_the_classifier_says_and_climbs_what_is_smooth() -> None:
    model, images = golden_model(), golden.images().double()
    surrogate = model.surrogate()
    check_inputs(surrogate, images, golden.labels())
    assert torch.equal(surrogate(images).argmax(1), model(images).argmax(1))
    found = input_gradient(lambda x: surrogate(x)[:, 3], images)
    expected = input_gradient(
        lambda x: mixednuts.smooth(model, model.natural(x), model.robust(x))[:, 3], images
    )
    torch.testing.assert_close(found, expected)


def test_the_search_finds_the_published_place() -> None:
    axes = (golden.tensor(f"nuts/search/{name}").tolist() for name in ("scale", "bias", "power"))
    grid = list(product(*axes))
    right, wrong = (golden.tensor(f"nuts/search/{n}") for n in ("attacked_right", "clean_wrong"))
    kept = golden.number("nuts/search/kept_percent") / 100
    thresholds, shares = mixednuts.thresholds(right, wrong, grid, kept)
    golden.assert_close(thresholds, golden.tensor("nuts/search/cutoff").flatten(), 1e-9)
    golden.assert_close(shares, golden.tensor("nuts/search/objective").flatten(), 1e-9)
    best = golden.tensor("nuts/search/best").tolist()
    place = int(shares.argmin())
    assert list(grid[place]) == [
        golden.tensor(f"nuts/search/{name}")[at].item()
        for name, at in zip(("scale", "bias", "power"), best, strict=True)
    ]
    assert 1 / (1 + thresholds[place].item()) == pytest.approx(golden.number("nuts/search/alpha"))


def test_calibration_is_repeatable_and_goes_with_the_weights() -> None:
    images, labels = tiny.batch(16)
    networks = [tiny.calm(tiny.network(seed)).eval() for seed in (0, 1)]
    labels = networks[1](images).argmax(1)  # it is right about all of them but the last four
    labels[-4:] = (labels[-4:] + 1) % tiny.CLASSES
    models = [MixedNuts(*networks, KNOBS).eval() for _ in range(2)]
    for model in models:
        model.calibrate(images, labels, Threat("linf", 0.001))
    one, other = (model.state_dict()["calibrated"] for model in models)
    assert torch.equal(one, other) and 0.5 <= float(one[3]) < 1
    wrong = (networks[1](images).argmax(1) + 1) % tiny.CLASSES
    with pytest.raises(BadParams, match="right on no attacked"):
        models[0].calibrate(images, wrong, Threat("linf", 0.001))
