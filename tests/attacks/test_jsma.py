import itertools

import pytest
import torch
from small_networks import (
    assert_keeps_the_contract,
    assert_sound,
    distances,
    natural,
    robust,
    test_digits,
)

from tests.attacks.calls import jsma, jsma_softmax
from tradeoff.attacks.jsma import best_pairs


def test_keeps_the_contract():
    assert_keeps_the_contract(lambda *inputs: jsma(*inputs, gamma=0.5), "l0")


def salient_pair(toward, away, free):
    """Algorithm 3 of the paper, pair by pair: (score, pair), or None."""
    best = None
    for p, q in itertools.combinations([i for i, usable in enumerate(free) if usable], 2):
        a, b = toward[p] + toward[q], away[p] + away[q]
        if a > 0 and b < 0 and (best is None or -a * b > best[0]):
            best = (-a * b, (p, q))
    return best


def plain_jsma(model, image, label, target, pairs):
    """Algorithm 2 of the paper for one target: how many pairs it takes to fool, or None."""
    image = image.clone()
    for count in range(1, pairs + 1):
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], image).flatten(1)
        toward, away = jacobian[target], jacobian.sum(0) - jacobian[target]
        free = image < 1
        found = salient_pair(toward.tolist(), away.tolist(), free.flatten().tolist())
        if found is None:
            return None
        for place in found[1]:
            image.view(-1)[place] = 1
        if model(image[None]).argmax() != label:
            return count
    return None


def test_changes_as_many_components_as_the_paper_s_loop():
    model, (images, labels) = robust(), test_digits(8)
    adversarial = jsma(model, images, labels, theta=1.0, gamma=0.2)
    fooled = assert_sound(model, images, labels, adversarial.images)
    assert fooled.any()
    changed = distances(adversarial.images, images, "l0")
    for i in range(8):
        if model(images[i : i + 1]).argmax() != labels[i]:
            continue
        counts = [
            plain_jsma(model, images[i], int(labels[i]), target, int(64 * 0.2) // 2)
            for target in range(10)
            if target != labels[i]
        ]
        successful = [count for count in counts if count is not None]
        assert bool(fooled[i]) == bool(successful)
        if successful:
            assert changed[i] == 2 * min(successful)


def test_best_pairs_misses_no_better_pair():
    generator = torch.Generator().manual_seed(3)
    toward, away = torch.randn(2, 60, 30, generator=generator)
    away = away + torch.linspace(-2, 4, 60)[:, None]  # for some rows there is no pair
    free = torch.rand(60, 30, generator=generator) > 0.3
    free[0], free[1] = False, False
    free[1, 4] = True  # one component is not a pair
    pairs, admissible = best_pairs(toward, away, free)
    for i in range(60):
        expected = salient_pair(toward[i].tolist(), away[i].tolist(), free[i].tolist())
        assert bool(admissible[i]) == (expected is not None)
        if expected is not None:
            assert tuple(sorted(pairs[i].tolist())) == expected[1]
    assert 0 < admissible.sum() < 60


def test_gamma_bounds_the_changed_components():
    model, (images, labels) = robust(), test_digits(100)
    small, large = (jsma(model, images, labels, gamma=gamma) for gamma in (0.1, 1.0))
    fooled = assert_sound(model, images, labels, small.images)
    assert distances(small.images, images, "l0").max() <= 6
    everything = assert_sound(model, images, labels, large.images)
    assert fooled.sum() < everything.sum()
    assert everything.float().mean() > 0.98


def test_small_steps_and_few_targets():
    model, (images, labels) = natural(), test_digits(20)
    adversarial = jsma(model, images, labels, theta=0.25, gamma=1.0, targets=2)
    fooled = assert_sound(model, images, labels, adversarial.images)
    assert fooled.float().mean() > 0.8
    steps = (adversarial.images - images) / 0.25
    inside = adversarial.images < 1
    torch.testing.assert_close(steps[inside], steps[inside].round(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"theta": -1.0}, {"theta": 1.5}, {"gamma": 0.0}, {"gamma": 1.1}, {"targets": 0}]
)
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        jsma(natural(), *test_digits(2), **wrong)


class Hot(torch.nn.Module):
    """A network whose logits are so many times too large, as a distilled one's are."""

    def __init__(self, model, scale):
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, images):
        return self.scale * self.model(images)


def test_softmax_hides_the_derivative_of_large_logits_from_jsma_and_their_scale_brings_it_back():
    model, (images, labels) = natural(), test_digits(20)
    hot = Hot(model, 1000.0).eval()
    right = model(images).argmax(1) == labels

    def fooled(found):
        return (right & (model(found.images).argmax(1) != labels)).sum()

    plain = jsma_softmax(model, images, labels, targets=1)
    assert fooled(plain) > 0
    assert fooled(jsma_softmax(hot, images, labels, targets=1)) == 0
    tempered = jsma_softmax(hot, images, labels, targets=1, temperature=1000.0)
    torch.testing.assert_close(tempered.images, plain.images)
    on_logits = jsma(hot, images, labels, targets=1)
    torch.testing.assert_close(on_logits.images, jsma(model, images, labels, targets=1).images)
