"""Every defense against what its authors' code computes (tests/data/golden_*.npz)."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.defenses import at, dtrades, faal, mart, standard, trades
from tradeoff.defenses.trades import objective as trades_objective
from tradeoff.networks.ascent import ascend_cross_entropy, ascend_divergence
from tradeoff.networks.folding import fold
from tradeoff.networks.threat import random_start

WHOLE = {
    "at": (at, at.Knobs()),
    "trades": (trades, trades.Knobs(beta=golden.number("beta_trades"))),
    "mart": (mart, mart.Knobs(beta=golden.number("beta_mart"))),
    "dtrades": (
        dtrades,
        dtrades.Knobs(
            alpha=golden.number("dtrades/alpha"),
            beta=golden.number("dtrades/beta"),
            differentiable=False,
        ),
    ),
}


def adversarial(name: str, model: nn.Module) -> Tensor:
    """What the inner attack of a defense makes of the golden batch."""
    model, x, y = tiny.calm(model), golden.images().double(), golden.labels()
    near = x + 0.001 * golden.tensor("noise").double()
    if name == "trades":
        return ascend_divergence(model, x, F.log_softmax(model(x), 1), near, golden.inner_attack())
    if name == "mart":
        return ascend_cross_entropy(model, x, y, near, golden.inner_attack())
    radius = torch.zeros(len(x))
    start = random_start(x, golden.tensor("uniform").double(), radius, golden.inner_attack().threat)
    return ascend_cross_entropy(model, x, y, start, golden.inner_attack())


@pytest.mark.parametrize("name", ["trades", "mart", "at"])
def test_adversarial_examples_equal_those_of_the_authors(name: str) -> None:
    found = adversarial(name, golden.network().double())
    expected = golden.tensor(f"{name}/x_adv").double()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_trades_objective() -> None:
    model = golden.network()
    clean, attacked = model(golden.images()), model(golden.tensor("trades/x_adv"))
    beta = golden.number("beta_trades")
    loss, parts = trades_objective(clean, attacked, golden.labels(), beta)
    torch.testing.assert_close(loss, parts["cross_entropy"] + beta * parts["divergence"])
    golden.assert_loss_and_gradients("trades", model, loss)


def test_mart_objective() -> None:
    model = golden.network()
    clean, attacked = model(golden.images()), model(golden.tensor("mart/x_adv"))
    loss, _, _ = mart.objective(clean, attacked, golden.labels(), golden.number("beta_mart"))
    golden.assert_loss_and_gradients("mart", model, loss)


def test_faal_weights_margins_and_objective() -> None:
    logits = golden.network()(golden.tensor("at/x_adv"))
    radius = golden.number("faal/radius")
    loss, weights, margins = faal.objective(logits, golden.labels(), radius)
    golden.assert_close(loss, golden.tensor("faal/loss"))
    torch.testing.assert_close(weights.double(), golden.tensor("faal/weight"), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        margins.double(), golden.tensor("faal/class_margin"), atol=1e-6, rtol=0
    )
    _, counts = faal.class_margins(logits.softmax(1), golden.labels())
    assert torch.equal(counts.double(), golden.tensor("faal/class_count"))


@pytest.mark.parametrize("case", range(24))
def test_faal_weights_equal_those_of_a_convex_solver(case: int) -> None:
    names = ("margin", "count", "radius", "weight")
    margin, count, radius, weight = (golden.tensor(f"faal/cases/{name}")[case] for name in names)
    found = faal.class_weights(margin, count, radius)
    torch.testing.assert_close(found, weight, atol=1e-4, rtol=0)


def test_dtrades_weight_and_objective() -> None:
    model = golden.network().double()
    x, x_adv = golden.images().double(), golden.tensor("trades/x_adv").double()
    calm = tiny.calm(model)
    alpha, beta = golden.number("dtrades/alpha"), golden.number("dtrades/beta")
    measured = dtrades.adaptive_weight(calm, calm(x), x_adv, alpha, beta)
    golden.assert_close(measured.weight, golden.tensor("dtrades/lambda"))
    golden.assert_close(measured.entropy, golden.tensor("dtrades/entropy"))
    golden.assert_close(measured.sensitivity, golden.tensor("dtrades/sensitivity"))
    loss, _ = trades_objective(model(x), model(x_adv), golden.labels(), measured.weight)
    golden.assert_loss_and_gradients("dtrades", model, loss)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_training_loss(name: str) -> None:
    defense, knobs = WHOLE[name]
    model = golden.network().double()
    step = golden.step(tiny.calm(model))
    loss = defense.training_loss(model, golden.images().double(), golden.labels(), step, knobs)
    golden.assert_loss_and_gradients(name, model, loss.total)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_training_loss_on_the_folded_twin(name: str) -> None:
    """The loop attacks the twin, which rounds differently: the sign of a tiny gradient may flip."""
    defense, knobs = WHOLE[name]
    model = golden.network()
    step = golden.step(fold(model))
    loss = defense.training_loss(model, golden.images(), golden.labels(), step, knobs)
    golden.assert_close(loss.total.detach(), golden.tensor(f"{name}/loss"), relative=1e-3)


def test_whole_training_loss_of_faal() -> None:
    knobs = faal.Knobs(radius=golden.number("faal/radius"))
    model = golden.network().double()
    step = golden.step(tiny.calm(model))
    loss = faal.training_loss(model, golden.images().double(), golden.labels(), step, knobs)
    golden.assert_close(loss.total.detach(), golden.tensor("faal/loss"))
    weights = loss.classes["weight"].double()
    torch.testing.assert_close(weights, golden.tensor("faal/weight"), atol=1e-4, rtol=0)


def test_telemetry_of_dtrades_is_lambda_and_its_parts() -> None:
    defense, knobs = WHOLE["dtrades"]
    model = golden.network().double()
    step = golden.step(tiny.calm(model))
    loss = defense.training_loss(model, golden.images().double(), golden.labels(), step, knobs)
    for name in ("lambda", "entropy", "sensitivity"):
        assert not loss.samples[name].requires_grad
        golden.assert_close(loss.samples[name], golden.tensor(f"dtrades/{name}"), relative=1e-4)


def test_standard_training_is_plain_cross_entropy() -> None:
    model = golden.network()
    x, y = golden.images(), golden.labels()
    loss = standard.training_loss(model, x, y, golden.step(model), standard.Knobs())
    log_probabilities = model(x).log_softmax(1)
    torch.testing.assert_close(loss.total, -log_probabilities[torch.arange(len(y)), y].mean())
