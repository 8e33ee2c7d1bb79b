"""HAT: its numbers, and what the helper's term is taken at."""

import pytest
import torch
from torch import nn

from tests import golden, tiny
from tradeoff.defenses import hat, trades
from tradeoff.training.contract import Loss

INPUTS = "digits/"


def knobs(objective: str = "trades") -> hat.Knobs:
    beta, gamma, reach = (golden.number(f"digits/hat/{name}") for name in ("beta", "gamma", "h"))
    return hat.Knobs.model_validate(
        {"objective": objective, "beta": beta, "gamma": gamma, "reach": reach}
    )


class Noted(nn.Module):
    """A network that keeps what it was given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images)
        logits: torch.Tensor = self.network(images)
        return logits


def golden_loss(model: nn.Module, helper: nn.Module, objective: str) -> Loss:
    step = golden.step(tiny.calm(model), INPUTS, natural=helper)
    images, labels = golden.images(INPUTS).double(), golden.labels(INPUTS)
    return hat.training_loss(model, images, labels, step, knobs(objective))


@pytest.mark.parametrize(("objective", "key"), [("trades", "kl"), ("at", "ce")])
def test_loss_and_gradients_equal_those_of_the_authors(objective: str, key: str) -> None:
    name = f"digits/hat/{key}"
    model = Noted(golden.network("digits/state").double())
    helper = Noted(tiny.calm(golden.network("digits/other/state").double()))
    loss = golden_loss(model, helper, objective)
    clean, adversarial, beyond = model.seen
    assert torch.equal(clean, golden.images(INPUTS).double())
    for found, expected in ((adversarial, "x_adv"), (beyond, "x_helper")):
        torch.testing.assert_close(found, golden.tensor(f"{name}/{expected}").double(),
                                   atol=2e-6, rtol=0)  # fmt: skip
    assert torch.equal(helper.seen[0], adversarial), "the label is the helper's at x'"
    labels = helper(adversarial).argmax(1)
    assert torch.equal(labels, golden.tensor(f"{name}/helper_label"))
    assert (labels != golden.labels(INPUTS)).any()
    second = "divergence" if objective == "trades" else "adversarial"
    for part, expected in (("cross_entropy", "clean"), (second, "adv"), ("helper", "helper")):
        golden.assert_close(loss.parts[part], golden.tensor(f"{name}/loss_{expected}"))
    golden.assert_loss_and_gradients(name, model.network, loss.total)


def test_the_helpers_images_leave_the_range_and_have_no_gradient_of_their_own() -> None:
    images, adversarial = torch.tensor([0.0, 1.0, 0.5]), torch.tensor([0.1, 0.9, 0.6])
    expected = torch.tensor([0.2, 0.8, 0.7])
    torch.testing.assert_close(hat.beyond(images, adversarial, 2.0), expected)
    assert hat.beyond(torch.ones(1), torch.zeros(1), 2.0).item() == -1


def test_without_the_helpers_weight_it_is_trades() -> None:
    model, (images, labels) = tiny.network(), tiny.batch()
    steps = [tiny.step(model) for _ in range(2)]
    steps[0].bases["natural"] = tiny.calm(tiny.network(seed=1))  # type: ignore[index]
    given = knobs().model_copy(update={"gamma": 0.0})
    found = hat.training_loss(model, images, labels, steps[0], given)
    plain = trades.training_loss(model, images, labels, steps[1], trades.Knobs(beta=given.beta))
    assert torch.equal(found.total, plain.total)
