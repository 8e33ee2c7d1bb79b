"""ACT: the attack between two networks, what each of them learns, and which of them answers."""

import torch
from torch import Tensor, nn

from tests import golden, tiny
from tradeoff.classifiers import first
from tradeoff.defenses import act

INPUTS = "digits/"


def pair() -> nn.Module:
    networks = [golden.network(f"digits/{name}state").double() for name in ("", "other/")]
    return first.build(networks, first.Knobs(), image=(1, 8, 8), seed=0)


def step(model: nn.Module) -> golden.GoldenStep:
    inner = golden.inner_attack(INPUTS)
    return golden.GoldenStep(
        tiny.calm(model), inner, torch.Generator(), 0, 1, 0.0, model, inputs=INPUTS
    )


def knobs() -> act.Knobs:
    alpha, temperature = (golden.number(f"digits/act/{k}") for k in ("alpha", "temperature"))
    return act.Knobs(alpha=alpha, temperature=temperature)


def losses(parts: dict[str, Tensor], role: str) -> Tensor:
    alpha = knobs().alpha
    return (1 - alpha) * parts[f"cross_entropy_{role}"] + alpha * parts[f"imitation_{role}"]


def attacked(model: nn.Module, natural_logits: Tensor) -> Tensor:
    images, labels = golden.images(INPUTS).double(), golden.labels(INPUTS)
    return act.adversarial_examples(images, labels, natural_logits, step(model), knobs().alpha)


def test_loss_and_gradients_equal_those_of_the_authors() -> None:
    images, labels = golden.images(INPUTS).double(), golden.labels(INPUTS)
    model = pair()
    loss = act.training_loss(model, images, labels, step(model), knobs())
    for key, name in (("ce", "cross_entropy"), ("kl", "imitation")):
        for role in ("natural", "robust"):
            expected = golden.tensor(f"digits/act/{key}_{role}")
            golden.assert_close(loss.parts[f"{name}_{role}"], expected)
    for role in ("natural", "robust"):
        golden.assert_close(losses(loss.parts, role), golden.tensor(f"digits/act/loss_{role}"))
    loss.total.backward()
    for number, role in enumerate(("robust", "natural")):
        for name, parameter in model.get_submodule(f"networks.{number}").named_parameters():
            golden.assert_close(parameter.grad, golden.tensor(f"digits/act/grad_{role}/{name}"))


def test_the_attacks_target_is_what_the_second_network_says_in_train_mode() -> None:
    model, images = pair(), golden.images(INPUTS).double()
    logits = model.get_submodule("networks.1")(images).detach()
    golden.assert_close(logits, golden.tensor("digits/act/natural_logits"))
    expected = golden.tensor("digits/act/x_adv").double()
    torch.testing.assert_close(attacked(model, logits), expected, atol=2e-6, rtol=0)


def test_its_answers_in_eval_mode_would_be_another_attack() -> None:
    model, images, labels = pair(), golden.images(INPUTS).double(), golden.labels(INPUTS)
    logits = tiny.calm(model).get_submodule("networks.1")(images)
    golden.assert_close(logits, golden.tensor("digits/act/calm/natural_logits"))
    found = attacked(model, logits)
    expected = golden.tensor("digits/act/calm/x_adv").double()
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)
    natural, robust = model.get_submodule("networks.1")(images), model(found)
    temperature = knobs().temperature
    for role, mine, other in (("natural", natural, robust), ("robust", robust, natural)):
        parts = {
            f"cross_entropy_{role}": nn.functional.cross_entropy(mine, labels),
            f"imitation_{role}": act.imitation(mine, other, temperature),
        }
        expected = golden.tensor(f"digits/act/calm/loss_{role}")
        golden.assert_close(losses(parts, role).detach(), expected)


def test_the_first_network_answers_alone() -> None:
    networks = [tiny.network(0), tiny.network(1)]
    model = first.build(networks, first.Knobs(), image=(1, 8, 8), seed=0)
    images, _ = tiny.batch()
    assert torch.equal(model.eval()(images), networks[0].eval()(images))
    assert len(list(model.parameters())) == 2 * len(list(networks[0].parameters()))
