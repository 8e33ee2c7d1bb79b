"""What classifiers make of networks: published numbers, determinism, exact gradients."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ruamel.yaml import YAML

from tests import golden, tiny
from tradeoff.attacks.outcome import batched_logits
from tradeoff.classifiers import confident, mixed, mixednuts, plain, smoothed
from tradeoff.classifiers.smoothed import Smoothed
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Study
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.folding import attacked_twin, fold_if_same

IMAGE = (1, 8, 8)


def test_a_plain_classifier_is_its_network() -> None:
    network = tiny.network()
    assert plain.build([network], plain.Knobs(), image=IMAGE, seed=0) is network


def test_a_confident_classifier_is_its_network_and_rejects_what_it_is_unsure_of() -> None:
    network, (images, _) = tiny.calm(tiny.network()), tiny.batch()
    classifier = confident.build([network], confident.Knobs(), image=IMAGE, seed=0).eval()
    assert isinstance(classifier, confident.Confident)
    assert torch.equal(classifier(images), network(images))
    score = classifier.rejection_score(images)
    torch.testing.assert_close(score, 1 - network(images).softmax(1).max(1).values)
    twin = attacked_twin(classifier, images)
    torch.testing.assert_close(twin.rejection_score(images), score)  # type: ignore[operator]


def test_mixed_logits_are_the_published_ones() -> None:
    standard = golden.number("mixture/standard_scale") * golden.tensor("mixture/standard_logits")
    robust = golden.number("mixture/robust_scale") * golden.tensor("mixture/robust_logits")
    alphas, expected = golden.tensor("mixture/alpha"), golden.tensor("mixture/logits")
    assert 0 in alphas and 1 in alphas
    for alpha, logits in zip(alphas.tolist(), expected, strict=True):
        torch.testing.assert_close(mixed.mix(standard, robust, alpha), logits, rtol=1e-9, atol=0)


def test_from_its_least_weight_on_the_robust_network_decides_against_any_other() -> None:
    """Against one that is certain of the robust network's second class, for each image."""
    robust = golden.tensor("mixture/robust_logits")
    margins = mixednuts.margins(robust)
    golden.assert_close(margins, golden.tensor("mixture/robust_margin"), 1e-9)
    first, second = robust.topk(2).indices.unbind(1)
    certain = 1000.0 * F.one_hot(second, robust.shape[1]).double()
    least = golden.tensor("mixture/least_alpha")
    for step, decides in ((1e-9, first), (-1e-9, second)):
        alphas = (least + step).tolist()
        rows = zip(certain.split(1), robust.split(1), alphas, strict=True)
        found = torch.cat([mixed.mix(*row).argmax(1) for row in rows])
        assert torch.equal(found, decides)
    for alpha, needed in zip(
        golden.tensor("mixture/alpha").tolist(), golden.tensor("mixture/margin_needed"), strict=True
    ):
        kept = mixed.mix(certain, robust, alpha).argmax(1) == first
        assert torch.equal(kept, margins > needed)


def test_an_attack_on_a_mixture_goes_through_it() -> None:
    networks = [golden.network(name).eval().double() for name in ("standard", "robust")]
    knobs = mixed.Knobs(alpha=golden.number("mixture/attack/alpha"))
    model = mixed.build(networks, knobs, image=IMAGE, seed=0)
    images, labels = golden.images().double(), golden.labels()

    def loss(points: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(model(points), labels, reduction="none")

    golden.assert_close(loss(images), golden.tensor("mixture/attack/loss"), 1e-9)
    gradient = input_gradient(loss, images)
    golden.assert_close(gradient, golden.tensor("mixture/attack/gradient"), 1e-9)
    attacked = golden.tensor("mixture/attack/x_adv").double()
    golden.assert_close(model(attacked), golden.tensor("mixture/attack/logits"), 1e-9)


def test_smoothed_logits_and_their_gradient_are_those_of_the_mean_probability() -> None:
    count, sigma = int(golden.number("smoothing/attack/samples")), golden.number("smoothing/sigma")
    network = golden.network("robust").eval().double()
    images, labels = golden.images()[:6].double(), golden.labels()[:6]
    noise = golden.tensor("smoothing/noise").double()
    soft, losses, gradients = [], [], []
    for image, label, copies in zip(images, labels, noise, strict=True):
        whole = Smoothed(network, sigma, copies)
        soft.append(whole(image[None]).exp())
        few = Smoothed(network, sigma, copies[:count])

        def loss(
            points: torch.Tensor, few: Smoothed = few, label: int = int(label)
        ) -> torch.Tensor:
            return -few(points)[:, label]

        losses.append(loss(image[None]))
        gradients.append(input_gradient(loss, image[None]))
    golden.assert_close(torch.cat(soft), golden.tensor("smoothing/soft"), 1e-9)
    golden.assert_close(torch.cat(losses), golden.tensor("smoothing/attack/soft_loss"), 1e-9)
    golden.assert_close(torch.cat(gradients), golden.tensor("smoothing/attack/soft_gradient"), 1e-9)


def test_a_smoothed_classifier_is_a_function_of_the_image_and_its_seed() -> None:
    images, _ = tiny.batch(6)
    network = tiny.calm(tiny.network())
    knobs = smoothed.Knobs(sigma=0.5, copies=4)
    one, same, other = (
        smoothed.build([network], knobs, image=IMAGE, seed=seed).eval() for seed in (0, 0, 1)
    )
    assert torch.equal(one(images), same(images)) and not torch.equal(one(images), other(images))
    torch.testing.assert_close(batched_logits(one, images, 1), one(images))
    torch.testing.assert_close(one(images).exp().sum(1), torch.ones(6))


def test_composites_are_folded_where_that_changes_nothing() -> None:
    images, _ = tiny.batch(6)
    networks = [tiny.calm(tiny.network(seed)) for seed in (0, 1)]
    for model in (
        mixed.build(networks, mixed.Knobs(alpha=0.3), image=IMAGE, seed=0),
        smoothed.build(networks[:1], smoothed.Knobs(sigma=0.1, copies=3), image=IMAGE, seed=0),
    ):
        twin = fold_if_same(model.eval(), images)
        assert twin is not model
        torch.testing.assert_close(twin(images), model(images))


def test_what_a_classifier_offers_in_its_place_is_attacked() -> None:
    class Rounding(torch.nn.Module):
        """Images to 3 levels, through which no gradient goes."""

        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network((2 * images).round() / 2)

        def surrogate(self) -> torch.nn.Module:
            return self.network

    network = tiny.calm(tiny.network())
    images, _ = tiny.batch(4)
    assert attacked_twin(Rounding(network), images) is network
    assert attacked_twin(network, images) is not network


@pytest.mark.parametrize(
    ("defense", "knob", "value", "complaint"),
    [
        ("squeezing", "bits", 0, "squeezing.classifier.bits: is 0; it should be 1, 2, 3"),
        ("squeezing_detector", "bits", 9, "squeezing_detector.classifier.bits: is 9; it should"),
        ("squeezing", "median", 0, "squeezing.classifier.median: is 0; it should be greater"),
        ("mixing", "alpha", 1.2, "mixing.classifier.alpha: is 1.2; it should be less than or"),
        ("mixing", "alpha", -0.1, "mixing.classifier.alpha: is -0.1; it should be greater than"),
        ("pixeldefend", "levels", 257, "pixeldefend.classifier.levels: is 257; it should be less"),
    ],
)
def test_a_classifiers_bad_knob_is_refused_in_a_sentence(
    tmp_path: Path, defense: str, knob: str, value: float, complaint: str
) -> None:
    params = YAML().load((Path(__file__).parents[2] / "params.yaml").read_text("utf-8"))
    params[defense]["classifier"][knob] = value
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(params, file)
    with pytest.raises(BadParams, match=complaint):
        Study.load(tmp_path / "params.yaml")
