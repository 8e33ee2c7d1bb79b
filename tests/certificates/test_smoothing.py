"""The certificate of randomized smoothing against the published implementation's numbers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import golden, tiny
from tradeoff.certificates import smoothing
from tradeoff.certificates.ledger import Certificate, save_certificates
from tradeoff.classifiers.smoothed import Smoothed
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat

KNOBS = smoothing.Knobs(selection=20, samples=200, failure=0.01)


def smoothed(sigma: float = 0.25) -> Smoothed:
    return Smoothed(tiny.calm(tiny.network()), sigma, torch.zeros(1, 1, 8, 8)).eval()


def certify(images: Tensor, threat: Threat, batch_size: int = 64) -> Certificate:
    keys = sample_keys(torch.arange(len(images)), "test")
    return smoothing.certify(
        smoothed(), images, threat, keys=keys, batch_size=batch_size, knobs=KNOBS
    )


def test_bounds_and_radii_are_the_published_ones() -> None:
    names = ("n", "count", "alpha", "sigma", "lower", "radius", "abstain")
    n, count, alpha, sigma, lower, radius, abstain = (
        golden.tensor(f"certificate/{name}").numpy() for name in names
    )
    np.testing.assert_allclose(smoothing.lower_bound(count, n, alpha), lower, rtol=1e-9)
    for row in range(len(n)):
        votes = torch.cat([torch.zeros(int(count[row])), torch.ones(int(n[row] - count[row]))])
        certificate = smoothing.from_votes(
            torch.zeros(1, 1, dtype=torch.long), votes.long()[None], sigma[row], float(alpha[row])
        )
        assert bool(certificate.prediction[0] == -1) is bool(abstain[row])
        assert float(certificate.radius[0]) == pytest.approx(radius[row], rel=1e-9, abs=1e-12)


def test_classes_and_radii_of_noisy_copies_are_the_published_ones() -> None:
    sigma, alpha = golden.number("smoothing/sigma"), golden.number("smoothing/alpha")
    network = golden.network("robust").eval().double()
    images = golden.images()[:6].double()
    noise = golden.tensor("smoothing/noise").double()
    logits = network((images[:, None] + sigma * noise).flatten(0, 1)).unflatten(0, noise.shape[:2])
    torch.testing.assert_close(logits, golden.tensor("smoothing/logits"))
    votes, selection = logits.argmax(2), int(golden.number("smoothing/selection"))
    found = smoothing.from_votes(votes[:, :selection], votes[:, selection:], sigma, alpha)
    assert torch.equal(found.prediction, golden.tensor("smoothing/certify/class"))
    torch.testing.assert_close(found.radius, golden.tensor("smoothing/certify/radius"))
    linf = found.radius / math.sqrt(images[0].numel())
    torch.testing.assert_close(linf, golden.tensor("smoothing/certify/linf_radius"))


def test_radii_of_a_mixture_are_the_published_ones() -> None:
    """Of counts of votes for the class of the smoothed network, which has weight alpha."""
    names = ("n", "count", "sigma", "failure", "alpha", "sampled_radius")
    table = (golden.tensor(f"mixture/certificate/{name}").tolist() for name in names)
    for total, count, sigma, failure, alpha, radius in zip(*table, strict=True):
        votes = (torch.arange(int(total)) >= count).long()[None]
        found = smoothing.from_votes(torch.zeros(1, 1).long(), votes, sigma, failure, alpha)
        assert float(found.radius) == pytest.approx(radius, rel=1e-9)
        assert int(found.prediction) == (0 if radius else -1)


def test_radii_of_a_mixture_by_two_probabilities_are_the_published_ones() -> None:
    names = ("probabilities", "sigma", "alpha", "smoothing_radius", "gaussian_lipschitz_radius")
    probabilities, sigma, alpha, expected, by_lipschitz = (
        golden.tensor(f"mixture/certificate/{name}").numpy() for name in names
    )
    second, first = np.sort(probabilities)[:, -2:].T
    found = smoothing.mixture_radius(first, second, sigma, alpha)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert (found >= by_lipschitz - 1e-12).all() and (found > by_lipschitz).any()
    assert (smoothing.mixture_radius(first, 1 - first, sigma, alpha) <= found + 1e-12).all()


def test_a_radius_grows_with_the_noise_and_the_votes_and_shrinks_with_confidence() -> None:
    def radius(right: int, sigma: float, failure: float) -> float:
        votes = torch.tensor([0] * right + [1] * (100 - right))[None]
        return float(smoothing.from_votes(votes[:, :1], votes, sigma, failure).radius[0])

    base = radius(90, 0.25, 0.01)
    assert radius(90, 0.5, 0.01) == pytest.approx(2 * base)
    assert radius(95, 0.25, 0.01) > base > radius(90, 0.25, 0.0001) > 0
    assert radius(50, 0.25, 0.01) == 0


def test_a_linf_radius_is_that_of_l2_inside_it() -> None:
    images, _ = tiny.batch(6)
    l2, linf = certify(images, Threat("l2", 0.1)), certify(images, Threat("linf", 0.1))
    assert torch.equal(l2.prediction, linf.prediction)
    torch.testing.assert_close(linf.radius, l2.radius / 8)
    assert (l2.radius > 0).any()


def test_the_class_is_bounded_by_other_copies_than_it_was_chosen_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Here by 90 that are all of class 2, and 10 of which none is."""
    votes = torch.tensor([2] * 90 + [0] * 10)
    monkeypatch.setattr(smoothing, "_votes", lambda *_: votes)
    monkeypatch.setattr(smoothing, "lower_bound", lambda counts, total, _: counts / total)
    knobs = smoothing.Knobs(selection=90, samples=10, failure=0.01)
    images, _ = tiny.batch(1)
    found = smoothing.certify(
        smoothed(), images, Threat("l2", 0.1), keys=torch.zeros(1), batch_size=64, knobs=knobs
    )
    assert (found.prediction, found.radius) == (-1, 0)


def test_an_images_certificate_depends_on_no_other_and_on_no_batch_size() -> None:
    images, _ = tiny.batch(5)
    keys = sample_keys(torch.arange(5), "test")
    threat = Threat("l2", 0.1)
    whole = certify(images, threat, 64)
    assert all(torch.equal(a, b) for a, b in zip(whole, certify(images, threat, 7), strict=True))
    alone = smoothing.certify(
        smoothed(), images[3:4], threat, keys=keys[3:4], batch_size=64, knobs=KNOBS
    )
    assert alone.prediction == whole.prediction[3] and alone.radius == whole.radius[3]


def test_nothing_inside_a_certified_radius_changes_the_smoothed_prediction() -> None:
    """Against the same network by ten thousand votes, in the direction of the other classes."""
    images, _ = tiny.batch(8)
    classifier = smoothed()
    found = certify(images, Threat("l2", 0.1))
    draws = torch.arange(10_000)
    held = 0
    for image, label, radius in zip(images, *found, strict=True):
        if label < 0:
            continue
        point = image[None].clone().requires_grad_()
        logits = classifier.network(point)
        (slope,) = torch.autograd.grad(logits.logsumexp(1).sum() - logits[0, label], point)
        moved = image + 0.99 * float(radius) * slope[0] / slope.norm()
        votes = smoothing._votes(classifier, moved, sample_keys(draws[:1])[0], draws, 1000)
        assert votes.mode().values == label
        held += 1
    assert held


def test_a_ledger_of_certificates_reads_back_and_has_the_same_bytes_each_time(tmp_path) -> None:
    certificate = Certificate(torch.tensor([3, -1]), torch.tensor([0.25, 0.0]).double())
    for name in "ab":
        save_certificates(certificate, torch.tensor([3, 4]), {"cell": "x"}, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with np.load(tmp_path / "a", allow_pickle=False) as file:
        assert file["prediction"].tolist() == [3, -1] and file["radius"].tolist() == [0.25, 0.0]
        assert file["labels"].tolist() == [3, 4]
