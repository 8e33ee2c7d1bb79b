"""Training on one step, from the image and from a random start, against golden numbers."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from tests import golden, tiny
from tradeoff.defenses import fast, fgsm
from tradeoff.networks.ascent import ascend_cross_entropy, input_gradient
from tradeoff.networks.threat import Threat, perturbation_norm, project

RELATIVE = golden.number("rsfgsm/alpha") / golden.number("eps")


def test_fgsm_trains_on_the_image_and_on_one_step_from_it() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    frozen = tiny.calm(model)
    gradient = input_gradient(
        lambda points: F.cross_entropy(frozen(points), labels, reduction="none"), images
    )
    assert torch.equal(gradient.sign().to(torch.int8), golden.tensor("fgsm/input_gradient_sign"))
    step = golden.step(frozen)
    golden.assert_images_close(fgsm.adversarial_examples(images, labels, step), "fgsm/x_adv")
    knobs = fgsm.Knobs(weight=golden.number("fgsm/weight"))
    loss = fgsm.training_loss(model, images, labels, step, knobs)
    golden.assert_close(loss.parts["clean"], golden.tensor("fgsm/clean_loss"))
    golden.assert_close(loss.parts["adversarial"], golden.tensor("fgsm/adversarial_loss"))
    golden.assert_loss_and_gradients("fgsm", model, loss.total)


def test_fast_trains_on_one_long_step_from_a_random_start() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    step = golden.step(tiny.calm(model))
    adversarial = fast.adversarial_examples(images, labels, step, RELATIVE)
    golden.assert_images_close(adversarial, "rsfgsm/x_adv")
    knobs = fast.Knobs(relative_step_size=RELATIVE)
    loss = fast.training_loss(model, images, labels, step, knobs)
    golden.assert_loss_and_gradients("rsfgsm", model, loss.total)


def test_the_published_forms_that_were_not_chosen_differ_in_start_and_mode_alone() -> None:
    """The start of the authors' MNIST script is not clipped; all theirs attack in train mode."""
    images, labels = golden.images().double(), golden.labels()
    one_step = replace(golden.inner_attack(), steps=1, step_size=golden.number("rsfgsm/alpha"))
    noise = golden.number("eps") * golden.tensor("uniform").double()
    clipped = (images + noise).clamp(0, 1)
    for name, start, training in (
        ("unclipped_start", images + noise, False),
        ("batch_mode", clipped, True),
    ):
        model = golden.network().double()
        attacked = golden.network().double().train(training)
        adversarial = ascend_cross_entropy(attacked, images, labels, start, one_step)
        golden.assert_images_close(adversarial, f"rsfgsm/{name}/x_adv")
        loss = F.cross_entropy(model(adversarial), labels)
        golden.assert_loss_and_gradients(f"rsfgsm/{name}", model, loss)


def test_each_image_may_have_its_own_radius() -> None:
    model, images, labels = golden.network(), golden.images(), golden.labels()
    radii = torch.linspace(0.01, 0.2, len(images))
    step = golden.step(tiny.calm(model))
    step = replace(step, inner=replace(step.inner, threat=Threat("linf", 0.2, radii)))
    for adversarial in (
        fgsm.adversarial_examples(images, labels, step),
        fast.adversarial_examples(images, labels, step, RELATIVE),
    ):
        torch.testing.assert_close(project(adversarial, images, step.inner.threat), adversarial)
        reached = perturbation_norm(adversarial - images, "linf")
        torch.testing.assert_close(reached, radii)
