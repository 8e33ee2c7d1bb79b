"""Robust self-training: what is trained on, and the loss of both halves."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import golden, tiny
from tests.core.test_foundations import params
from tests.core.test_study import complaint
from tradeoff.defenses import labeller, rst, trades
from tradeoff.networks.losses import kl_divergence


@dataclass(frozen=True)
class TwoHalves(golden.GoldenStep):
    def gaussian_noise(self, images: Tensor) -> Tensor:
        return golden.tensor("rst/noise").to(images.dtype)


def batch() -> tuple[Tensor, Tensor]:
    """Labelled images and their labels, then others with the labeller's."""
    network = golden.network("sharp").double().eval()
    unlabelled = golden.tensor("rst/unlabeled").double()
    golden.assert_close(network(unlabelled).detach(), golden.tensor("rst/teacher_logits"))
    found = rst.pseudo_labels(network, unlabelled)
    assert torch.equal(found, golden.tensor("rst/pseudo_label"))
    images = torch.cat([golden.images().double(), unlabelled])
    return images, torch.cat([golden.labels(), found])


def test_loss_and_gradients_equal_those_of_the_authors() -> None:
    model, (images, labels) = golden.network().double(), batch()
    knobs = rst.Knobs(beta=golden.number("rst/beta"), labelled=0.5, unlabelled=1.0)
    frozen = tiny.calm(model)
    step = TwoHalves(frozen, golden.inner_attack(), torch.Generator(), 0, 1, 0.0, model)
    found = trades.adversarial_examples(images, step.eval_logits(images), step)
    torch.testing.assert_close(found, golden.tensor("rst/x_adv"), atol=1e-6, rtol=0)
    assert torch.equal(golden.tensor("rst/x_adv"), golden.tensor("rst/no_pseudo_labels/x_adv"))
    loss = rst.training_loss(model, images, labels, step, knobs)
    for part, value in loss.parts.items():
        golden.assert_close(value, golden.tensor(f"rst/{part}"))
    golden.assert_loss_and_gradients("rst", model, loss.total)


@pytest.mark.parametrize("variant", ["no_pseudo_labels", "stability"])
def test_the_variants_of_the_authors_are_of_the_same_parts(variant: str) -> None:
    """Without the labeller's labels, and with noise in place of an attack."""
    name, model, (images, labels) = f"rst/{variant}", golden.network().double(), batch()
    attacked = golden.tensor(f"{name}/x_adv")
    if variant == "stability":
        noise = golden.number(f"{name}/sigma") * golden.tensor("rst/noise").double()
        torch.testing.assert_close((images + noise).clamp(0, 1), attacked)
    clean, adversarial = model(images), model(attacked)
    known = 16 if variant == "no_pseudo_labels" else 32
    cross_entropy = F.cross_entropy(clean[:known], labels[:known])
    divergence = kl_divergence(clean.log_softmax(1), adversarial).mean()
    golden.assert_close(cross_entropy.detach(), golden.tensor(f"{name}/cross_entropy"))
    golden.assert_close(divergence.detach(), golden.tensor(f"{name}/divergence"))
    loss = cross_entropy + golden.number("rst/beta") * divergence
    golden.assert_loss_and_gradients(name, model, loss)


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "known", "hidden"),
    [(0.25, 1.0, 16, 48), (0.25, 0.5, 16, 24), (0.75, 1.0, 48, 16)],
)
def test_half_of_what_is_trained_on_has_labels_and_none_is_seen_that_is_hidden(
    labelled: float, unlabelled: float, known: int, hidden: int
) -> None:
    train, network = tiny.made_up().train, tiny.calm(tiny.network())
    knobs = rst.Knobs(beta=6.0, labelled=labelled, unlabelled=unlabelled)
    found = rst.training_set(train, {"labeller": network}, tiny.THREAT, knobs)
    half = max(known, hidden)
    assert len(found) == 2 * half
    given = network(train.images[known : known + hidden]).argmax(1)
    for part, pixels, labels in (
        (slice(None, half), train.pixels[:known], train.labels[:known]),
        (slice(half, None), train.pixels[known : known + hidden], given),
    ):
        places = torch.arange(half) % len(labels)
        assert torch.equal(found.pixels[part], pixels[places])
        assert torch.equal(found.labels[part], labels[places])
    few = labeller.training_set(train, {}, tiny.THREAT, labeller.Knobs(labelled=labelled))
    assert torch.equal(few.labels, train.labels[torch.arange(len(train)) % known])


def test_a_labeller_that_knows_what_is_hidden_is_refused(tmp_path: Path) -> None:
    given = params(["rst"], {"labeller": "labeller"}, alone=["labeller"], on_labeller=["rst"])
    given |= {
        "labeller": {"labelled": 0.2},
        "rst": {"beta": 6.0, "labelled": 0.1, "unlabelled": 1.0},
    }
    assert complaint(given, tmp_path) == "params.yaml: rst.labelled: is 0.1; labeller has 0.2"
