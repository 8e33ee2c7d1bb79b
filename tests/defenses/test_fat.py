"""FAT: which point each image stops at, and what the loss is there."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.core.schema import BadParams
from tradeoff.defenses import fat, mart
from tradeoff.networks.threat import random_start

INPUTS = "digits/"
PUBLISHED = {  # when the allowance grows, and how many epochs
    "fat": ([0.417, 0.75], 120),
    "trades": ([0.353, 0.588, 0.824], 85),
    "mart": ([0.222, 0.444, 0.667, 0.889], 90),
}


def batch() -> tuple[Tensor, Tensor]:
    return golden.images(INPUTS).double(), golden.labels(INPUTS)


def start(variant: str) -> Tensor:
    images, _ = batch()
    if variant != "ce":
        return (images + 0.001 * golden.tensor("digits/noise").double()).clamp(0, 1)
    threat, uniform = golden.inner_attack(INPUTS).threat, golden.tensor("digits/uniform")
    return random_start(images, uniform.double(), torch.zeros(len(images)), threat)


def friendly(
    model: nn.Module, variant: str, tau: int, noise: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    frozen, (images, labels) = tiny.calm(model), batch()
    clean = frozen(images).log_softmax(1) if variant == "trades" else None
    inner = golden.inner_attack(INPUTS)
    return fat.friendly_examples(frozen, images, labels, start(variant), inner, tau, noise, clean)


def objective(model: nn.Module, variant: str, adversarial: Tensor) -> Tensor:
    images, labels = batch()
    if variant == "ce":
        return F.cross_entropy(model(adversarial), labels)
    clean, attacked = model(images), model(adversarial)
    beta = golden.number(f"digits/fat/beta_{variant}")
    if variant == "trades":
        return fat.trades.objective(clean, attacked, labels, beta)[0]
    return mart.objective(clean, attacked, labels, beta)[0]


def assert_examples(name: str, found: tuple[Tensor, Tensor]) -> None:
    expected = golden.tensor(f"{name}/x_adv").double()
    torch.testing.assert_close(found[0], expected, atol=2e-6, rtol=0)
    assert torch.equal(found[1], golden.tensor(f"{name}/steps"))


@pytest.mark.parametrize("tau", [0, 1, 2, 3, 10])
@pytest.mark.parametrize("variant", ["ce", "trades", "mart"])
def test_points_steps_and_losses_equal_those_of_the_authors(variant: str, tau: int) -> None:
    name = f"digits/fat/{variant}/tau{tau}"
    model = golden.network("digits/state").double()
    found = friendly(model, variant, tau)
    assert_examples(name, found)
    loss = objective(model, variant, found[0])
    golden.assert_close(loss.detach(), golden.tensor(f"{name}/loss"))
    if tau == 1:
        golden.assert_loss_and_gradients(name, model, loss)


@pytest.mark.parametrize("name", ["digits/fat/noisy", "digits/fat/relapse"])
def test_noise_is_part_of_the_step_and_an_allowance_is_not_renewed(name: str) -> None:
    model = golden.network("digits/state").double()
    noise = golden.number(f"{name}/omega") * golden.tensor("digits/fat/step_noise").double()
    found = friendly(model, "ce", 1, noise)
    assert_examples(name, found)
    golden.assert_close(objective(model, "ce", found[0]).detach(), golden.tensor(f"{name}/loss"))


@pytest.mark.parametrize("objective", ["at", "trades"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_the_whole_loss_with_the_epochs_allowance(objective: str, epoch: int) -> None:
    name = f"digits/fat/{'ce' if objective == 'at' else objective}/tau{epoch}"
    model, (images, labels) = golden.network("digits/state").double(), batch()
    knobs = fat.Knobs.model_validate(
        {"objective": objective, "beta": 6.0, "grows_at": [0.5], "noise": 0.0}
    )
    step = golden.GoldenStep(
        tiny.calm(model), golden.inner_attack(INPUTS), torch.Generator(), epoch, 2, 0.0, model,
        inputs=INPUTS,
    )  # fmt: skip
    loss = fat.training_loss(model, images, labels, step, knobs)
    golden.assert_close(loss.total.detach(), golden.tensor(f"{name}/loss"))
    assert torch.equal(loss.samples["steps"].long(), golden.tensor(f"{name}/steps"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_allowance_grows_as_published(name: str) -> None:
    grows_at, epochs = PUBLISHED[name]
    found = [fat.allowance(epoch, epochs, grows_at) for epoch in range(epochs)]
    assert found == golden.tensor(f"digits/fat/schedule/{name}").tolist()


def test_an_allowance_that_outgrows_the_attack_is_refused() -> None:
    model, knobs = tiny.network(), {"objective": "at", "beta": 0.0, "noise": 0.0}
    grows_at = [0.2, 0.4, 0.6]
    for steps, message in ((3, None), (2, "by which tau grows beyond the 2 steps of train.attack")):
        given = fat.Knobs.model_validate(knobs | {"grows_at": grows_at})
        with pytest.raises(BadParams, match=message) if message else nullcontext():
            fat.training_loss(model, *tiny.batch(), tiny.step(model, steps=steps), given)


def test_images_that_have_stopped_are_left_out() -> None:
    """A network that is wrong everywhere stops all of them at once, after one pass."""
    sizes: list[int] = []

    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(len(images))
            right = (
                images.flatten(1).sum(1, keepdim=True) * 0
                + (torch.arange(16) < 3)[: len(images), None]
            )
            return torch.cat([right, 0.5 + 0 * right], 1)

    images, labels = torch.rand(16, 1, 2, 2), torch.zeros(16, dtype=torch.long)
    inner = golden.inner_attack(INPUTS)
    _, taken = fat.friendly_examples(Wrong(), images, labels, images, inner, 0)
    assert sizes == [16] + [4] * (inner.steps - 1)
    assert taken.tolist() == [inner.steps] * 3 + [0] * 13
