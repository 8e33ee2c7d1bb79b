"""Feature squeezing: the published filters to the bit, the detector, and attacks through both."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import golden, tiny
from tradeoff.classifiers import squeezed
from tradeoff.core.schema import BadParams
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.folding import attacked_twin
from tradeoff.networks.losses import margin

IMAGE = (1, 8, 8)
KNOBS = {"detector": False, "bits": 3, "median": 2, "means": None, "search": 11, "block": 3}


def images() -> Tensor:
    return golden.tensor("squeezing/x")


def network() -> torch.nn.Module:
    return golden.network("standard").eval().double()


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_is_the_published_one(bits: int) -> None:
    expected = golden.tensor(f"squeezing/bits/{bits}")
    assert torch.equal(squeezed.bit_depth(images(), bits), expected)


def test_one_bit_is_a_threshold_at_a_half() -> None:
    assert torch.equal(squeezed.bit_depth(images(), 1), golden.tensor("squeezing/binary"))


@pytest.mark.parametrize("window", ["1x2", "2x1", "2x2", "1x3", "3x3"])
def test_the_median_is_the_published_one(window: str) -> None:
    height, width = map(int, window.split("x"))
    expected = golden.tensor(f"squeezing/median/{window}")
    assert torch.equal(squeezed.median(images(), height, width), expected)


@pytest.mark.parametrize("row", range(5))
def test_non_local_means_are_those_of_opencv(row: int) -> None:
    search, block, strength = golden.tensor("squeezing/nlm/parameters")[row].tolist()
    levels = golden.tensor("squeezing/nlm/images").long()
    found = squeezed.non_local_means(levels, search, block, strength)
    assert torch.equal(found, golden.tensor(f"squeezing/nlm/{row}").long())


def test_non_local_means_of_equal_channels_are_those_of_one() -> None:
    levels = golden.tensor("squeezing/nlm/images").long()
    one = squeezed.non_local_means(levels, 7, 3, 20)
    three = squeezed.non_local_means(levels.repeat(1, 3, 1, 1), 7, 3, 20)
    assert int((three - one).abs().amax()) <= 1, "but for the rounding of distances"


def test_the_detector_scores_by_the_largest_distance() -> None:
    knobs = squeezed.Knobs(**KNOBS | {"means": 60.0, "detector": True})
    means = squeezed.smoothed_by_means(images(), 11, 3, 60.0)
    torch.testing.assert_close(means, golden.tensor("squeezing/joint/nlm"), rtol=1e-12, atol=0)
    found = squeezed.distances(network(), images(), squeezed.make_squeezers(knobs, IMAGE))
    golden.assert_close(found, golden.tensor("squeezing/joint/l1"), 1e-9)
    detector = squeezed.build([network()], knobs, image=IMAGE, seed=0)
    assert isinstance(detector, squeezed.Detector)
    score = detector.rejection_score(images())
    golden.assert_close(score, golden.tensor("squeezing/joint/score"), 1e-9)
    assert torch.equal(detector(images()), network()(images()))


def test_a_gradient_goes_straight_through_the_bit_depth() -> None:
    model = squeezed.build(
        [network()], squeezed.Knobs(**KNOBS | {"median": None}), image=IMAGE, seed=0
    )

    def loss(points: Tensor) -> Tensor:
        return F.cross_entropy(model(points), golden.labels(), reduction="none")

    golden.assert_close(loss(images()), golden.tensor("bpda/loss"), 1e-9)
    golden.assert_close(input_gradient(loss, images()), golden.tensor("bpda/gradient"), 1e-9)


def test_the_adaptive_penalty_of_he_et_al_and_its_gradient() -> None:
    """Through the median to the chosen pixel, through the bit depth as through the identity."""
    both = squeezed.make_squeezers(squeezed.Knobs(**KNOBS), IMAGE)
    threshold = golden.number("squeezing/attack/threshold")
    confidence = golden.number("squeezing/attack/confidence")

    def target(points: Tensor) -> Tensor:
        return (margin(network()(points), golden.labels()) + confidence).clamp_min(0)

    def detector(points: Tensor) -> Tensor:
        return (squeezed.distances(network(), points, both) - threshold).clamp_min(0).sum(0)

    x = images()
    golden.assert_close(target(x), golden.tensor("squeezing/attack/target_penalty"), 1e-9)
    golden.assert_close(detector(x), golden.tensor("squeezing/attack/detector_penalty"), 1e-9)
    gradient = input_gradient(lambda points: target(points) + detector(points), x)
    golden.assert_close(gradient, golden.tensor("squeezing/attack/gradient"), 1e-9)


def test_a_folded_twin_squeezes_alike() -> None:
    points, _ = tiny.batch(6)
    knobs = squeezed.Knobs(**KNOBS)
    model = squeezed.build([tiny.calm(tiny.network())], knobs, image=IMAGE, seed=0).eval()
    twin = attacked_twin(model, points)
    assert twin is not model
    torch.testing.assert_close(twin(points), model(points))
    assert input_gradient(lambda x: twin(x).amax(1), points).abs().sum() > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bits": None, "median": None}, "bits, median and means are null"),
        ({"median": 18}, "classifier.median: is 18; the image has 8 pixels"),
        ({"means": 2.0, "search": 15}, "classifier.search: is 15 with blocks of 3"),
    ],
)
def test_squeezers_that_do_not_fit_the_image_are_refused(changes: object, complaint: str) -> None:
    with pytest.raises(BadParams, match=complaint):
        squeezed.make_squeezers(squeezed.Knobs(**KNOBS | changes), IMAGE)  # type: ignore[operator]
