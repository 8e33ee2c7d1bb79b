"""AutoAttack (Croce & Hein 2020, section 5): attacks in order, each on what is still robust.

`standard` and `plus` have the budgets of the paper and of its reference implementation.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.apgd import apgd, apgd_targeted
from tradeoff.attacks.fab import fab, fab_targeted
from tradeoff.attacks.outcome import Attempt, Best, batched_logits, check_inputs, is_fooled
from tradeoff.attacks.square import square
from tradeoff.core.schema import PositiveInt, Section
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, project

Bounded = Callable[..., Attempt]


class Knobs(Section):
    """How much each component may do; the defaults are the paper's."""

    version: Literal["standard", "plus"] = "standard"
    apgd_steps: PositiveInt = 100
    fab_steps: PositiveInt = 100
    targets: PositiveInt = 9
    square_queries: PositiveInt = 5000
    square_rescale_schedule: bool = False
    plus_restarts: PositiveInt = 5  # of apgd-ce, apgd-dlr and fab in "plus"; all else runs once


PAPER = Knobs()


class Component(NamedTuple):
    """What one component did to the samples that were robust until then."""

    name: str
    rows: Tensor  # (M,) which samples these are
    attempt: Attempt  # on them
    logits: Tensor  # the judge's, of the attempt's images, (M, classes)


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    budget: Knobs = PAPER,
    batch_size: int = 512,
) -> Attempt:
    """The worst case over the ensemble's components, and their forward passes together.

    Args:
        budget: its version is "standard" (apgd-ce, apgd-t, fab-t, square) or "plus" (apgd-ce,
            apgd-dlr, fab, square, apgd-t, fab-t, the first three with restarts).
        batch_size: the most images, targets included, that go through the model at once.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`), or fewer than four classes.
    """
    best, queries = Best(images), torch.zeros_like(labels)
    for _, rows, attempt, logits in components(
        model, images, labels, threat, keys=keys, budget=budget, batch_size=batch_size
    ):
        best.update(attempt.images, logits, labels[rows], at=rows)
        queries[rows] += attempt.queries
    return Attempt(best.images, queries)


def components(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    budget: Knobs = PAPER,
    judge: nn.Module | None = None,
    batch_size: int = 512,
) -> Iterator[Component]:
    """The ensemble step by step: the clean images, as "clean", and each component.

    Other arguments and errors are those of `autoattack`.

    Args:
        judge: the network that says who is robust, such as the one that `model` is the folded
            twin of; None: the model.
    """
    check_inputs(model, images, labels)
    judge = judge or model
    logits = batched_logits(judge, images, batch_size)
    rows = torch.arange(len(labels), device=labels.device)
    yield Component("clean", rows, Attempt(images, torch.ones_like(labels)), logits)
    for name, attack in attacks(budget).items():
        robust = ~is_fooled(logits, labels[rows])
        rows, logits = rows[robust], logits[robust]
        attempt = Attempt(images[rows], torch.zeros_like(rows))
        if len(rows):
            attempt = attack(
                model,
                images[rows],
                labels[rows],
                threat,
                keys=sample_keys(keys[rows], name),
                batch_size=batch_size,
            )
            logits = batched_logits(judge, attempt.images, batch_size)
        yield Component(name, rows, attempt, logits)


def attacks(budget: Knobs) -> dict[str, Bounded]:
    """The components of a version in their order, each a bounded attack with its budget."""
    steps, restarts = budget.apgd_steps, budget.plus_restarts
    apgd_t = partial(apgd_targeted, steps=steps, targets=budget.targets)
    fab_t = partial(_within, partial(fab_targeted, steps=budget.fab_steps, targets=budget.targets))
    random_search = partial(
        square, queries=budget.square_queries, rescale_schedule=budget.square_rescale_schedule
    )
    if budget.version == "standard":
        apgd_ce = partial(apgd, loss="ce", steps=steps)
        return {"apgd-ce": apgd_ce, "apgd-t": apgd_t, "fab-t": fab_t, "square": random_search}
    return {
        "apgd-ce": partial(apgd, loss="ce", steps=steps, restarts=restarts),
        "apgd-dlr": partial(apgd, loss="dlr", steps=steps, restarts=restarts),
        "fab": partial(_within, partial(fab, steps=budget.fab_steps, restarts=restarts)),
        "square": random_search,
        "apgd-t": apgd_t,
        "fab-t": fab_t,
    }


def _within(
    attack: Bounded,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    batch_size: int = 512,
) -> Attempt:
    """A minimum-norm attack as a bounded one: it stops at epsilon; what lies beyond is projected.

    Projection keeps the promise that a result is inside the threat, fooling or not.
    """
    nearest, queries = attack(
        model,
        images,
        labels,
        threat.norm,
        keys=keys,
        enough=threat.epsilon,
        start_radius=threat.epsilon,
        batch_size=batch_size,
    )
    return Attempt(project(nearest, images, threat), queries)
