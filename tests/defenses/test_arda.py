"""Robustness by data augmentation against golden numbers of our own definition."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from tests import golden, tiny
from tradeoff.defenses import arda, at
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.threat import Threat, random_start
from tradeoff.training.contract import Step


@dataclass(frozen=True)
class Starts(Step):
    """A step whose random starts are the golden ones, one after the other."""

    noises: Iterator[Tensor] = field(default_factory=lambda: iter(golden.tensor("arda/uniform")))

    def random_start(self, images: Tensor) -> Tensor:
        noise = next(self.noises).to(images.dtype)
        return random_start(images, noise, torch.zeros(len(images)), self.inner.threat)


def starts(frozen: torch.nn.Module, steps: int) -> Starts:
    inner = InnerAttack(Threat("linf", golden.number("eps")), steps, golden.number("arda/step"))
    return Starts(frozen, inner, torch.Generator(), 0, 1, 0.0, frozen)


def test_each_copy_is_a_stronger_attack_from_its_own_start() -> None:
    model, images, labels = golden.network().double(), golden.images().double(), golden.labels()
    frozen, steps = tiny.calm(model), int(golden.number("arda/steps"))
    expected = golden.tensor("arda/x_adv")
    step = starts(frozen, steps)
    copies = [at.adversarial_examples(images, labels, step) for _ in expected]
    golden.assert_images_close(torch.stack(copies), "arda/x_adv")
    losses = torch.stack([F.cross_entropy(model(batch), labels) for batch in (images, *copies)])
    golden.assert_close(losses.detach(), golden.tensor("arda/losses"))
    knobs = arda.Knobs(copies=len(expected), strength=2)
    loss = arda.training_loss(model, images, labels, starts(frozen, steps // 2), knobs)
    golden.assert_close(loss.parts["clean"], losses[0].detach())
    golden.assert_close(loss.parts["adversarial"], losses[1:].detach().mean())
    golden.assert_loss_and_gradients("arda", model, loss.total)


def test_one_forward_of_all_is_the_mean_over_the_augmented_batch() -> None:
    model, images = golden.network().double(), golden.images().double()
    batch = torch.cat([images, *golden.tensor("arda/x_adv").double()])
    labels = golden.labels().repeat(len(batch) // len(images))
    loss = F.cross_entropy(model(batch), labels)
    golden.assert_loss_and_gradients("arda/joint", model, loss)
