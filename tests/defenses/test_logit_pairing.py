"""Adversarial and clean logit pairing, and logit squeezing, against golden numbers."""

import pytest
import torch

from tests import golden, tiny
from tradeoff.defenses import alp, clp


def test_alp_pairs_the_logits_of_an_image_and_its_adversarial_example() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    step = golden.step(tiny.calm(model))
    adversarial = alp.adversarial_examples(images, labels, step, "label")
    golden.assert_images_close(adversarial, "alp/x_adv")
    golden.assert_close(model(images).detach(), golden.tensor("alp/clean_logits"))
    golden.assert_close(model(adversarial).detach(), golden.tensor("alp/adversarial_logits"))
    knobs = alp.Knobs(weight=golden.number("alp/weight"), attack="label")
    loss = alp.training_loss(model, images, labels, step, knobs)
    for name in ("cross_entropy", "pairing"):
        golden.assert_close(loss.parts[name], golden.tensor(f"alp/{name}"))
    golden.assert_loss_and_gradients("alp", model, loss.total)


def test_alp_of_one_forward_is_the_authors_form() -> None:
    model, images = golden.network().double(), golden.images().double()
    both = model(torch.cat([images, golden.tensor("alp/x_adv").double()]))
    clean, adversarial = both.chunk(2)
    golden.assert_close(clean.detach(), golden.tensor("alp/joint/clean_logits"))
    golden.assert_close(adversarial.detach(), golden.tensor("alp/joint/adversarial_logits"))
    weight = golden.number("alp/weight")
    loss, parts = alp.objective(clean, adversarial, golden.labels(), weight)
    for name in ("cross_entropy", "pairing"):
        golden.assert_close(parts[name], golden.tensor(f"alp/joint/{name}"))
    golden.assert_loss_and_gradients("alp/joint", model, loss)


@pytest.mark.parametrize("attack", ["least_likely", "predicted"])
def test_alp_attacks_without_the_label(attack: str) -> None:
    model, images = golden.network().double(), golden.images().double()
    step = golden.step(tiny.calm(model))
    logits = step.eval_logits(images)
    if attack == "predicted":
        assert torch.equal(logits.argmax(1), golden.tensor("alp/predicted/label"))
    else:
        assert torch.equal(logits.argmin(1), golden.tensor("alp/least_likely/target"))
    wrong = (golden.labels() + 1) % 10  # what it is told makes no difference
    adversarial = alp.adversarial_examples(images, wrong, step, attack)
    golden.assert_images_close(adversarial, f"alp/{attack}/x_adv")


def test_clp_pairs_the_logits_of_two_noisy_images() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    sigma = golden.number("clp/sigma")
    noisy = (images + sigma * golden.tensor("noise").double()).clamp(0, 1)
    golden.assert_images_close(noisy, "clp/x_noisy")
    golden.assert_close(model(noisy).detach(), golden.tensor("clp/logits"))
    knobs = clp.Knobs(sigma=sigma, weight=golden.number("clp/weight"), squeezing=0.0)
    step = golden.step(tiny.calm(model))
    loss = clp.training_loss(model, images, labels, step, knobs)
    for name in ("cross_entropy", "pairing"):
        golden.assert_close(loss.parts[name], golden.tensor(f"clp/{name}"))
    golden.assert_loss_and_gradients("clp", model, loss.total)


def test_logit_squeezing_is_clp_with_the_length_of_the_logits_in_place_of_pairs() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    knobs = clp.Knobs(
        sigma=golden.number("clp/sigma"), weight=0.0, squeezing=golden.number("lsq/weight")
    )
    step = golden.step(tiny.calm(model))
    loss = clp.training_loss(model, images, labels, step, knobs)
    golden.assert_close(loss.parts["length"], golden.tensor("lsq/squeezing"))
    golden.assert_loss_and_gradients("lsq", model, loss.total)


def test_the_image_in_the_middle_of_an_odd_batch_has_no_pair() -> None:
    logits, labels = torch.tensor([[1.0, 0.0], [9.0, 9.0], [0.0, 3.0]]), torch.tensor([0, 1, 1])
    loss, parts = clp.objective(logits, labels, weight=2.0, squeezing=0.0)
    assert parts["pairing"].item() == (1.0 + 9.0) / 2
    torch.testing.assert_close(loss, parts["cross_entropy"] + 2 * parts["pairing"])
