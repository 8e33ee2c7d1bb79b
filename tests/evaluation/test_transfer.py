"""Transfer: roles, exclusions, the table by hand, and what must hold of trained networks."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.attacks.calls import pgd
from tests.attacks.trained import digits
from tradeoff.evaluation.transfer import (
    Transferred,
    role,
    save_transferred,
    transfer,
    transfer_examples,
    transfer_table,
)
from tradeoff.networks.ascent import InnerAttack, ascend_cross_entropy
from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

LINF = Threat("linf", 0.15)
PGD = InnerAttack(LINF, 10, 0.2 * LINF.epsilon)


class Identity(NamedTuple):
    defense: str
    architecture: str
    seed: int


# --- role -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (("at", "resnet18", 0), ("at", "resnet18", 1), "gray_box"),
        (("standard", "resnet18", 0), ("standard", "resnet18", 1), "gray_box"),
        (("at", "vgg16", 0), ("at", "resnet18", 0), "other_architecture"),
        (("trades", "vgg16", 0), ("at", "resnet18", 0), "other_architecture"),
        (("standard", "vgg16", 0), ("standard", "resnet18", 0), "other_architecture"),
        (("trades", "resnet18", 0), ("at", "resnet18", 0), "other_defense"),
        (("at", "resnet18", 0), ("standard", "resnet18", 0), "other_defense"),
        (("standard", "resnet18", 0), ("at", "resnet18", 0), "natural_source"),
        (("standard", "vgg16", 0), ("at", "resnet18", 0), "natural_source"),
    ],
)
def test_role_of_a_pair(source, target, expected):
    assert role([Identity(*source)], Identity(*target), "standard") == expected


def test_role_of_an_ensemble():
    members = [Identity("at", "resnet18", seed) for seed in (0, 1)]
    assert role(members, Identity("at", "resnet18", 2), "standard") == "ensemble"


def test_no_model_is_its_own_surrogate():
    target = Identity("at", "resnet18", 0)
    for sources in ([], [target], [Identity("at", "vgg16", 0), target]):
        with pytest.raises(ValueError, match="none of them itself"):
            role(sources, target, "standard")


# --- transfer_table ---------------------------------------------------------------------------


def test_table_by_hand():
    right = {"a": np.array([True, True, True, False]), "b": np.zeros(4, dtype=bool)}
    wrong = np.array([True, False, False, False])
    table = transfer_table(Transferred(right, {("b", "a"): wrong, ("a", "b"): wrong}))
    first, second = table.to_dict("records")
    assert first == {
        "source": "b",
        "target": "a",
        "images": 4,
        "fooled": pytest.approx(1 / 3),
        "RA": 0.5,
    }
    assert math.isnan(second["fooled"]) and second["RA"] == 0


def test_what_became_of_every_image_is_kept(tmp_path):
    file = tmp_path / "folder" / "transfer.npz"
    images = digits()[1][:200]
    save_transferred(outcome(), images, file)
    kept = np.load(file, allow_pickle=False)
    sources, targets = list(kept["sources"]), list(kept["targets"])
    assert {source for source, _ in outcome().fooled} == set(sources)
    for at, source in enumerate(sources):
        for to, target in enumerate(targets):
            assert kept["tried"][at, to] == ((source, target) in outcome().fooled)
            if kept["tried"][at, to]:
                assert (kept["fooled"][at, to] == outcome().fooled[source, target]).all()
    for to, target in enumerate(targets):
        assert (kept["right"][to] == outcome().correct[target]).all()
    assert (kept["labels"] == images.numpy()).all()


def test_table_of_a_single_model_is_empty():
    table = transfer_table(Transferred({"a": np.ones(1, dtype=bool)}, {}))
    assert len(table) == 0 and list(table.columns) == ["source", "target", "images", "fooled", "RA"]


# --- transfer on networks ---------------------------------------------------------------------


def held_out(count: int = 200) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and keys that no network was trained on."""
    images, labels = digits()
    return images[:count], labels[:count], sample_keys(torch.arange(count), "transfer")


@cache
def network(seed: int, epsilon: float) -> nn.Module:
    """Trained on digits in about a second; adversarially unless epsilon is 0."""
    images, labels = (part[400:] for part in digits())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    search = InnerAttack(Threat("linf", epsilon), 3, epsilon / 2)
    shuffle = generator("shuffle", seed)
    for _ in range(8):
        for batch in torch.randperm(len(labels), generator=shuffle).split(128):
            x, y = images[batch], labels[batch]
            if epsilon:
                x = ascend_cross_entropy(model, x, y, x, search)
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def models() -> dict[str, nn.Module]:
    names = {"natural": (0, 0.0), "natural 1": (1, 0.0), "at": (0, 0.15), "at 1": (1, 0.15)}
    return {name: network(*settings) for name, settings in names.items()}


@cache
def outcome() -> Transferred:
    images, labels, keys = held_out()
    ensembles = {"both natural": ["natural", "natural 1"], "mixed": ["natural 1", "at 1"]}
    return transfer(models(), images, labels, PGD, keys=keys, ensembles=ensembles, batch_size=64)


def fooled(source: str, target: str) -> float:
    table = transfer_table(outcome()).set_index(["source", "target"])
    return float(table.loc[(source, target), "fooled"])


def test_every_model_meets_every_source_that_it_has_no_part_in():
    names = list(models())
    pairs = {(source, target) for source in names for target in names if source != target}
    pairs |= {("both natural", "at"), ("both natural", "at 1")}
    pairs |= {("mixed", "natural"), ("mixed", "at")}
    assert set(outcome().fooled) == pairs
    assert set(outcome().correct) == set(names)
    assert all(wrong.shape == (200,) for wrong in outcome().fooled.values())


def test_only_the_sources_and_ensembles_attack():
    images, labels, keys = held_out()
    found = transfer(
        models(), images[:20], labels[:20], PGD, keys=keys[:20], sources=["at"],
        ensembles={"mixed": ["natural 1", "at 1"]}, batch_size=20
    )  # fmt: skip
    assert {source for source, _ in found.fooled} == {"at", "mixed"}
    assert set(found.correct) == set(models())
    for target in ("natural", "natural 1", "at 1"):
        assert np.array_equal(found.fooled["at", target], outcome().fooled["at", target][:20])


def test_a_model_judges_itself_what_is_made_in_its_place():
    """Examples are made on `attacked`; every model, that one too, is asked by its own name."""
    images, labels, keys = held_out()
    both = {name: models()[name] for name in ("natural", "at")}
    swapped = {"natural": models()["natural 1"], "at": models()["at"]}
    found = transfer(both, images, labels, PGD, keys=keys, attacked=swapped, batch_size=64)
    assert np.array_equal(found.correct["natural"], outcome().correct["natural"])
    assert np.array_equal(found.fooled["natural", "at"], outcome().fooled["natural 1", "at"])
    assert np.array_equal(found.fooled["at", "natural"], outcome().fooled["at", "natural"])


def test_robust_surrogates_do_not_transfer_worse_to_robust_targets():
    """On such small networks the two kinds are close; on large ones robust ones are far ahead."""
    robust = (fooled("at 1", "at") + fooled("at", "at 1")) / 2
    natural = (fooled("natural 1", "at") + fooled("natural", "at 1")) / 2
    assert robust > natural - 0.03


def test_natural_target_is_fooled_far_more_than_a_robust_one():
    assert fooled("natural", "natural 1") > 2 * fooled("natural", "at")


def test_white_box_attack_is_stronger():
    images, labels, keys = held_out()
    model = network(0, 0.15)
    found = pgd(model, images, labels, LINF, keys=keys, steps=20, relative_step_size=0.2)
    white_box = (model(found.images).argmax(1) == labels).float().mean()
    table = transfer_table(outcome())
    assert (table.loc[table["target"] == "at", "RA"] > float(white_box)).all()


def test_examples_stay_inside_the_threat_and_raise_every_surrogates_loss():
    images, labels, keys = held_out(50)
    surrogates = [network(0, 0.0), network(1, 0.15)]
    for threat in (LINF, Threat("l2", 0.8)):
        inner = InnerAttack(threat, 10, 0.2 * threat.epsilon)
        examples = transfer_examples(surrogates, images, labels, inner, keys)
        assert examples.min() >= 0 and examples.max() <= 1
        norms = perturbation_norm(examples - images, threat.norm)
        assert norms.max() <= threat.epsilon * (1 + 1e-5)
        for model in surrogates:
            before, after = (F.cross_entropy(model(x), labels) for x in (images, examples))
            assert after > 2 * before


def test_ensemble_ascends_the_mean_of_the_losses():
    """One step on linear models: along the sign of the mean of their gradients."""
    images, labels, keys = held_out(8)
    draws = generator("linear")
    surrogates = [nn.Sequential(nn.Flatten(), nn.Linear(64, 10)) for _ in range(2)]
    for model in surrogates:
        model[1].weight.data = torch.randn(10, 64, generator=draws)
        model[1].bias.data = torch.zeros(10)
    one_step = InnerAttack(Threat("linf", 0.01), 1, 0.02)
    found = transfer_examples(surrogates, images, labels, one_step, keys)
    inner = ((images > 0.02) & (images < 0.98)).flatten(1)
    steps = torch.stack([model[1].weight.T @ _slope(model, images, labels) for model in surrogates])
    expected = steps.mean(0).T.sign()
    moved = (found - images).flatten(1).sign()
    assert (moved == expected)[inner].float().mean() > 0.98


def _slope(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Derivative of the cross-entropy by the logits, (classes, N)."""
    return (model(images).softmax(1) - F.one_hot(labels, 10)).T


def test_independent_of_the_batch():
    images, labels, keys = held_out(30)
    few = {name: models()[name] for name in ("natural", "at")}
    runs = [transfer(few, images, labels, PGD, keys=keys, batch_size=size) for size in (7, 30)]
    for pair, wrong in runs[0].fooled.items():
        np.testing.assert_array_equal(wrong, runs[1].fooled[pair])


@pytest.mark.parametrize(
    ("members", "name", "message"),
    [
        (["at", "bt"], "e", "no model is called bt"),
        (["at"], "e", "two or more"),
        (["at", "at"], "e", "two or more"),
        (["at", "natural"], "at", "same name"),
    ],
)
def test_unusable_ensembles(members, name, message):
    images, labels, keys = held_out(2)
    with pytest.raises(ValueError, match=message):
        transfer(models(), images, labels, PGD, keys=keys, ensembles={name: members}, batch_size=2)


def test_unusable_inputs():
    images, labels, keys = held_out(2)
    with pytest.raises(ValueError, match="labels"):
        transfer(models(), images, labels + 10, PGD, keys=keys, batch_size=2)
