"""AutoAttack (Croce & Hein 2020, section 5): attacks in order, each on what is still robust.

`standard` and `plus` have the budgets of the paper and of its reference implementation.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from tradeoff.attacks.apgd import apgd, apgd_targeted
from tradeoff.attacks.fab import fab, fab_targeted
from tradeoff.attacks.square import square
from tradeoff.core.attempt import Attempt, batched_logits, check_inputs, is_fooled
from tradeoff.core.fields import PositiveInt, Section
from tradeoff.core.losses import margin
from tradeoff.core.randomness import sample_keys
from tradeoff.core.threat import Threat, project

Version = Literal["standard", "plus"]
Bounded = Callable[..., Attempt]


class Knobs(Section):
    version: Literal["standard", "plus"]
    apgd_steps: PositiveInt
    fab_steps: PositiveInt
    targets: PositiveInt
    square_queries: PositiveInt
    plus_restarts: PositiveInt


@dataclass(frozen=True)
class Budget:
    """How much each component may do; the defaults are the paper's."""

    apgd_steps: int = 100
    fab_steps: int = 100
    targets: int = 9
    square_queries: int = 5000
    plus_restarts: int = 5  # of apgd-ce, apgd-dlr and fab in "plus"; all else runs once


class Component(NamedTuple):
    """The state after one component: images (N, C, H, W), all else (N,)."""

    name: str
    images: Tensor  # the best so far: the first that fools, else the one of lowest margin
    fooled: Tensor  # by this component or one before
    attacked: Tensor  # whether this component attacked the sample: it was robust until then
    queries: Tensor  # forward passes of this component, 0 where it did not attack


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    version: Version = "standard",
    budget: Budget | None = None,
    batch_size: int = 512,
) -> Attempt:
    """The worst case over the ensemble's components, and their forward passes together.

    Args:
        version: "standard" (apgd-ce, apgd-t, fab-t, square) or "plus" (apgd-ce, apgd-dlr, fab,
            square, apgd-t, fab-t, the first three with restarts).
        budget: None is the paper's.
        batch_size: the most images, targets included, that go through the model at once.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`), or fewer than four classes.
    """
    queries = torch.zeros_like(labels)
    for component in components(
        model,
        images,
        labels,
        threat,
        keys=keys,
        version=version,
        budget=budget,
        batch_size=batch_size,
    ):
        queries += component.queries
    return Attempt(component.images, queries)


def components(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    *,
    keys: Tensor,
    version: Version = "standard",
    budget: Budget | None = None,
    batch_size: int = 512,
) -> Iterator[Component]:
    """The ensemble step by step: what is known after the clean images and each component.

    The first item is "clean". Arguments and errors are those of `autoattack`.
    """
    check_inputs(model, images, labels)
    logits = batched_logits(model, images, batch_size)
    best, lowest = images.clone(), torch.full_like(logits[:, 0], math.inf)
    fooled = is_fooled(logits, labels)
    everyone = torch.ones_like(fooled)
    yield Component("clean", best.clone(), fooled.clone(), everyone, torch.ones_like(labels))
    for name, attack in attacks(version, budget or Budget()).items():
        left = ~fooled
        rows, queries = left.nonzero().squeeze(1), torch.zeros_like(labels)
        if len(rows):
            attempt = attack(
                model,
                images[rows],
                labels[rows],
                threat,
                keys=sample_keys(keys[rows], name),
                batch_size=batch_size,
            )
            logits = batched_logits(model, attempt.images, batch_size)
            margins, fooled_now = margin(logits, labels[rows]), is_fooled(logits, labels[rows])
            better = fooled_now | (margins < lowest[rows])
            best[rows[better]] = attempt.images[better]
            lowest[rows[better]] = margins[better]
            fooled[rows], queries[rows] = fooled_now, attempt.queries
        yield Component(name, best.clone(), fooled.clone(), left, queries)


def attacks(version: Version, budget: Budget) -> dict[str, Bounded]:
    """The components of a version in their order, each a bounded attack with its budget.

    Raises:
        ValueError: unknown version.
    """
    steps, restarts = budget.apgd_steps, budget.plus_restarts
    apgd_t = partial(apgd_targeted, steps=steps, targets=budget.targets)
    fab_t = partial(_within, partial(fab_targeted, steps=budget.fab_steps, targets=budget.targets))
    random_search = partial(square, queries=budget.square_queries)
    if version == "standard":
        apgd_ce = partial(apgd, loss="ce", steps=steps)
        return {"apgd-ce": apgd_ce, "apgd-t": apgd_t, "fab-t": fab_t, "square": random_search}
    if version == "plus":
        return {
            "apgd-ce": partial(apgd, loss="ce", steps=steps, restarts=restarts),
            "apgd-dlr": partial(apgd, loss="dlr", steps=steps, restarts=restarts),
            "fab": partial(_within, partial(fab, steps=budget.fab_steps, restarts=restarts)),
            "square": random_search,
            "apgd-t": apgd_t,
            "fab-t": fab_t,
        }
    raise ValueError(f"version is {version!r}; allowed are 'standard' and 'plus'")


def parts(version: Version, **budget: int) -> dict[str, Bounded]:
    """`attacks`, for the budgets of a suite."""
    return attacks(version, Budget(**budget))


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
