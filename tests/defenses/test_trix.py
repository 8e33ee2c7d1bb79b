"""TRIX: class weights, the mixed attack, and what the warm-up keeps."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests import golden, tiny
from tradeoff.defenses import trix
from tradeoff.networks.randomness import generator

KNOBS = trix.Knobs(beta=golden.number("trix/beta"), exchange=1.0, warmup=0.5)


def step(memory: dict[str, Tensor], epoch: int, epochs: int = 4) -> golden.GoldenStep:
    frozen = tiny.calm(golden.network("sharp").double())
    inner = golden.inner_attack()
    return golden.GoldenStep(
        frozen, inner, torch.Generator(), epoch, epochs, 0.0, frozen, memory=memory
    )


def test_class_weights_of_an_epoch_equal_those_of_the_authors() -> None:
    probabilities, labels = (golden.tensor(f"trix/epoch/{k}") for k in ("probability", "label"))
    found = trix.similarity(*trix.class_sums(probabilities, labels))
    golden.assert_close(found, golden.tensor("trix/epoch/similarity"))
    weights = trix.class_weights(found, golden.number("trix/epoch/lambda"))
    golden.assert_close(weights, golden.tensor("trix/epoch/weight"))
    assert weights.sum().item() == pytest.approx(len(weights))


def test_the_weights_of_a_batch_choose_what_is_targeted() -> None:
    labels = golden.labels()
    probabilities = step({}, 0).frozen(golden.images().double()).softmax(1)
    found = trix.class_weights(trix.similarity(*trix.class_sums(probabilities, labels)), 1.0)
    golden.assert_close(found, golden.tensor("trix/batch_weight"))
    targeted = found[labels] < found[labels].mean()
    assert torch.equal(targeted, golden.tensor("trix/targeted"))
    targets = torch.where(targeted, golden.tensor("trix/random_target"), labels)
    assert torch.equal(targets, golden.tensor("trix/target"))


@pytest.mark.parametrize(("name", "epoch"), [("trix/warmup", 1), ("trix", 2)])
def test_loss_and_gradients_equal_those_of_the_authors(
    name: str, epoch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last epoch of the warm-up, in which all weights are 1, and after it."""
    given = golden.tensor("trix/random_target")
    monkeypatch.setattr(trix, "other_classes", lambda *_: given)
    seen: list[Tensor] = []

    def noted(*arguments: Any) -> Tensor:
        seen.append(adversarial_examples(*arguments))
        return seen[-1]

    adversarial_examples = trix.adversarial_examples
    monkeypatch.setattr(trix, "adversarial_examples", noted)
    kept = trix.class_sums(*(golden.tensor(f"trix/epoch/{k}") for k in ("probability", "label")))
    memory = dict(zip(("sums", "counts"), kept, strict=True))
    model, images, labels = golden.network("sharp").double(), golden.images(), golden.labels()
    loss = trix.training_loss(model, images.double(), labels, step(memory, epoch), KNOBS)
    torch.testing.assert_close(seen[0], golden.tensor(f"{name}/x_adv"), atol=1e-6, rtol=0)
    for part in ("cross_entropy", "divergence"):
        golden.assert_close(loss.parts[part], golden.tensor(f"{name}/{part}"))
    assert torch.equal(loss.samples["targeted"].bool(), golden.tensor("trix/targeted"))
    if name == "trix":
        golden.assert_close(loss.classes["weight"], golden.tensor("trix/class_weight"))
    golden.assert_loss_and_gradients(name, model, loss.total)


def test_only_the_last_epoch_of_the_warm_up_is_kept() -> None:
    memory: dict[str, Tensor] = {}
    model, images = golden.network("sharp").double(), golden.images().double()
    for epoch, counted in ((0, None), (1, 16), (1, 32), (2, 32), (3, 32)):
        trix.training_loss(model, images, golden.labels(), step(memory, epoch), KNOBS)
        assert ("counts" in memory) == (counted is not None)
        assert counted is None or memory["counts"].sum() == counted
    assert not trix.present_weights(step(memory, 1), KNOBS, torch.ones(1, 10)).ne(1).any()
    after = trix.present_weights(step(memory, 2), KNOBS, torch.ones(1, 10))
    assert torch.equal(after != 1, memory["counts"] > 0)


def test_a_target_is_any_class_but_the_own_one() -> None:
    labels = torch.arange(4000) % 4
    given = tiny.step(tiny.network())
    object.__setattr__(given, "generator", generator("targets"))
    targets = trix.other_classes(labels, 4, given)
    assert (targets != labels).all()
    counts = torch.bincount(4 * labels + targets, minlength=16)
    assert counts[counts > 0].numel() == 12 and counts[counts > 0].min() > 270


def test_equal_classes_and_absent_ones_keep_their_weight() -> None:
    absent = torch.tensor([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.0, 0.0, 0.0]])
    weights = trix.class_weights(absent, 1.0)
    # Class 1 is the weaker of the first two: it gains S_10 S_00 = 0.27, which class 0 loses.
    torch.testing.assert_close(weights, torch.tensor([0.73, 1.27, 1.0]))
