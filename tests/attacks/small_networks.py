"""Models and checks for the tests of minimum-norm attacks: two small networks, a linear one."""

import copy
import functools
from collections.abc import Callable

import foolbox
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial
from tradeoff.networks.threat import Norm, Threat, perturbation_norm

TRAINED_ON = 1297


@functools.cache
def _digits() -> tuple[Tensor, Tensor]:
    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], torch.from_numpy(digits.target).long()[order]


def test_digits(count: int) -> tuple[Tensor, Tensor]:
    """The first of the 500 images (count, 1, 8, 8) in [0, 1] not trained on, and their labels."""
    images, labels = _digits()
    return images[TRAINED_ON:][:count], labels[TRAINED_ON:][:count]


test_digits.__test__ = False  # type: ignore[attr-defined]


@functools.cache
def natural() -> nn.Module:
    """About 98 % accurate, not robust."""
    return _train(epsilon=0.0, epochs=8)


@functools.cache
def robust() -> nn.Module:
    """Trained adversarially in linf, epsilon 0.2."""
    return _train(epsilon=0.2, epochs=15)


def _train(epsilon: float, epochs: int) -> nn.Module:
    images, labels = (part[:TRAINED_ON] for part in _digits())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 4 * 4, 10),
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(epochs):
            for batch in torch.randperm(TRAINED_ON).split(64):
                x = images[batch]
                if epsilon:
                    x = _perturbed(model, x, labels[batch], Threat("linf", epsilon))
                optimizer.zero_grad()
                F.cross_entropy(model.train()(x), labels[batch]).backward()
                optimizer.step()
    torch.set_num_threads(threads)
    return model.eval().requires_grad_(False)


def _perturbed(model: nn.Module, images: Tensor, labels: Tensor, threat: Threat) -> Tensor:
    model.eval()
    noise = (2 * torch.rand_like(images) - 1) * threat.epsilon
    current = (images + noise).clamp(0, 1)
    for _ in range(5):
        current.requires_grad_()
        loss = F.cross_entropy(model(current), labels)
        gradient = torch.autograd.grad(loss, current)[0]
        current = current.detach() + threat.epsilon / 3 * gradient.sign()
        current = current.clamp(images - threat.epsilon, images + threat.epsilon).clamp(0, 1)
    return current


def linear(classes: int = 4) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model with 64 images around mid-grey, labelled as predicted.

    The boundaries are so near that the minimum perturbations stay inside [0, 1].
    """
    generator = torch.Generator().manual_seed(2)
    images = 0.5 + 0.1 * (torch.rand(64, 1, 6, 6, generator=generator) - 0.5)
    layer = nn.Linear(36, classes)
    layer.weight.data = torch.randn(classes, 36, generator=generator)
    layer.bias.data = -layer.weight.data.sum(1) * 0.5
    model = nn.Sequential(nn.Flatten(), layer).eval().requires_grad_(False)
    return model, images, model(images).argmax(1)


def linear_distance(model: nn.Module, images: Tensor, labels: Tensor, dual: float) -> Tensor:
    """Exact distances (N,) to the boundary: the least of margin / dual norm of its gradient."""
    weight = model[1].weight  # type: ignore[index]
    logits = model(images)
    gaps = logits.gather(1, labels[:, None]) - logits
    lengths = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=dual, dim=2)
    return (gaps / lengths).scatter(1, labels[:, None], torch.inf).amin(1)


class Constant(nn.Module):
    """Always predicts class 0 of three, whatever the image: it cannot be fooled."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]) + 0 * images.flatten(1).sum(1, keepdim=True)


Attack = Callable[[nn.Module, Tensor, Tensor], Adversarial]


def distances(adversarial: Tensor, images: Tensor, norm: Norm) -> Tensor:
    return perturbation_norm(adversarial - images, norm)


def assert_sound(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor) -> Tensor:
    """What holds for every minimum-norm attack; returns which samples it fooled.

    Inside [0, 1]; already misclassified images come back as they were; what was changed fools.
    """
    assert adversarial.shape == images.shape and adversarial.dtype == images.dtype
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    wrong = model(images).argmax(1) != labels
    assert torch.equal(adversarial[wrong], images[wrong])
    changed = (adversarial != images).flatten(1).any(1)
    fooled = model(adversarial).argmax(1) != labels
    assert torch.equal(fooled, changed | wrong)
    return fooled


def assert_keeps_the_contract(attack: Attack, norm: Norm) -> None:
    """Soundness, independence of the batch, queries, a model that cannot be fooled, errors."""
    model = natural()
    images, labels = test_digits(24)
    labels = labels.clone()
    labels[:2] = (labels[:2] + 1) % 10  # certainly misclassified
    images = images.clone()
    images[2:4] = (images[2:4] > 0.5).float()  # every component at a bound
    together = attack(model, images, labels)
    fooled = assert_sound(model, images, labels, together.images)
    assert fooled.float().mean() > 0.5
    assert together.queries.shape == labels.shape and together.queries.dtype == torch.long
    assert (together.queries[:2] == 1).all() and (together.queries >= 1).all()

    apart = [attack(model, *part) for part in zip(images.split(7), labels.split(7), strict=True)]
    alone = torch.cat([adversarial.images for adversarial in apart])
    assert torch.equal(fooled, assert_sound(model, images, labels, alone))
    one, other = distances(together.images, images, norm), distances(alone, images, norm)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)

    black = torch.zeros(2, 1, 4, 4)
    hopeless = attack(Constant().eval(), black, torch.tensor([0, 1]))
    assert torch.equal(hopeless.images, black)

    with pytest.raises(ValueError, match="train mode"):
        attack(copy.deepcopy(model).train(), images, labels)
    with pytest.raises(ValueError, match="outside"):
        attack(model, images + 0.5, labels)
    with pytest.raises(ValueError, match="labels"):
        attack(model, images, labels + 10)


def assert_as_strong(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: Norm,
    ours: Adversarial,
    other: foolbox.attacks.base.MinimizationAttack,
) -> None:
    """Against foolbox: success at least as often, mean norm at most 2 % larger.

    The means are over the samples that both fooled, less those misclassified to begin with.
    """
    fooled = assert_sound(model, images, labels, ours.images)
    _, theirs, _ = other(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=None)
    # Where it finds nothing, foolbox's C&W returns a black image, which may well be misclassified.
    theirs_fooled = (model(theirs).argmax(1) != labels) & theirs.flatten(1).any(1)
    assert fooled.sum() >= theirs_fooled.sum()
    right = model(images).argmax(1) == labels
    both = fooled & theirs_fooled & right
    assert both.sum() >= 0.8 * len(labels)
    mean_ours = distances(ours.images, images, norm)[both].mean()
    mean_theirs = distances(theirs, images, norm)[both].mean()
    assert mean_ours <= 1.02 * mean_theirs
