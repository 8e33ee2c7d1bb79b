"""The cascade against the published numbers, and its training images."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden
from tests.certificates.networks import network
from tradeoff.certificates import cascade
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import read
from tradeoff.certificates.bounds.objective import worst_logits
from tradeoff.certificates.bounds.relaxation import ball
from tradeoff.certificates.outer_polytope import holds
from tradeoff.classifiers.cascaded import Cascaded, Knobs, build
from tradeoff.core.schema import BadParams
from tradeoff.datasets.prepared import Subset
from tradeoff.defenses import second_stage
from tradeoff.networks.threat import Threat


def published(name: str) -> Tensor:
    return golden.tensor(f"certified/cascade/{name}")


@pytest.fixture
def stages() -> list[nn.Module]:
    return [network("plain", f"cascade/model{number}") for number in range(3)]


def made(networks: Sequence[nn.Module]) -> Cascaded:
    """The cascade without box: its images are inside [0, 1] by more than epsilon or clipped."""
    knobs = Knobs(norm="linf", epsilon=golden.number("certified/cascade/eps"))
    found = build(networks, knobs, image=(1, 8, 8), seed=0)
    assert isinstance(found, Cascaded)
    return found


@pytest.fixture(autouse=True)
def whole_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published numbers are of the ball that is not cut to [0, 1]."""

    def uncut(images: Tensor, epsilon: float, norm: str, *, clipped: bool, graph: object) -> object:
        return ball(images, epsilon, norm, clipped=False, graph=graph)  # type: ignore[arg-type]

    monkeypatch.setattr("tradeoff.certificates.bounds.certify.ball", uncut)


def test_stages_predictions_and_errors_are_the_published_ones(stages: list[nn.Module]) -> None:
    images, labels, whole = published("x"), published("y"), made(stages)
    for number, stage in enumerate(stages):
        prediction = stage(images).argmax(1)
        assert torch.equal(prediction, published("stage_prediction")[:, number])
        held = holds(stage, images, prediction, whole.threat)
        assert torch.equal(held, published("stage_certified")[:, number])
    assert torch.equal(whole.stage(images), published("stage"))
    assert torch.equal(whole(images).argmax(1), published("prediction"))
    for count, suffix in ((1, "_first1"), (2, "_first2"), (3, "")):
        part = made(stages[:count])
        found = cascade.certify(
            part, images, part.threat, keys=labels, batch_size=7, knobs=cascade.Knobs()
        )
        wrong = found.prediction != labels
        assert wrong.double().mean() == published(f"error{suffix}")
        robust_wrong = wrong | (found.radius < part.threat.epsilon)
        assert robust_wrong.double().mean() == published(f"robust_error{suffix}")
        if count == 3:
            assert torch.equal(robust_wrong, published("robust_wrong"))


def test_the_losses_are_those_of_the_deciding_stage(stages: list[nn.Module]) -> None:
    images, labels, whole = published("x"), published("y"), made(stages)
    golden.assert_close(F.cross_entropy(whole(images), labels), published("loss"), 1e-12)
    total = torch.zeros(())
    for number, stage in enumerate(stages):
        decides = whole.stage(images) % 3 == number
        graph = read(stage, images[decides])
        around = ball(images[decides], whole.threat.epsilon, "linf", clipped=False, graph=graph)
        worst = worst_logits(exact(graph, around), labels[decides])
        total = total + F.cross_entropy(worst, labels[decides], reduction="sum")
    golden.assert_close(total / len(images), published("robust_loss"), 1e-12)


def test_the_next_stage_learns_what_the_one_before_does_not_prove(
    stages: list[nn.Module],
) -> None:
    pixels = (255 * published("x")).round().byte()
    train, whole = Subset(pixels, published("y"), white=255), made(stages)
    knobs = second_stage.Knobs(start=1.0, ramp=0.0, projections=None, clipped=True)
    first = stages[0].float()
    left = second_stage.training_set(train, {"first": first}, whole.threat, knobs)
    proved = holds(first, train.images, first(train.images).argmax(1), whole.threat)
    assert torch.equal(left.pixels, pixels[~proved]) and torch.equal(
        left.labels, train.labels[~proved]
    )
    assert 0 < len(left) < len(train)
    with pytest.raises(second_stage.NothingLeft, match="all training images"):
        second_stage.training_set(train, {"first": first}, Threat("linf", 0.0), knobs)


def test_gradients_are_those_of_the_deciding_stage(stages: list[nn.Module]) -> None:
    whole, images = made(stages), published("x").requires_grad_()
    (gradient,) = torch.autograd.grad(whole(images)[:, 0].sum(), images)
    for number, stage in enumerate(stages):
        decides = whole.stage(images) % 3 == number
        (expected,) = torch.autograd.grad(stage(images)[decides, 0].sum(), images)
        torch.testing.assert_close(gradient[decides], expected[decides])


def test_a_cascade_for_another_threat_is_refused(stages: list[nn.Module]) -> None:
    with pytest.raises(BadParams, match=r"cascade.classifier: is linf, 0.11; .* is linf, 0.3"):
        cascade.certify(
            made(stages), published("x"), Threat("linf", 0.3), keys=published("y"),
            batch_size=7, knobs=cascade.Knobs(),
        )  # fmt: skip
