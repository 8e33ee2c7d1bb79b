"""PGD and forms of FGSM: optimal on a linear model, inside the threat, the same in any batch."""

from collections.abc import Callable

import foolbox
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.attacks.calls import bim, fgsm, mifgsm, pgd
from tests.attacks.trained import L2, LINF, linear, trained
from tradeoff.attacks.outcome import Adversarial
from tradeoff.attacks.pgd import attack_loss, keyed_start
from tradeoff.networks.ascent import InnerAttack, ascend, ascend_divergence, input_gradient
from tradeoff.networks.losses import margin
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import BallNorm, Threat, perturbation_norm

NORMS = {"linf": LINF, "l2": L2}


def mid_grey(count: int = 20) -> Tensor:
    """Images (count, 1, 4, 4) so far from black and white that no bound is met."""
    draws = torch.Generator().manual_seed(5)
    return 0.5 + 0.1 * torch.rand(count, 1, 4, 4, generator=draws)


def linear_problem(norm: BallNorm) -> tuple[nn.Module, Tensor, Tensor, Threat, Tensor]:
    """A linear model of two classes, images, labels, a threat that fools half of the images.

    Last the lowest margins in the ball: each margin less epsilon times the slope's dual norm.
    """
    model, images = linear(2), mid_grey()
    labels = model(images).argmax(1)
    weight = model[1].weight  # type: ignore[index]
    slope = weight[labels] - weight[1 - labels]
    dual = torch.linalg.vector_norm(slope, ord=1 if norm == "linf" else 2, dim=1)
    margins = margin(model(images), labels)
    threat = Threat(norm, float((margins / dual).median()) + 1e-3)
    assert threat.epsilon < 0.4, "else the bounds 0 and 1 are met"
    return model, images, labels, threat, margins - threat.epsilon * dual


def margins(model: nn.Module, adversarial: Adversarial, labels: Tensor) -> Tensor:
    return margin(model(adversarial.images), labels)


def fooled(model: nn.Module, adversarial: Adversarial, labels: Tensor) -> Tensor:
    return model(adversarial.images).argmax(1) != labels


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_pgd_is_optimal_on_a_linear_model(norm: BallNorm, loss: str) -> None:
    model, images, labels, threat, optimum = linear_problem(norm)
    adversarial = pgd(
        model, images, labels, threat, keys=sample_keys(torch.arange(20)), loss=loss, steps=40
    )
    # Those that can be fooled stop at the first iterate that fools.
    held = optimum > 0
    assert held.any() and not held.all()
    assert torch.equal(fooled(model, adversarial, labels), ~held)
    torch.testing.assert_close(
        margins(model, adversarial, labels)[held], optimum[held], rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_optimal_on_a_linear_model(norm: BallNorm) -> None:
    model, images, labels, threat, optimum = linear_problem(norm)
    adversarial = fgsm(model, images, labels, threat)
    torch.testing.assert_close(margins(model, adversarial, labels), optimum, rtol=1e-4, atol=1e-5)
    assert adversarial.queries.tolist() == [1] * 20


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("iterative", [bim, mifgsm])
def test_iterative_fgsm_is_optimal_on_a_linear_model(
    norm: BallNorm, iterative: Callable[..., Adversarial]
) -> None:
    """It goes on where it has fooled, as the last iterate is what it gives."""
    model, images, labels, threat, optimum = linear_problem(norm)
    adversarial = iterative(model, images, labels, threat, steps=5)
    torch.testing.assert_close(margins(model, adversarial, labels), optimum, rtol=1e-3, atol=1e-4)
    assert adversarial.queries.tolist() == [5] * 20


@pytest.mark.parametrize("norm", NORMS)
def test_mifgsm_without_momentum_is_bim_whose_steps_add_up_to_epsilon(norm: BallNorm) -> None:
    subject, threat = trained().first(60), NORMS[norm]
    given = (subject.model, subject.images, subject.labels, threat)
    plain = bim(*given, steps=4, relative_step_size=1 / 4)
    still = mifgsm(*given, steps=4, momentum=0.0)
    torch.testing.assert_close(still.images, plain.images)
    moving = mifgsm(*given, steps=4, momentum=1.0)
    assert (moving.images - plain.images).abs().max() > 0.1 * threat.epsilon
    distance = perturbation_norm(moving.images - subject.images, threat.norm)
    assert distance.max() <= threat.epsilon * (1 + 1e-5)


def test_momentum_sums_gradients_of_unit_l1_length() -> None:
    """Dong et al. 2018, algorithm 1: how steep it is at a point does not count."""

    class Turning(nn.Module):
        """The slope of class 1 turns round beyond the first step, and is steeper there."""

        def forward(self, images: Tensor) -> Tensor:
            light = images.flatten(1).mean(1) - 0.5
            return torch.stack([0 * light, torch.where(light < 0.05, light, -10 * light)], 1)

    images, labels = torch.full((1, 1, 4, 4), 0.5), torch.zeros(1, dtype=torch.long)
    for momentum, moved in ((1.5, 0.2), (0.5, 0.0)):
        threat = Threat("linf", 0.2)
        found = mifgsm(Turning().eval(), images, labels, threat, steps=2, momentum=momentum)
        torch.testing.assert_close(found.images, images + moved)


def test_the_ascent_reaches_the_corner_of_a_linear_objective() -> None:
    images = mid_grey(3)
    slope = torch.linspace(-1, 1, 16).view(1, 1, 4, 4)
    search = InnerAttack(Threat("linf", 0.1), steps=10, step_size=0.03)
    found = ascend(lambda x: (x * slope).flatten(1).sum(1), images, images, search)
    torch.testing.assert_close(found, images + 0.1 * slope.sign())
    assert not found.requires_grad
    none = InnerAttack(Threat("linf", 0.1), steps=0, step_size=0.03)
    assert torch.equal(ascend(lambda x: x.flatten(1).sum(1), images, images, none), images)


def test_the_divergence_grows_along_its_ascent() -> None:
    model, images = linear(3), mid_grey()
    clean = model(images).log_softmax(1)
    start = images + 1e-3
    ends = [
        ascend_divergence(model, images, clean, start, InnerAttack(LINF, steps, 0.02))
        for steps in (1, 3, 9)
    ]
    values = [
        (clean.exp() * (clean - model(end).log_softmax(1))).sum(1).mean().item() for end in ends
    ]
    assert 0 < values[0] < values[1] < values[2]


def attack(
    count: int = 100, norm: str = "linf", keys: Tensor | None = None, **budget: object
) -> tuple[Adversarial, Tensor]:
    """PGD on the trained network: the adversarial and which samples it fooled."""
    subject = trained().first(count)
    chosen = {"steps": 5, "relative_step_size": 0.3} | budget
    adversarial = pgd(
        subject.model,
        subject.images,
        subject.labels,
        NORMS[norm],
        keys=subject.keys if keys is None else keys,
        **chosen,  # type: ignore[arg-type]
    )
    return adversarial, fooled(subject.model, adversarial, subject.labels)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_nothing_leaves_the_threat(norm: str, loss: str) -> None:
    adversarial, hit = attack(norm=norm, loss=loss, restarts=2)
    images, threat = trained().images[:100], NORMS[norm]
    distance = perturbation_norm(adversarial.images - images, threat.norm)
    assert distance.max() <= threat.epsilon * (1 + 1e-5)
    assert adversarial.images.min() >= 0 and adversarial.images.max() <= 1
    assert 0.1 < hit.float().mean() < 1
    assert not adversarial.images.requires_grad


@pytest.mark.parametrize("norm", NORMS)
def test_more_restarts_never_hurt(norm: str) -> None:
    subject = trained().first(100)
    few, hit_by_few = attack(norm=norm, restarts=1, steps=3)
    many, hit_by_many = attack(norm=norm, restarts=4, steps=3)
    assert (hit_by_many | ~hit_by_few).all()
    # What one start fooled is left alone; what it did not is no better off.
    assert torch.equal(few.images[hit_by_few], many.images[hit_by_few])
    held = ~hit_by_few
    before, after = (margins(subject.model, a, subject.labels)[held] for a in (few, many))
    assert (after <= before + 1e-5).all()
    assert (after < before - 1e-3).any(), "else the restarts start where the first one did"


@pytest.mark.parametrize("norm", NORMS)
def test_a_sample_is_attacked_alike_in_any_batch(norm: str) -> None:
    subject, threat = trained().first(60), NORMS[norm]
    together, hit = attack(60, norm, restarts=2)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    apart, queries = torch.empty_like(subject.images), torch.empty_like(subject.labels)
    for part in order.split(7):
        adversarial = pgd(
            subject.model,
            subject.images[part],
            subject.labels[part],
            threat,
            keys=subject.keys[part],
            steps=5,
            relative_step_size=0.3,
            restarts=2,
        )
        apart[part], queries[part] = adversarial.images, adversarial.queries
    assert torch.equal(subject.model(apart).argmax(1) != subject.labels, hit)
    assert torch.equal(queries, together.queries)
    # Sums are rounded differently in other batches, so a sign of the gradient may flip.
    same = (apart - together.images).flatten(1).abs().amax(1) < 1e-4
    assert same.float().mean() > 0.9


@pytest.mark.parametrize("norm", NORMS)
def test_start_points_belong_to_the_samples_key_and_restart(norm: str) -> None:
    images, threat = trained().images[:40], NORMS[norm]
    keys = sample_keys(torch.arange(40), "test")
    together = keyed_start(images, keys, threat)
    some = torch.tensor([31, 2, 17])
    assert torch.equal(keyed_start(images[some], keys[some], threat), together[some])
    assert not torch.equal(keyed_start(images, keys, threat, restart=1), together)
    others = sample_keys(torch.arange(40), "other purpose")
    assert not torch.equal(keyed_start(images, others, threat), together)
    # They reach out to the border, each in its own direction.
    distance = perturbation_norm(together - images, threat.norm)
    assert distance.max() <= threat.epsilon * (1 + 1e-5)
    assert distance.mean() > 0.5 * threat.epsilon
    same_image = keyed_start(images[:1].expand(40, -1, -1, -1), keys, threat)
    assert len(torch.unique(same_image.flatten(1), dim=0)) == 40


def test_queries_count_the_forward_passes_of_each_sample() -> None:
    subject = trained().first(50)

    class Counting(nn.Module):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += len(images)
            return subject.model(images)

    counting = Counting().eval()
    adversarial = pgd(
        counting, subject.images, subject.labels, LINF, keys=subject.keys, steps=4, restarts=3
    )
    assert int(adversarial.queries.sum()) == counting.seen - 1  # one by check_inputs
    hit = fooled(subject.model, adversarial, subject.labels)
    assert (adversarial.queries[~hit] == 3 * (4 + 1)).all()
    assert (adversarial.queries[hit] < 3 * (4 + 1)).any() and adversarial.queries.min() >= 1


def test_misclassified_samples_take_one_query() -> None:
    """Where the start point is misclassified too, nothing more is tried."""
    subject = trained().first(30)
    wrong = (subject.model(subject.images).argmax(1) + 1) % 10
    adversarial = pgd(subject.model, subject.images, wrong, Threat("linf", 0.01), keys=subject.keys)
    assert (adversarial.queries == 1).sum() >= 28


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_end_where_the_first_fooled_every_image(norm: BallNorm) -> None:
    class RightAtTheCentreAlone(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            distance = (images - 0.5).flatten(1).abs().sum(1)
            return torch.stack([0.01 - distance, distance - 0.01], dim=1)

    images, labels = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long)
    model, keys = RightAtTheCentreAlone().eval(), torch.arange(3)
    found = pgd(model, images, labels, Threat(norm, 0.5), steps=2, restarts=3, keys=keys)
    assert (model(found.images).argmax(1) == 1).all()


def test_the_margin_loss_is_about_as_strong() -> None:
    _, by_margin = attack(300, loss="margin", steps=20)
    _, by_entropy = attack(300, steps=20)
    assert abs(int(by_margin.sum()) - int(by_entropy.sum())) <= 9


def test_margin_gradients_vanish_neither_before_the_boundary_nor_beyond_it() -> None:
    model, images = linear(2), mid_grey()
    predicted = model(images).argmax(1)
    for labels in (predicted, 1 - predicted):
        gradient = input_gradient(
            lambda points: attack_loss(model(points), labels, None, "margin"),  # noqa: B023
            images,
        )
        assert not (gradient == 0).flatten(1).all(1).any()


def test_epsilon_zero_changes_nothing() -> None:
    subject = trained().first(50)
    threat = Threat("linf", 0.0)
    adversarial = pgd(
        subject.model, subject.images, subject.labels, threat, keys=subject.keys, steps=2
    )
    assert torch.equal(adversarial.images, subject.images)


def test_attacks_leave_no_gradients_in_the_model() -> None:
    model = tiny.network().eval()
    images, labels = tiny.batch()
    keys = sample_keys(torch.arange(len(labels)))
    pgd(model, images, labels, tiny.THREAT, keys=keys, steps=2)
    fgsm(model, images, labels, tiny.THREAT)
    bim(model, images, labels, tiny.THREAT, steps=2)
    mifgsm(model, images, labels, tiny.THREAT, steps=2)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("attack_function", [pgd, fgsm, bim, mifgsm])
def test_wrong_inputs_are_refused(attack_function: Callable[..., Adversarial]) -> None:
    subject = trained().first(4)
    keys = {"keys": subject.keys} if attack_function is pgd else {}
    with pytest.raises(ValueError, match="labels span"):
        attack_function(subject.model, subject.images, subject.labels + 10, LINF, **keys)


@pytest.mark.parametrize("norm", NORMS)
def test_robust_accuracy_is_at_most_that_under_foolboxs_pgd(norm: str) -> None:
    """The same budget on the same 500 images, the mean of four starts: 0.5 points of tolerance."""
    subject, threat = trained(), NORMS[norm]
    theirs_attack = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm](
        steps=20, rel_stepsize=0.1
    )
    network = foolbox.PyTorchModel(subject.model, bounds=(0, 1))
    ours, theirs = 0.0, 0.0
    for start in range(4):
        adversarial = pgd(
            subject.model,
            subject.images,
            subject.labels,
            threat,
            keys=subject.keys + start,
            steps=20,
            relative_step_size=0.1,
        )
        ours += (~fooled(subject.model, adversarial, subject.labels)).float().mean().item() / 4
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start)
            _, _, found = theirs_attack(
                network, subject.images, subject.labels, epsilons=threat.epsilon
            )
        theirs += (~found).float().mean().item() / 4
    assert ours <= theirs + 0.005
    assert 0.02 < ours < 0.9
