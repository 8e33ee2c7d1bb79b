"""What all attacks share: the best candidate of each sample, and the checks of their inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tradeoff.attacks.outcome import Best, check_inputs, improvements, is_fooled, verdict
from tradeoff.networks.device import DEVICE_FAULTS
from tradeoff.networks.losses import ROUNDING


def images_of(values: list[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def logits_of(margins: list[float]) -> Tensor:
    """Of two classes, with these margins for class 0."""
    return torch.tensor([[margin, 0.0] for margin in margins])


def test_the_best_is_fooled_before_not_fooled_and_then_of_lowest_margin() -> None:
    best = Best(images_of([0.0, 0.0, 0.0]))
    labels = torch.zeros(3, dtype=torch.long)
    assert torch.equal(best.images, torch.zeros(3, 1, 1, 1))
    best.update(images_of([0.1] * 3), logits_of([2.0, 2.0, -1.0]), labels)
    best.update(images_of([0.2] * 3), logits_of([3.0, 1.0, 0.5]), labels)
    best.update(images_of([0.3] * 3), logits_of([2.5, -0.1, -0.5]), labels)
    best.update(images_of([0.4] * 3), logits_of([1.9, 0.2, -2.0]), labels)
    torch.testing.assert_close(best.images.flatten(), torch.tensor([0.4, 0.3, 0.4]))
    torch.testing.assert_close(best.margin, torch.tensor([1.9, -0.1, -2.0]))
    assert best.fooled.tolist() == [False, True, True]


def test_only_the_samples_named_are_updated() -> None:
    best = Best(images_of([0.0, 0.0, 0.0]))
    at = torch.tensor([2, 0])
    best.update(images_of([0.5, 0.7]), logits_of([-1.0, 1.0]), torch.tensor([0, 0]), at=at)
    torch.testing.assert_close(best.images.flatten(), torch.tensor([0.7, 0.0, 0.5]))
    assert best.fooled.tolist() == [False, False, True]


def test_a_tie_between_classes_is_judged_by_the_prediction() -> None:
    """The first of equal logits is predicted: margin 0 may fool or not, never beyond rounding."""
    best, label = Best(images_of([0.0])), torch.tensor([1])
    for image, logits, kept in (
        (0.1, [0.0, 1.0, 1.0], 0.1), (0.2, [1.0, 1.0, 0.0], 0.2), (0.3, [0.0, 1.0, 1.0], 0.2)
    ):  # fmt: skip
        best.update(images_of([image]), torch.tensor([logits]), label)
        assert best.images.item() == pytest.approx(kept)
        assert not best.fooled.item()


def test_what_fools_by_rounding_alone_is_kept_until_something_better_comes() -> None:
    """Another batch, or the network that a twin was folded from, may see it otherwise."""
    best, label = Best(images_of([0.0])), torch.tensor([0])
    barely = torch.tensor([[10.0, 10.0 * (1 + ROUNDING / 2), 0.0]])
    for image, logits, kept, fooled in (
        (0.1, barely, 0.1, False),
        (0.2, logits_of([0.1]), 0.1, False),
        (0.3, torch.tensor([[1.0, 1.001]]), 0.3, True),
        (0.4, barely, 0.3, True),
    ):
        best.update(images_of([image]), logits, label)
        assert best.images.item() == pytest.approx(kept)
        assert best.fooled.item() is fooled
    said = verdict(barely, label)
    assert said.fooled.item() and not said.beyond_rounding.item() and said.margin.item() < 0


def test_one_candidate_of_each_sample_improves_the_first_of_equal_ones() -> None:
    rows = torch.tensor([2, 0, 2, 2, 1, 0])
    values = torch.tensor([3.0, 5.0, 1.0, 1.0, 2.0, 4.0])
    taken, best = improvements(rows, values, torch.tensor([torch.inf, 2.0, 3.5, 0.0]))
    assert sorted(taken.tolist()) == [2, 5]
    assert best.tolist() == [4.0, 2.0, 1.0, 0.0]
    none, same = improvements(rows[:0], values[:0], best)
    assert len(none) == 0 and torch.equal(same, best)


def test_the_images_given_are_not_changed() -> None:
    images = images_of([0.0])
    Best(images).update(images_of([1.0]), logits_of([-1.0]), torch.tensor([0]))
    assert images.item() == 0.0


def test_fooled_means_another_prediction_and_nan_is_refused() -> None:
    logits = torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    assert is_fooled(logits, torch.tensor([0, 0])).tolist() == [True, False]
    logits[1, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        is_fooled(logits, torch.tensor([0, 0]))


class Returns(nn.Module):
    """A model with this output for any images."""

    def __init__(self, output: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        return self.output(images)


def ordinary() -> tuple[nn.Module, Tensor, Tensor]:
    images, labels = tiny.batch(4)
    return tiny.calm(tiny.network()), images, labels


def test_ordinary_inputs_are_accepted_without_side_effects() -> None:
    model, images, labels = ordinary()
    before = images.clone()
    check_inputs(model, images, labels)
    check_inputs(model, torch.tensor([0.0, 1.0]).repeat(4, 32).view(4, 1, 8, 8), labels)
    assert torch.equal(images, before) and not images.requires_grad


WRONG: dict[
    str, tuple[Callable[[nn.Module, Tensor, Tensor], tuple[nn.Module, Tensor, Tensor]], str]
]
WRONG = {
    "train mode": (lambda m, x, y: (m.train(), x, y), r"train mode; call model\.eval\(\)"),
    "three axes": (lambda m, x, y: (m, x[:, 0], y), r"of shape \(4, 8, 8\); a float tensor"),
    "no image": (lambda m, x, y: (m, x[:0], y[:0]), r"of shape \(0, 1, 8, 8\).* N >= 1"),
    "integers": (lambda m, x, y: (m, (x * 255).to(torch.uint8), y), r"images are torch\.uint8"),
    "above 1": (lambda m, x, y: (m, x + 1e-3 + (x == x.max()), y), r"outside \[0, 1\]"),
    "below 0": (lambda m, x, y: (m, x - 1, y), r"outside \[0, 1\]"),
    "a NaN": (lambda m, x, y: (m, x.where(x > x.min(), torch.nan), y), r"NaN or outside"),
    "too few labels": (lambda m, x, y: (m, x, y[:3]), r"of shape \(3,\); int64 of shape \(4,\)"),
    "one-hot labels": (lambda m, x, y: (m, x, torch.eye(4)), r"of shape \(4, 4\); int64"),
    "real labels": (lambda m, x, y: (m, x, y.float()), r"labels are torch\.float32"),
    "int32 labels": (lambda m, x, y: (m, x, y.int()), r"labels are torch\.int32"),
    "label too large": (
        lambda m, x, y: (m, x, y + 1),
        r"span 1\.\.4; the model has classes 0\.\.3",
    ),
    "negative label": (lambda m, x, y: (m, x, y - 1), r"span -1\.\.2; the model has classes"),
    "other images": (
        lambda m, x, y: (m, x.repeat(1, 3, 1, 1), y),
        r"does not take images of shape \(3, 8, 8\)",
    ),
    "no logits": (lambda m, x, y: (Returns(lambda z: z).eval(), x, y), r"returns \(1, 1, 8, 8\)"),
    "one class": (
        lambda m, x, y: (Returns(lambda z: z.flatten(1)[:, :1]).eval(), x, y),
        r"returns \(1, 1\); logits \(N, classes\) are needed",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_refused_with_what_they_are(case: str) -> None:
    spoil, says = WRONG[case]
    with pytest.raises(ValueError, match=says):
        check_inputs(*spoil(*ordinary()))


@pytest.mark.parametrize("fault", DEVICE_FAULTS)
def test_a_fault_of_the_device_is_not_taken_for_one_of_the_images(fault: type[Exception]) -> None:
    def fail(images: Tensor) -> Tensor:
        raise fault("CUDA")

    _, images, labels = ordinary()
    with pytest.raises(fault):
        check_inputs(Returns(fail).eval(), images, labels)
