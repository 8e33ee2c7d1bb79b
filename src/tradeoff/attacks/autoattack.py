"""AutoAttack (Croce & Hein 2020, section 5): attacks in order, each on what is still robust.

`standard` and `plus` have the budgets of the paper and of its reference implementation.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.apgd import LOSSES, apgd
from tradeoff.attacks.apgd import Knobs as Apgd
from tradeoff.attacks.fab import Knobs as Fab
from tradeoff.attacks.fab import fab
from tradeoff.attacks.outcome import (
    Adversarial,
    Best,
    Checked,
    batched_logits,
    check_inputs,
    is_fooled,
)
from tradeoff.attacks.square import Knobs as Square
from tradeoff.attacks.square import square
from tradeoff.core.schema import PositiveInt, Section
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, project

Bounded = Callable[..., Adversarial]


class Knobs(Section):
    """How much each component may do; the defaults are the paper's.

    The version "standard" runs apgd-ce, apgd-t, fab-t and square; "plus" runs apgd-ce, apgd-dlr
    and fab with restarts, square, apgd-t and fab-t.
    """

    version: Literal["standard", "plus"] = "standard"
    apgd_steps: PositiveInt = 100
    fab_steps: PositiveInt = 100
    targets: PositiveInt = 9
    square_queries: PositiveInt = 5000
    square_rescale_schedule: bool = False
    plus_restarts: PositiveInt = 5  # of apgd-ce, apgd-dlr and fab in "plus"; the others run once


PAPER = Knobs()


class Component(NamedTuple):
    """What one component did to the samples that were robust until then."""

    name: str
    rows: Tensor  # (M,) which samples these are
    adversarial: Adversarial  # what the component made of them
    logits: Tensor  # (M, classes) the judge's logits of the adversarial images


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
    *,
    batch_size: int = 512,
) -> Adversarial:
    """The worst case over the ensemble's components, and their forward passes together.

    Args:
        batch_size: the most images, targets included, that go through the model at once.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`).
    """
    best, queries = Best(images), torch.zeros_like(labels)
    for _, rows, adversarial, logits in components(
        model, images, labels, knobs, threat, keys, batch_size=batch_size
    ):
        best.update(adversarial.images, logits, labels[rows], at=rows)
        queries[rows] += adversarial.queries
    return Adversarial(best.images, queries)


def components(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Knobs,
    threat: Threat,
    keys: Tensor,
    *,
    judge: nn.Module | None = None,
    batch_size: int = 512,
) -> Iterator[Component]:
    """The ensemble step by step: the clean images, as "clean", and each component.

    The other arguments and the errors are those of `autoattack`. For fewer than four classes
    APGD's losses are not all defined: the components whose loss is not are left out.

    Args:
        judge: the network that says which samples are robust, such as the one whose folded twin
            is attacked; None means the model.
    """
    check_inputs(model, images, labels)
    judge, model = judge or model, Checked(model)
    logits = batched_logits(judge, images, batch_size)
    rows = torch.arange(len(labels), device=labels.device)
    yield Component("clean", rows, Adversarial(images, torch.ones_like(labels)), logits)
    for name, (attack, budget) in attacks(knobs, threat, logits.shape[1]).items():
        robust = ~is_fooled(logits, labels[rows])
        rows, logits = rows[robust], logits[robust]
        adversarial = Adversarial(images[rows], torch.zeros_like(rows))
        if len(rows):
            adversarial = attack(
                model,
                images[rows],
                labels[rows],
                budget,
                threat,
                sample_keys(keys[rows], name),
                batch_size=batch_size,
            )
            logits = batched_logits(judge, adversarial.images, batch_size)
        yield Component(name, rows, adversarial, logits)


def attacks(
    knobs: Knobs, threat: Threat, classes: int | None = None
) -> dict[str, tuple[Bounded, Section]]:
    """The components of a version in their order, each an attack and its budget.

    Args:
        classes: how many there are; None: enough for every loss.
    """
    targets, restarts = knobs.targets, knobs.plus_restarts
    ascent = partial(Apgd, targets=targets, steps=knobs.apgd_steps)
    boundary = partial(
        Fab,
        norm=threat.norm,
        steps=knobs.fab_steps,
        enough=threat.epsilon,
        start_radius=threat.epsilon,
    )
    squares = Square(
        queries=knobs.square_queries, restarts=1, rescale_schedule=knobs.square_rescale_schedule
    )
    apgd_t = (apgd, ascent(loss="targeted_dlr", restarts=1))
    fab_t = (_fab_within, boundary(targets=targets, restarts=1))
    components: dict[str, tuple[Bounded, Section]]
    if knobs.version == "standard":
        components = {
            "apgd-ce": (apgd, ascent(loss="ce", restarts=1)),
            "apgd-t": apgd_t,
            "fab-t": fab_t,
            "square": (square, squares),
        }
    else:
        components = {
            "apgd-ce": (apgd, ascent(loss="ce", restarts=restarts)),
            "apgd-dlr": (apgd, ascent(loss="dlr", restarts=restarts)),
            "fab": (_fab_within, boundary(targets=None, restarts=restarts)),
            "square": (square, squares),
            "apgd-t": apgd_t,
            "fab-t": fab_t,
        }
    return {
        name: (attack, budget)
        for name, (attack, budget) in components.items()
        if classes is None or not isinstance(budget, Apgd) or classes >= LOSSES[budget.loss].classes
    }


def _fab_within(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    knobs: Fab,
    threat: Threat,
    keys: Tensor,
    *,
    batch_size: int,
) -> Adversarial:
    """FAB as a bounded attack: what it finds beyond epsilon is projected into the threat."""
    nearest, queries = fab(model, images, labels, knobs, threat, keys, batch_size=batch_size)
    return Adversarial(project(nearest, images, threat), queries)
