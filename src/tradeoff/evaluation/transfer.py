"""Transfer attacks: adversarial images made on surrogates and tried on every other model.

The attacker has no access to the target, only to models of the same data (Papernot et al. 2016), or
to a substitute that was trained on the target's answers (`evaluation.extraction`).
What a target loses this way, a white-box attack must take as well; if it does not, the target's
gradients mislead it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.outcome import batched_logits, check_inputs, is_fooled
from tradeoff.attacks.pgd import keyed_start
from tradeoff.attacks.suites.ledger import Array
from tradeoff.core.files import atomic_write
from tradeoff.core.study import Cell
from tradeoff.core.tables import EXTRACTION
from tradeoff.networks.ascent import InnerAttack, ascend

Role = Literal["gray_box", "natural_source", "other_architecture", "other_defense", "ensemble"]


class Transferred(NamedTuple):
    """What became of every image.

    Attributes:
        correct: by target, which images it classifies correctly as they are, (n,) bool.
        fooled: by (source, target), which transferred images the target misclassifies, (n,) bool.
    """

    correct: dict[str, Array]
    fooled: dict[tuple[str, str], Array]


def role(sources: Sequence[Cell], target: Cell, control: str | None) -> Role:
    """What an attacker with these surrogates knows of the target.

    gray_box: same architecture and defense, other seed. natural_source: a naturally trained
    surrogate against a defense, of whatever architecture. other_architecture: of the same or of
    another defense. other_defense: on the same architecture. ensemble: several surrogates, a gray
    box too where one of them is of the target's architecture and defense. The rest are black boxes.

    Raises:
        ValueError: there is no surrogate, or the target is one.
    """
    identities = [(source.architecture, source.defense, source.seed) for source in sources]
    if not identities or (target.architecture, target.defense, target.seed) in identities:
        raise ValueError("a target is attacked from at least one model, none of them itself")
    if len(identities) > 1:
        return "ensemble"
    architecture, defense, _ = identities[0]
    if (architecture, defense) == (target.architecture, target.defense):
        return "gray_box"
    if defense == control != target.defense:
        return "natural_source"
    return "other_architecture" if architecture != target.architecture else "other_defense"


def transfer(
    models: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    inner: InnerAttack,
    *,
    keys: Tensor,
    attacked: Mapping[str, nn.Module] | None = None,
    sources: Sequence[str] | None = None,
    ensembles: Mapping[str, Sequence[str]] | None = None,
    substitutes: Mapping[str, nn.Module] | None = None,
    batch_size: int,
    report: Callable[[str], None] = lambda source: None,
) -> Transferred:
    """Try the examples of each source and ensemble on every model that has no part in them, and
    those of a model's substitute on that model.

    Args:
        models: in eval mode, by name.
        inner: the threat, and PGD's steps on the surrogates.
        keys: (N,) random keys of the samples; a sample starts alike on every surrogate.
        attacked: what examples are made on in a model's place, while it judges; None: the model.
        sources: the models, by name, on which examples are made; None: on all.
        ensembles: the models' names in each ensemble, by its name.
        substitutes: in eval mode, by the model's name; sources called `extraction_of` it.
        report: called with each source when it is done.

    Raises:
        ValueError: unsuitable inputs (`check_inputs`); or an ensemble has fewer than two members,
            one twice or an unknown one, or a model's name.
    """
    for model in models.values():
        check_inputs(model, images, labels)
    ensembles = ensembles or {}
    _check_ensembles(models, ensembles)
    correct = {
        name: ~_misclassified(model, images, labels, batch_size).cpu().numpy()
        for name, model in models.items()
    }
    single = {name: (name,) for name in (models if sources is None else sources)}
    made_on = models if attacked is None else attacked
    attackers = {
        source: (
            [made_on[name] for name in members],
            [name for name in models if name not in members],
        )
        for source, members in (single | dict(ensembles)).items()
    }
    for victim, network in (substitutes or {}).items():
        attackers[extraction_of(victim)] = [network], [victim]
    fooled = {}
    for source, (surrogates, targets) in attackers.items():
        parts = [
            transfer_examples(surrogates, images[batch], labels[batch], inner, keys[batch])
            for batch in torch.arange(len(labels), device=labels.device).split(batch_size)
        ]
        examples = torch.cat(parts)
        for target in targets:
            wrong = _misclassified(models[target], examples, labels, batch_size)
            fooled[source, target] = wrong.cpu().numpy()
        report(source)
    return Transferred(correct, fooled)


def extraction_of(victim: str) -> str:
    """What a substitute is called as a source."""
    return f"{EXTRACTION}-{victim}"


def transfer_examples(
    surrogates: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    inner: InnerAttack,
    keys: Tensor,
) -> Tensor:
    """PGD on the mean of the surrogates' cross-entropies, the last iterate, (N, C, H, W).

    Unlike `attacks.pgd` it goes on when the surrogates are fooled: what fools them by far is more
    likely to fool another model. The mean is taken over losses, so that no surrogate's scale of
    logits outweighs the others as it would in their mean (Dong et al. 2018).
    """

    def objective(candidates: Tensor) -> Tensor:
        losses = [
            F.cross_entropy(model(candidates), labels, reduction="none") for model in surrogates
        ]
        return torch.stack(losses).mean(0)

    return ascend(objective, images, keyed_start(images, keys, inner.threat), inner)


def transfer_table(outcome: Transferred) -> pd.DataFrame:
    """One row per source and target.

    Columns:
        source, target: names.
        images: how many were tried.
        fooled: the share of transferred images that the target misclassifies, among those it
            classifies correctly as they are, in [0, 1]; NaN if it classifies none correctly.
        RA: the target's robust accuracy under this attack alone, in [0, 1].
    """
    rows = []
    for (source, target), wrong in outcome.fooled.items():
        correct = outcome.correct[target]
        fooled = wrong[correct].mean() if correct.any() else float("nan")
        rows.append((source, target, len(correct), fooled, (correct & ~wrong).mean()))
    return pd.DataFrame(rows, columns=["source", "target", "images", "fooled", "RA"])


def save_transferred(outcome: Transferred, labels: Tensor, path: Path) -> None:
    """Write what became of every image as an .npz, which `numpy.load(path)` alone reads.

    Axes: s sources, t targets, n images. labels (n,) int16; sources (s,), targets (t,) str;
    right (t, n) bool; tried (s, t) bool, false where the target is among the surrogates, or they
    are another's substitute; fooled (s, t, n) bool.
    """
    targets = list(outcome.correct)
    sources = list(dict.fromkeys(source for source, _ in outcome.fooled))
    nothing = np.zeros(len(labels), dtype=np.bool_)
    pairs = [[(source, target) for target in targets] for source in sources]
    columns: dict[str, Any] = {
        "labels": labels.cpu().numpy().astype(np.int16),
        "sources": np.array(sources, dtype=np.str_),
        "targets": np.array(targets, dtype=np.str_),
        "right": np.stack([outcome.correct[target] for target in targets]),
        "tried": np.array([[pair in outcome.fooled for pair in row] for row in pairs]),
        "fooled": np.array([[outcome.fooled.get(pair, nothing) for pair in row] for row in pairs]),
    }
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(file, **columns)  # not compressed: every zlib writes other bytes


def _misclassified(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    return is_fooled(batched_logits(model, images, batch_size), labels)


def _check_ensembles(
    models: Mapping[str, nn.Module], ensembles: Mapping[str, Sequence[str]]
) -> None:
    for name, members in ensembles.items():
        unknown = sorted(set(members) - set(models))
        if unknown:
            raise ValueError(f"ensemble {name!r}: no model is called {', '.join(unknown)}")
        if len(set(members)) < max(len(members), 2):
            raise ValueError(f"ensemble {name!r}: two or more different models are needed")
        if name in models:
            raise ValueError(f"ensemble {name!r}: a model has the same name")
