"""Bounds of the dual network: published numbers, a second formulation, and soundness."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tests.certificates.networks import KINDS, network
from tradeoff.archs import densenet121
from tradeoff.certificates import interval, outer_polytope
from tradeoff.certificates.bounds.crown import Crown, Lines
from tradeoff.certificates.bounds.exact import exact
from tradeoff.certificates.bounds.graph import Graph, NoBounds, read
from tradeoff.certificates.bounds.interval import from_intervals, intervals
from tradeoff.certificates.bounds.objective import is_certified, ramped, worst_logits
from tradeoff.certificates.bounds.projected import projected
from tradeoff.certificates.bounds.relaxation import Ball, Polytope, ball
from tradeoff.networks import device
from tradeoff.networks.cpu_kernels import ImagesInnermostNorm
from tradeoff.networks.folding import fold
from tradeoff.networks.layouts import place
from tradeoff.networks.preprocess import Preprocess
from tradeoff.networks.threat import Threat, project, random_start

SETS = ("linf", "linf_box", "l2")
CASES = [(tag, kind) for tag in KINDS for kind in SETS]


def around(graph: Graph, images: Tensor, kind: str, epsilon: float | Tensor) -> Ball:
    norm = "l2" if kind == "l2" else "linf"
    return ball(images, epsilon, norm, clipped=kind.startswith("linf_box"), graph=graph)


def case(tag: str, kind: str) -> tuple[nn.Module, Tensor, Tensor, Graph, Ball]:
    model, images = network(tag), golden.tensor(f"certified/{tag}/x")
    graph = read(model, images)
    radius = golden.number(f"certified/{tag}/{kind}/eps")
    return (
        model, images, golden.tensor(f"certified/{tag}/y"), graph,
        around(graph, images, kind, radius),
    )  # fmt: skip


@pytest.mark.parametrize(("tag", "kind"), CASES)
def test_exact_bounds_are_the_published_ones(tag: str, kind: str) -> None:
    def published(name: str) -> Tensor:
        return golden.tensor(f"certified/{tag}/{kind}/{name}")

    model, images, labels, graph, allowed = case(tag, kind)
    golden.assert_close(graph.logits(images), golden.tensor(f"certified/{tag}/logits"), 1e-12)
    polytope = exact(graph, allowed)
    for number, found in enumerate(polytope.relaxations.values(), 1):
        golden.assert_close(found.lower[:4].detach(), published(f"lower_{number}"), 1e-12)
        golden.assert_close(found.upper[:4].detach(), published(f"upper_{number}"), 1e-12)
        counted = found.unstable.flatten(1).sum(1)
        assert torch.equal(counted, published(f"unstable_{number}"))
    lowest, _ = polytope.extremes(golden.tensor(f"certified/{tag}/c"))
    golden.assert_close(lowest.detach(), published("dual_c"), 1e-12)
    worst = worst_logits(polytope, labels)
    golden.assert_close(worst.detach(), published("J"), 1e-12)
    assert torch.equal(is_certified(worst, labels), published("certified"))
    assert (worst.argmax(1) != labels).double().mean() == published("robust_error")
    each = F.cross_entropy(worst, labels, reduction="none")
    golden.assert_close(each.detach(), published("loss_each"), 1e-12)
    each.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        golden.assert_close(parameter.grad, published(f"grad/{name}"), 1e-10)
    prediction = golden.tensor(f"certified/{tag}/prediction")
    detected = worst_logits(polytope, prediction)
    golden.assert_close(detected.detach(), published("J_prediction"), 1e-12)
    assert torch.equal(is_certified(detected, prediction), published("certified_prediction"))


@pytest.mark.parametrize(("tag", "kind"), CASES)
def test_vectors_carried_forward_give_the_bounds_of_rows_carried_backward(
    tag: str, kind: str
) -> None:
    _, _, labels, graph, allowed = case(tag, kind)
    back, forth = exact(graph, allowed), projected(graph, allowed, None, None)
    for one, other in zip(back.relaxations.values(), forth.relaxations.values(), strict=True):
        torch.testing.assert_close(one.lower, other.lower, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(one.upper, other.upper, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        worst_logits(back, labels), worst_logits(forth, labels), rtol=1e-10, atol=1e-10
    )


def test_each_image_may_have_a_radius_of_its_own() -> None:
    _, images, labels, graph, _ = case("plain", "linf")
    allowed = around(graph, images, "linf", golden.tensor("certified/plain/linf_each/eps"))
    worst = worst_logits(exact(graph, allowed), labels).detach()
    golden.assert_close(worst, golden.tensor("certified/plain/linf_each/J"), 1e-12)


@pytest.mark.parametrize("kind", SETS)
def test_the_largest_certified_radii_are_the_published_ones(kind: str) -> None:
    """On both sides of the radius, by a relative 1e-8; a misclassified image's is that of its
    prediction."""
    _, images, _, graph, _ = case("plain", kind)
    prediction = golden.tensor("certified/plain/prediction")
    radius = golden.tensor(f"certified/plain/{kind}/radius")
    for factor, expected in ((1 - 1e-8, True), (1 + 1e-8, False)):
        polytope = exact(graph, around(graph, images, kind, factor * radius))
        held = is_certified(worst_logits(polytope, prediction), prediction)
        assert (held == expected).all()


@pytest.mark.parametrize("name", ["linf", "linf_box_centred", "l2"])
@pytest.mark.parametrize("count", [10, 50])
def test_projections_have_the_published_distribution(name: str, count: int) -> None:
    """Means of 200 draws within six standard errors of the mean of as many, at every unit."""
    graph = read(network("plain"), images := golden.tensor("certified/proj/x"))
    kind = name.removesuffix("_centred")
    radius = golden.number(f"certified/proj/exact/{kind}/eps")
    allowed, labels = around(graph, images, name, radius), golden.tensor("certified/proj/y")
    draws, found = torch.Generator().manual_seed(0), {}
    with torch.no_grad():
        for _ in range(200):
            polytope = projected(graph, allowed, count, draws)
            values = {"J": worst_logits(polytope, labels)}
            for number, bounds in enumerate(polytope.relaxations.values(), 1):
                values |= {f"lower_{number}": bounds.lower, f"upper_{number}": bounds.upper}
            for key, value in values.items():
                found.setdefault(key, []).append(value)
    for key, value in found.items():
        drawn, at = torch.stack(value), f"certified/proj/{name}/k{count}/{key}"
        mean, deviation = golden.tensor(f"{at}_mean"), golden.tensor(f"{at}_sd")
        error = (drawn.mean(0) - mean).abs()
        assert (error <= 6 * deviation * math.sqrt(2 / 200) + 1e-12).all(), key
        ratio = drawn.std(0)[deviation > 1e-12] / deviation[deviation > 1e-12]
        assert ((ratio > 1 / 3) & (ratio < 3)).all(), key
    widths = [
        torch.stack(found[f"upper_{number}"]) - torch.stack(found[f"lower_{number}"])
        for number in (1, 2, 3)
    ]
    negative = torch.stack([(width < 0).double().mean() for width in widths])
    published = golden.tensor(f"certified/proj/{name}/k{count}/negative_width_fraction")
    assert torch.equal(negative, published)


@pytest.mark.parametrize(("tag", "kind"), CASES)
def test_lines_of_one_slope_are_the_published_bounds(tag: str, kind: str) -> None:
    """CROWN's own pass back, with biases and the signs of its rows, is that of the polytope."""
    _, _, labels, graph, allowed = case(tag, kind)
    relaxed = exact(graph, allowed)
    lines = {p: Lines(r.slope, 2 * r.offset, r.slope) for p, r in relaxed.relaxations.items()}
    crown = Crown(graph, allowed, lines, relaxed.centre)
    published = golden.tensor(f"certified/{tag}/{kind}/J")
    golden.assert_close(worst_logits(crown, labels).detach(), published, 1e-12)
    lowest, _ = crown.extremes(golden.tensor(f"certified/{tag}/c"))
    golden.assert_close(lowest.detach(), golden.tensor(f"certified/{tag}/{kind}/dual_c"), 1e-12)


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(-2.0, 1.0, (0.0, 1.0)), (-1.0, 2.0, (-1.0, 2.0))]
)
def test_below_a_relu_is_the_line_that_leaves_less(
    low: float, high: float, expected: tuple[float, float]
) -> None:
    """0 where most of the input is negative, else the input itself: relu(x) within `expected`."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)).double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0 if parameter.dim() == 2 else 0.0)
    centre = torch.tensor([[(low + high) / 2]]).double()
    graph = read(model, centre)
    boxes = intervals(graph, Ball(centre, torch.full_like(centre, (high - low) / 2), "linf"))
    found = from_intervals(boxes).extremes(torch.ones(1, 1, 1).double())
    assert [float(bound) for bound in found] == pytest.approx(expected)


@pytest.mark.parametrize("kind", SETS)
def test_the_limit_of_projections_is_the_published_one(kind: str) -> None:
    graph = read(network("plain"), images := golden.tensor("certified/proj/x"))
    at, labels = f"certified/proj/exact/{kind}", golden.tensor("certified/proj/y")
    polytope = exact(graph, around(graph, images, kind, golden.number(f"{at}/eps")))
    for number, found in enumerate(polytope.relaxations.values(), 1):
        golden.assert_close(found.lower[:4].detach(), golden.tensor(f"{at}/lower_{number}"), 1e-12)
        golden.assert_close(found.upper[:4].detach(), golden.tensor(f"{at}/upper_{number}"), 1e-12)
    worst = worst_logits(polytope, labels).detach()
    golden.assert_close(worst, golden.tensor(f"{at}/J"), 1e-12)


@pytest.mark.parametrize("count", [10, 50])
def test_around_its_middle_a_cut_ball_is_estimated_better_than_by_its_two_ends(count: int) -> None:
    """The published code takes a median at each end of the box, which may cross; ours cannot."""
    graph = read(network("plain"), images := golden.tensor("certified/proj/x"))
    at = f"certified/proj/linf_box/k{count}"
    allowed = around(graph, images, "linf_box", golden.number("certified/proj/exact/linf_box/eps"))
    draws, lower = torch.Generator().manual_seed(0), []
    with torch.no_grad():
        for _ in range(50):
            (first, *_) = projected(graph, allowed, count, draws).relaxations.values()
            assert (first.lower <= first.upper).all()
            lower.append(first.lower)
    assert torch.stack(lower).std(0).mean() < 0.97 * golden.tensor(f"{at}/lower_1_sd").mean()
    assert count == 50 or golden.tensor(f"{at}/negative_width_fraction")[0] > 0


def attacked(model: nn.Module, images: Tensor, threat: Threat, goal: int) -> Tensor:
    """Points at which the logit `goal` is as large, and the first one as small, as PGD finds."""
    point = images.clone()
    for _ in range(20):
        point.requires_grad_()
        logits = model(point)
        (slope,) = torch.autograd.grad((logits[:, goal] - logits[:, 0]).sum(), point)
        length = slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
        step = slope.sign() if threat.norm == "linf" else slope / length
        point = project((point + threat.epsilon / 4 * step).detach(), images, threat)
    return point


@pytest.mark.parametrize(("tag", "kind"), [case for case in CASES if case[1] != "linf"])
def test_no_point_of_the_ball_is_outside_of_any_bound(tag: str, kind: str) -> None:
    """10 000 random points and PGD's towards each class, under exact and interval bounds."""
    model, images, _, graph, allowed = case(tag, kind)
    threat = Threat("l2" if kind == "l2" else "linf", golden.number(f"certified/{tag}/{kind}/eps"))
    draws, label = torch.Generator().manual_seed(0), torch.zeros(16, dtype=torch.long)
    points = []
    for _ in range(625):
        noise = torch.empty_like(images)
        noise = (
            noise.normal_(generator=draws)
            if kind == "l2"
            else noise.uniform_(-1, 1, generator=draws)
        )
        points.append(random_start(images, noise, torch.rand(16, generator=draws), threat))
    points += [attacked(model, images, threat, goal) for goal in range(1, 10)]
    with torch.no_grad():
        boxes = intervals(graph, allowed)
        tight = [exact(graph, allowed), boxes, from_intervals(boxes)]
        logits = model(torch.cat(points)).unflatten(0, (len(points), 16))
        reached = (logits - logits[:, :, :1]).amax(0)
        for bounded in tight:
            assert (reached <= worst_logits(bounded, label) + 1e-12).all()


@pytest.mark.parametrize("kind", ["linf_box", "l2"])
def test_no_attack_within_epsilon_passes_the_detector(kind: str) -> None:
    """What PGD makes of an image, if the prediction changes, is never certified (corollary 2)."""
    model, images, _, graph, _ = case("plain", kind)
    prediction, epsilon = model(images).argmax(1), golden.number(f"certified/plain/{kind}/eps")
    threat, changed = Threat("l2" if kind == "l2" else "linf", epsilon), 0
    for goal in range(1, 10):
        moved = attacked(model, images, threat, goal)
        said = model(moved).argmax(1)
        passes = is_certified(
            worst_logits(exact(graph, around(graph, moved, kind, epsilon)), said), said
        )
        assert not passes[said != prediction].any()
        changed += int((said != prediction).sum())
    assert changed > 10


def test_certificates_give_the_largest_fraction_that_is_proved_whatever_the_batch() -> None:
    model, images = network("plain").float(), golden.tensor("certified/plain/x").float()
    threat, keys = Threat("linf", 0.06), torch.arange(16)
    knobs = {"fractions": [1.0, 0.25, 0.5]}
    exact_one, cheap = (
        [
            module.certify(
                model, images, threat, keys=keys, batch_size=size, knobs=module.Knobs(**knobs)
            )
            for size in (16, 5)
        ]
        for module in (outer_polytope, interval)
    )
    for whole, parts in (exact_one, cheap):
        assert torch.equal(whole.radius, parts.radius)
        assert torch.equal(whole.prediction, golden.tensor("certified/plain/prediction"))
    radius = golden.tensor("certified/plain/linf_box/radius")
    for fraction in knobs["fractions"]:
        proved = exact_one[0].radius >= fraction * 0.06
        assert torch.equal(proved, radius >= fraction * 0.06)
    assert (cheap[0].radius <= exact_one[0].radius).all() and (cheap[0].radius > 0).any()


def test_bounds_at_a_single_point_are_the_network_and_the_box_only_tightens() -> None:
    _, images, labels, graph, whole = case("skip", "linf")
    points = exact(graph, around(graph, images, "linf", 0.0))
    logits = graph.logits(images)
    expected = logits - logits.gather(1, labels[:, None])
    torch.testing.assert_close(worst_logits(points, labels), expected)
    clipped = case("skip", "linf_box")[4]
    loose, tight = (worst_logits(exact(graph, each), labels) for each in (whole, clipped))
    assert (tight <= loose + 1e-12).all() and (tight < loose - 1e-3).any()


def test_batch_norm_is_the_convolution_with_it_folded_in() -> None:
    model, images, labels, graph, allowed = case("bn", "linf_box")
    folded = read(fold(model), images)
    one = worst_logits(exact(graph, allowed), labels)
    other = worst_logits(exact(folded, allowed), labels)
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_the_layers_of_portable_arithmetic_have_bounds_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are others of torch's kinds, which look at what they are given."""
    model, images, labels, _, allowed = case("bn", "linf_box")
    expected = worst_logits(exact(read(model, images), allowed), labels)
    monkeypatch.setattr(device._State, "portable", True)
    model = place(copy.deepcopy(model), torch.device("cpu"))
    assert any(type(layer) is ImagesInnermostNorm for layer in model.modules())
    found = worst_logits(exact(read(model, images), allowed), labels)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_preprocessing_and_padding_are_part_of_the_network(norm: str) -> None:
    """The bounds of images of 20x20 padded to 32x32 are those with padding written as a layer."""
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(3, 1, 20, 20, generator=draws).double()
    body = nn.Sequential(
        nn.Conv2d(1, 2, 4, 4), nn.ReLU(), nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in body.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) / 4)
    model = nn.Sequential(Preprocess([0.5], [0.25]), body).double()
    graph = read(model, images)
    allowed = ball(images, 0.1, norm, clipped=True, graph=graph)  # type: ignore[arg-type]
    worst = worst_logits(exact(graph, allowed), torch.tensor([0, 1, 2]))
    padded = F.pad(images, (6, 6, 6, 6))
    inner = read(body.double(), padded)
    low, high = (images - 0.1, images + 0.1)
    if norm == "linf":
        low, high = low.clamp_min(0), high.clamp_max(1)
    radius = F.pad((high - low) / 2, (6, 6, 6, 6)) / 0.25
    middle = (F.pad((high + low) / 2, (6, 6, 6, 6)) - 0.5) / 0.25
    expected = worst_logits(exact(inner, Ball(middle, radius, norm)), torch.tensor([0, 1, 2]))  # type: ignore[arg-type]
    torch.testing.assert_close(worst, expected)


def test_patches_of_deep_convolutions_are_rows_of_the_whole_map() -> None:
    """Of any stride and padding, with two convolutions in a row, against vectors forward."""
    draws = torch.Generator().manual_seed(1)
    images = torch.rand(2, 2, 13, 13, generator=draws).double()
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, 1, 1), nn.Conv2d(3, 3, 2, 1, 1), nn.ReLU(), nn.Conv2d(3, 4, 4, 2, 2),
        nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, 2, 0), nn.ReLU(),
        nn.Conv2d(3, 3, 3, 1, 1, groups=3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 5),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) / 3)
    graph = read(model.double(), images)
    allowed = around(graph, images, "linf_box", 0.1)
    back, forth = exact(graph, allowed), projected(graph, allowed, None, None)
    for one, other in zip(back.relaxations.values(), forth.relaxations.values(), strict=True):
        torch.testing.assert_close(one.lower, other.lower, rtol=1e-10, atol=1e-10)
        assert one.unstable.any()


def test_float32_agrees_with_float64() -> None:
    def bounds(images: Tensor, model: nn.Module) -> Polytope:
        graph = read(model, images)
        return exact(graph, around(graph, images, "linf_box", 0.06))

    images, labels = golden.tensor("certified/plain/x"), golden.tensor("certified/plain/y")
    fine = worst_logits(bounds(images, network("plain")), labels)
    coarse = worst_logits(bounds(images.float(), network("plain").float()), labels)
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse.double(), fine, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 4)),
         "no bounds of max-pooling"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Sigmoid()), "layer 2 .Sigmoid"),
        (tiny.network(), "layer 1 .BatchNorm2d in train mode"),
        (nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 4)), "1 .Dropout in train mode"),
    ],
)  # fmt: skip
def test_a_layer_without_bounds_is_named(model: nn.Module, complaint: str) -> None:
    images, labels = tiny.batch(2)
    threat = Threat("linf", 0.1)
    with pytest.raises(NoBounds, match=complaint):
        outer_polytope.holds_on_validation(model, images, labels, threat, keys=labels, knobs=None)


def test_code_that_reads_otherwise_than_it_computes_is_refused() -> None:
    class Overwrites(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 4)
            nn.init.constant_(self.fc.weight, -1)

        def forward(self, images: Tensor) -> Tensor:
            hidden = self.fc(images.flatten(1))
            F.relu(hidden, inplace=True)
            return hidden  # type: ignore[no-any-return]

    with pytest.raises(NoBounds, match="computes other logits"):
        read(Overwrites(), tiny.batch(2)[0])


def test_an_operation_without_bounds_is_named() -> None:
    model = densenet121.build((1, 8, 8), 4, 0.125).eval()
    with pytest.raises(NoBounds, match="of the operation cat; they are of linear"):
        read(model, tiny.batch(1)[0])


def test_interval_bounds_hold_behind_max_pooling() -> None:
    draws = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
    )
    images = torch.rand(4, 1, 8, 8, generator=draws)
    graph = read(model, images)
    boxes = intervals(graph, around(graph, images, "linf_box", 0.05))
    worst = worst_logits(boxes, torch.zeros(4, dtype=torch.long))
    for _ in range(200):
        noise = torch.rand(images.shape, generator=draws) * 2 - 1
        logits = model((images + 0.05 * noise.sign()).clamp(0, 1))
        assert (logits - logits[:, :1] <= worst + 1e-5).all()


def test_the_radius_grows_in_a_straight_line_and_stays() -> None:
    found = [ramped(0.1, progress, 0.5, 0.4) for progress in (0.0, 0.2, 0.4, 0.9)]
    assert found == pytest.approx([0.05, 0.075, 0.1, 0.1])
    assert ramped(0.1, 0.0, 0.5, 0.0) == 0.1
