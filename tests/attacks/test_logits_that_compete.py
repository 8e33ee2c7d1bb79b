"""A constant added to all logits, or columns that never win, change no number of any attack."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.attacks import calls
from tests.attacks.trained import L2, LINF, trained
from tradeoff.attacks.outcome import Adversarial
from tradeoff.core.plugins import module_names
from tradeoff.core.study import Suite
from tradeoff.evaluation.anymodel import Evaluation, evaluate, suite_named
from tradeoff.networks.folding import fold_if_same
from tradeoff.networks.losses import resolution
from tradeoff.networks.threat import BallNorm, perturbation_norm

ATTACKS: dict[str, dict[str, Any]] = {
    "fgsm": {},
    "bim": {"steps": 4},
    "mifgsm": {"steps": 4},
    "pgd": {"steps": 5, "loss": "margin"},
    "apgd": {"steps": 8, "loss": "targeted_dlr", "targets": 3},
    "square": {"queries": 30},
    "autoattack": {"apgd_steps": 5, "fab_steps": 5, "targets": 3, "square_queries": 10},
    "fab": {"steps": 30},
    "fab_targeted": {"steps": 30, "targets": 3},
    "fmn": {"steps": 30, "gamma": 0.3},
    "deepfool": {"steps": 30},
    "carlini_wagner": {"steps": 20, "binary_search_steps": 2, "initial_constant": 1.0,
                       "learning_rate": 0.2},
    "lbfgs": {"steps": 8, "binary_search_steps": 2, "targets": 1},
    "jsma": {"targets": 1},
    "jsma_softmax": {"targets": 1},
    "ddn": {"steps": 30},
    "sigma_zero": {"steps": 20},
    "superdeepfool": {"steps": 4},
    "spatial": {"tries": 4},
    "confidence": {"steps": 4},
}  # fmt: skip
IN_A_NORM = ("fab", "fab_targeted", "fmn", "deepfool")
COMPONENTS = (*ATTACKS, "fmn l0")


class Altered(nn.Module):
    """The model with columns that never win, and a constant added to all others."""

    def __init__(
        self,
        model: nn.Module,
        constant: float,
        columns: tuple[float, ...],
        first: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.constant, self.first = model, constant, first
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images) + self.constant
        columns = self.columns.expand(len(logits), -1)
        return torch.cat([columns, logits] if self.first else [logits, columns], 1)


ALTERATIONS = {
    "a constant": (1000.0, ()),
    "a large constant": (-1e4, ()),
    "masked": (0.0, (-1e6, -1e9)),
    "masked by -inf": (0.0, (-torch.inf, -torch.inf)),
    "both": (1e4, (-1e9, -torch.inf)),
}


def attacked(name: str, norm: str, model: nn.Module) -> Adversarial:
    _, images, labels, keys = trained().first(20)
    name, _, other_norm = name.partition(" ")
    if name.startswith("fab"):
        return getattr(calls, name)(model, images, labels, norm, keys=keys, **ATTACKS[name])
    more = {"norm": other_norm or norm} if name in IN_A_NORM else {}
    threat = LINF if norm == "linf" else L2
    return getattr(calls, name)(model, images, labels, threat, keys=keys, **ATTACKS[name] | more)


def test_no_attack_is_left_out() -> None:
    assert set(module_names("attacks", "Knobs")) <= set(ATTACKS)


@cache
def plain(name: str, norm: str) -> Adversarial:
    return attacked(name, norm, trained().model)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.parametrize("name", COMPONENTS)
def test_no_attack_sees_a_difference(name: str, alteration: str, norm: str) -> None:
    model, images, labels, _ = trained().first(20)
    altered = Altered(model, *ALTERATIONS[alteration]).eval()
    expected, found = plain(name, norm), attacked(name, norm, altered)
    fooled = [model(result.images).argmax(1) != labels for result in (expected, found)]
    assert torch.equal(*fooled)
    one, other = (perturbation_norm(a.images - images, norm) for a in (expected, found))
    lost = 0.02 if alteration in ("a large constant", "both") else 0.005
    assert float(other.mean()) == pytest.approx(float(one.mean()), rel=lost)


@cache
def shrunk(name: str) -> Suite:
    """A suite of the study with all of its attacks, each with a few steps."""
    few = {"steps": 4, "apgd_steps": 4, "fab_steps": 4, "queries": 8, "square_queries": 8,
           "binary_search_steps": 2, "inner_steps": 3, "halvings": 3}  # fmt: skip
    whole = suite_named(name)
    attacks = tuple(
        replace(attack, knobs=type(attack.knobs)(**{
            knob: min(few[knob], value) if knob in few else value
            for knob, value in attack.knobs.model_dump().items()
        }))
        for attack in whole.attacks
    )  # fmt: skip
    return replace(whole, attacks=attacks, gradient_checks=None)


@cache
def evaluated(name: str, norm: BallNorm) -> Evaluation:
    _, images, labels, _ = trained().first(12)
    threat = LINF if norm == "linf" else L2
    return evaluate(trained().model, images, labels, threat, shrunk(name))


@pytest.mark.parametrize("name", ["bounded", "autoattack", "minimal", "square"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    constant=st.floats(-1e3, 1e3) | st.sampled_from([-1e4, 1e4]),
    low=st.lists(st.sampled_from([-2e4, -1e6, -1e9, -1e30, -torch.inf]), max_size=4),
    first=st.booleans(),
    norm=st.sampled_from(["linf", "l2"]),
)
def test_no_suite_sees_a_difference(
    name: str, constant: float, low: list[float], first: bool, norm: BallNorm
) -> None:
    """Columns that never win may be before the others as well as behind them."""
    _, images, labels, _ = trained().first(12)
    expected = evaluated(name, norm)
    altered = Altered(trained().model, constant, tuple(low), first).eval()
    threat = LINF if norm == "linf" else L2
    found = evaluate(altered, images, labels + first * len(low), threat, shrunk(name))
    assert (found.metrics["NA"], found.metrics["RA"]) == (
        expected.metrics["NA"], expected.metrics["RA"])  # fmt: skip
    assert np.array_equal(found.ledger["fooled"].any(1), expected.ledger["fooled"].any(1))
    if name == "minimal" and abs(constant) <= 1e3:  # beyond it float32 itself loses digits
        one, other = (result.metrics["norms"][norm]["APN"] for result in (expected, found))
        assert other == pytest.approx(one, rel=0.005)


def test_the_resolution_is_that_of_logits_that_compete() -> None:
    logits = torch.tensor([[3.0, 2.0, -1.0, -4.0]])
    expected = resolution(logits)
    for constant, columns in ALTERATIONS.values():
        low = torch.tensor([columns])
        found = resolution(torch.cat([logits + constant, low], 1))
        # What float32 itself loses of logits of this size is the only difference.
        assert found - expected <= 5e-7 * abs(constant)
    two = torch.tensor([[3.0, 2.0]])
    masked = torch.cat([two, torch.tensor([[-1e9, -torch.inf]])], 1)
    assert resolution(masked) <= 4e-5


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_no_wrong_twin_is_taken_for_the_model(alteration: str) -> None:
    """The network's BatchNorm comes first in time, and second among its children."""

    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1)
            self.last = nn.Linear(64, 5)
            self.norm.running_mean.fill_(0.3)  # type: ignore[union-attr]

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(self.convolution(self.norm(inputs)).flatten(1))

    torch.manual_seed(0)
    _, images, _, _ = trained().first(20)
    crossed = Altered(Crossed(), *ALTERATIONS[alteration]).eval()
    assert fold_if_same(crossed, images) is crossed
    sound = Altered(trained().model, *ALTERATIONS[alteration]).eval()
    assert fold_if_same(sound, images) is not sound
