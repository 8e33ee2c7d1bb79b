"""One-step and iterative attacks with a length, a start, a target or a temperature of their own."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden, tiny
from tests.attacks.calls import confidence, fgsm, mifgsm, pgd
from tests.attacks.trained import LINF, trained
from tradeoff.attacks.apgd import _dlr
from tradeoff.attacks.outcome import Adversarial
from tradeoff.attacks.pgd import attack_loss, keyed_start, targets_of
from tradeoff.networks.ascent import input_gradient
from tradeoff.networks.backtracking import rival_log_probability
from tradeoff.networks.losses import margin
from tradeoff.networks.threat import Threat, perturbation_norm, project

SUBJECT = trained().first(60)
GIVEN = (SUBJECT.model, SUBJECT.images, SUBJECT.labels)


def test_a_step_of_its_own_length_from_a_random_start_is_rs_fgsm() -> None:
    """Against the golden example, from the golden start."""
    model = tiny.calm(golden.network().double())
    images, labels = golden.images().double(), golden.labels()
    threat = golden.inner_attack().threat
    length = golden.number("rsfgsm/alpha") / threat.epsilon
    start = (images + threat.epsilon * golden.tensor("uniform").double()).clamp(0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tradeoff.attacks.fgsm.keyed_start", lambda *_given: start)
        found = fgsm(
            model, images, labels, threat, keys=labels, relative_step_size=length, random_start=True
        )
    golden.assert_images_close(found.images, "rsfgsm/x_adv")


def test_a_short_step_stays_inside_and_a_long_one_ends_on_the_surface() -> None:
    for length, reached in ((0.5, 0.5), (1.0, 1.0), (2.0, 1.0)):
        found = fgsm(*GIVEN, LINF, relative_step_size=length).images
        distance = perturbation_norm(found - SUBJECT.images, "linf")
        torch.testing.assert_close(distance.amax().item(), reached * LINF.epsilon)


def test_a_random_start_belongs_to_the_image_whatever_the_batch() -> None:
    together = fgsm(*GIVEN, LINF, keys=SUBJECT.keys, random_start=True).images
    some = slice(10, 20)
    alone = fgsm(
        SUBJECT.model,
        SUBJECT.images[some],
        SUBJECT.labels[some],
        LINF,
        keys=SUBJECT.keys[some],
        random_start=True,
    ).images
    torch.testing.assert_close(alone, together[some])
    assert not torch.equal(together, fgsm(*GIVEN, LINF).images)


@pytest.mark.parametrize("attack", [fgsm, mifgsm])
def test_what_is_drawn_at_random_needs_keys(attack: Callable[..., Adversarial]) -> None:
    knob = {"random_start": True} if attack is fgsm else {"target": "random"}
    with pytest.raises(ValueError, match="keys, one for each image"):
        attack(*GIVEN, LINF, **knob)


def test_targets_are_wrong_classes_least_likely_or_spread_over_all() -> None:
    model, images, labels = GIVEN
    least = targets_of(model, images, labels, "least_likely", None)
    logits = model(images)
    assert least is not None and (least != labels).all()
    others = logits.scatter(1, labels[:, None], float("inf"))
    torch.testing.assert_close(logits.gather(1, least[:, None]).squeeze(1), others.amin(1))
    drawn = targets_of(model, images, labels, "random", SUBJECT.keys)
    assert drawn is not None and (drawn != labels).all()
    assert len(((drawn - labels) % 10).unique()) == 9
    assert targets_of(model, images, labels, None, None) is None


@pytest.mark.parametrize("target", ["least_likely", "random"])
@pytest.mark.parametrize(
    ("attack", "knobs"),
    [(pgd, {"loss": "cross_entropy"}), (pgd, {"loss": "margin"}), (mifgsm, {})],
)
def test_a_targeted_attack_raises_its_class(
    attack: Callable[..., Adversarial], knobs: dict[str, str], target: str
) -> None:
    """And does not fool oftener than one that takes whichever class is near."""
    model, images, labels = GIVEN
    targets = targets_of(model, images, labels, target, SUBJECT.keys)
    assert targets is not None
    found = attack(*GIVEN, LINF, keys=SUBJECT.keys, target=target, **knobs).images
    torch.testing.assert_close(project(found, images, LINF), found)
    probability = [
        model(points).softmax(1).gather(1, targets[:, None]).mean() for points in (images, found)
    ]
    assert probability[1] > probability[0]
    free = attack(*GIVEN, LINF, keys=SUBJECT.keys, **knobs).images
    fooled = [(model(points).argmax(1) != labels).sum() for points in (found, free)]
    assert fooled[0] <= fooled[1]


def test_targeted_pgd_is_that_of_the_logit_pairing_authors() -> None:
    """From their start, with every step taken: no image is fooled on the way if none may be."""
    model = tiny.calm(golden.network().double())
    images = golden.images().double()
    target = golden.tensor("alp/least_likely/target")
    inner = golden.inner_attack()
    current = (images + inner.threat.epsilon * golden.tensor("uniform").double()).clamp(0, 1)
    for _ in range(inner.steps):
        gradient = input_gradient(
            lambda points: attack_loss(model(points), golden.labels(), target), current
        )
        current = project(current + inner.step_size * gradient.sign(), images, inner.threat)
    golden.assert_images_close(current, "alp/least_likely/x_adv")


def saturated() -> tuple[nn.Module, Tensor, Tensor, float]:
    """A distilled network as it is deployed: its logits are a temperature too large."""
    model = golden.network("sharp").double()
    scale = golden.number("distillation/saturated/scale")
    last = model[7]
    with torch.no_grad():
        last.weight.mul_(scale)
        last.bias.mul_(scale)
    labels = golden.tensor("distillation/saturated/label")
    return tiny.calm(model), golden.images().double(), labels, scale


def test_gradients_of_a_saturated_network_by_loss() -> None:
    model, images, labels, scale = saturated()
    logits = model(images)
    golden.assert_close(logits, golden.tensor("distillation/saturated/logits"))
    golden.assert_close(margin(logits, labels), golden.tensor("distillation/saturated/margin"))
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "cross_entropy": lambda z: attack_loss(z, labels, None),
        "tempered": lambda z: attack_loss(z / scale, labels, None),
        "margin": lambda z: attack_loss(z, labels, None, "margin"),
        "dlr": lambda z: _dlr(z, labels, labels),
    }
    for name, loss in losses.items():
        found = input_gradient(lambda points, of=loss: of(model(points)), images)  # type: ignore[misc]
        golden.assert_close(found, golden.tensor(f"distillation/saturated/{name}_gradient"))


def test_a_temperature_makes_the_cross_entropy_of_a_saturated_network_alive_again() -> None:
    model, images, labels, scale = saturated()
    model, images = model.float(), images.float()
    threat = Threat("linf", 0.2)
    robust = {
        temperature: (
            model(
                pgd(model, images, labels, threat, keys=labels, temperature=temperature).images
            ).argmax(1)
            == labels
        ).sum()
        for temperature in (1.0, scale)
    }
    assert robust[scale] < robust[1.0]


def test_the_confidence_attack_makes_a_wrong_class_surer_than_pgd_does() -> None:
    model, images, labels = GIVEN
    found = confidence(*GIVEN, LINF, keys=SUBJECT.keys, restarts=2)
    torch.testing.assert_close(project(found.images, images, LINF), found.images)
    stopped = pgd(*GIVEN, LINF, keys=SUBJECT.keys)
    surest, first = (rival_log_probability(model(a.images), labels) for a in (found, stopped))
    assert surest.mean() > first.mean()
    once = confidence(*GIVEN, LINF, keys=SUBJECT.keys)
    assert (surest >= rival_log_probability(model(once.images), labels) - 1e-6).all()
    assert F.softmax(model(found.images), 1).isfinite().all()


def test_an_image_is_attacked_alike_in_any_batch() -> None:
    some = slice(5, 15)
    given = (SUBJECT.model, SUBJECT.images[some], SUBJECT.labels[some], LINF)
    for attack, knobs in ((pgd, {"target": "random"}), (mifgsm, {"target": "random"})):
        together = attack(*GIVEN, LINF, keys=SUBJECT.keys, **knobs)
        alone = attack(*given, keys=SUBJECT.keys[some], **knobs)
        torch.testing.assert_close(alone.images, together.images[some])
    assert keyed_start(SUBJECT.images, SUBJECT.keys, LINF).shape == SUBJECT.images.shape
