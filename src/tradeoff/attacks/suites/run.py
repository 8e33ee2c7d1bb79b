"""Run a suite of attacks on a model and write down what became of every image."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.evading import evading
from tradeoff.attacks.outcome import Adversarial, Checked, batched_logits, check_inputs, is_fooled
from tradeoff.attacks.suites.asking import rejection_scores
from tradeoff.attacks.suites.gradients import gradient_checks
from tradeoff.attacks.suites.kept import Columns, KeptResults, NothingKept
from tradeoff.attacks.suites.ledger import CHECKS, PER_ATTACK, PER_IMAGE, REJECTION, Ledger
from tradeoff.core.settings import AscentSettings
from tradeoff.core.study import Attack, Suite
from tradeoff.networks.device import matrix_precision
from tradeoff.networks.folding import attacked_twin, fold_if_same
from tradeoff.networks.losses import margin
from tradeoff.networks.passes import PassCounter
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm

OnProgress = Callable[[str, str, int, int], None]


@matrix_precision("ieee")
def run_suite(
    models: Mapping[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: Suite,
    *,
    about: dict[str, Any],
    thresholds: Mapping[str, float] | None = None,
    checkpoints: KeptResults | None = None,
    report: OnProgress = lambda version, attack, done, images: None,
) -> Ledger:
    """Attack each version of a model in eval mode with each attack, in float32, never in TF32.

    A model may offer `surrogate()`, a network that is attacked in its place, where its own
    gradients are of no use; the model itself judges. It may offer `rejection_score(images)`, (N,),
    larger for more suspicious images: the ledger then keeps the scores.

    RA under an attacker who knows a defense never stands alone, nor does RA under one who does
    not. So beside an entry `pgd` of the suite stand, with its budget:

        pgd_unaware   of a model that offers `undefended()`: PGD on that network
        pgd_evading   of one that rejects above a threshold: PGD on label and score (`evading`)

    Args:
        models: the suite's versions by name; images (N, C, H, W) in [0, 1] and labels (N,) are on
            their device.
        thresholds: by version the rejection score above which a model rejects an image.
        checkpoints: where an interrupted run of the same batch size is taken up again.
        report: called with (version, attack, images done, images).

    Raises:
        ValueError: model, images or labels are not what an attack takes.
    """
    per_image, per_attack = PER_IMAGE, PER_ATTACK
    if any(_rejects(model) for model in models.values()):
        per_image, per_attack = (*PER_IMAGE, REJECTION[0]), (*PER_ATTACK, REJECTION[1])
    versions: list[Columns] = []
    clean: list[Tensor] = []
    finished: list[KeptResults] = []
    tried: dict[str, int | None] = {}
    for version, model in models.items():
        check_inputs(model, images, labels)
        logits = batched_logits(model, images, suite.batch_size)
        # Where the last epoch was the best one, both versions are the same model.
        done = zip(models.values(), clean, versions, strict=False)
        same = [c for earlier, its, c in done if _is_same(earlier, model, its, logits)]
        clean.append(logits)
        if same:
            versions.append(same[0])
            continue
        kept = (checkpoints or NothingKept()).of(
            model, images, labels, logits, [about, suite.batch_size]
        )
        finished.append(kept)
        subject = _Subject.of(model, images, labels, threat, suite.batch_size)
        subject = replace(subject, threshold=(thresholds or {}).get(version))
        rows, tried = _rows(subject, suite, kept, partial(report, version))
        columns = {name: np.stack([row[name] for row in rows.values()]) for name in per_attack}
        versions.append(columns | _clean(subject, logits, suite.gradient_checks))
    columns = {name: np.stack([v[name] for v in versions]) for name in (*per_image, *per_attack)}
    columns["labels"] = labels.cpu().numpy()
    for kept in finished:
        kept.done()
    limited = {name: count for name, count in tried.items() if count is not None}
    about = about | ({"tried": limited} if limited else {})
    return Ledger(tuple(models), tuple(tried), columns, about)


@dataclass(frozen=True)
class _Subject:
    """What is attacked: a model on images. Attacks follow its twin, and the model judges.

    Attributes:
        twin: the model's surrogate or folded twin, or the model itself; its passes are counted.
        score: the twin's rejection scores of images, or the model's own, if it rejects.
        rows: (N,) which of all images these are.
        threshold: above it the model rejects an image, if it is known.
    """

    model: nn.Module
    twin: nn.Module
    score: Callable[[Tensor], Tensor] | None
    passes: PassCounter
    images: Tensor
    labels: Tensor
    rows: Tensor
    threat: Threat
    batch_size: int
    threshold: float | None = None

    @classmethod
    def of(
        cls, model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, batch_size: int
    ) -> "_Subject":
        """The subject of a suite, whose inputs have been checked."""
        passes, rows = PassCounter(), torch.arange(len(labels), device=labels.device)
        twin = attacked_twin(model, images[:batch_size])
        score = getattr(twin, "rejection_score", getattr(model, "rejection_score", None))
        counted = Checked(passes.count(twin))
        return cls(model, counted, score, passes, images, labels, rows, threat, batch_size)

    def unaware(self) -> "_Subject | None":
        """The subject of an attacker who does not know the defense, if the model has one."""
        undefended: Callable[[], nn.Module] | None = getattr(self.model, "undefended", None)
        if undefended is None:
            return None
        twin = fold_if_same(undefended(), self.images[: self.batch_size])
        return replace(self, twin=Checked(self.passes.count(twin)))

    def batches(self) -> list["_Subject"]:
        return [self.at(rows) for rows in self.rows.split(self.batch_size)]

    def at(self, rows: Tensor) -> "_Subject":
        return replace(self, images=self.images[rows], labels=self.labels[rows], rows=rows)


def _rejects(model: nn.Module) -> bool:
    return hasattr(model, "rejection_score")


def _is_same(one: nn.Module, another: nn.Module, logits: Tensor, others: Tensor) -> bool:
    """Whether weights and logits are the same: the same weights may be used in two ways."""
    state, other_state = one.state_dict(), another.state_dict()
    if not state or state.keys() != other_state.keys() or not torch.equal(logits, others):
        return False
    return all(torch.equal(state[name], other_state[name]) for name in state)


def _rows(
    subject: _Subject, suite: Suite, kept: KeptResults, report: Callable[[str, int, int], None]
) -> tuple[dict[str, Columns], dict[str, int | None]]:
    """The ledger's rows of one version, by attack, and on how many images, if not on all.

    What `kept` has is not computed again.
    """
    rows: dict[str, Columns] = {}
    tried: dict[str, int | None] = {}
    attacks = [(attack, subject) for attack in suite.attacks]
    for attack, attacked in [*attacks, *_further(suite, subject)]:
        parts: dict[str, list[Columns]] = {}
        count = len(attacked.rows[: attack.images])
        for batch in attacked.at(attacked.rows[:count]).batches():
            place = f"{attack.name}-{int(batch.rows[0])}"
            for name, part in kept.get(place, partial(_attack, attack, batch)).items():
                parts.setdefault(name, []).append(part)
            report(attack.name, int(batch.rows[-1]) + 1, count)
        rest = _arrays(_not_attempted(attacked.at(attacked.rows[count:])))
        for name, pieces in parts.items():
            rows[name], tried[name] = _joined([*pieces, rest]), attack.images
    return rows, tried


def _further(suite: Suite, subject: _Subject) -> list[tuple[Attack, _Subject]]:
    """Attacks with the budget of the suite's `pgd`, of who knows less of the defense and of who
    evades its detector; none on a plain network."""
    further = []
    unaware = subject.unaware()
    for pgd in (attack for attack in suite.attacks if attack.name == "pgd" == attack.module):
        if unaware is not None:
            further.append((Attack("pgd_unaware", "pgd", pgd.knobs), unaware))
        if subject.score is not None and subject.threshold is not None:
            further.append((Attack("pgd_evading", "evading", pgd.knobs), subject))
    return further


def _attack(attack: Attack, subject: _Subject) -> dict[str, Columns]:
    """The rows of one entry of a suite on one batch: one, or one for each of its components.

    An ensemble such as AutoAttack has components; each attacks what is still robust.
    """
    module = importlib.import_module(f"tradeoff.attacks.{attack.module}")
    keys = sample_keys(subject.rows, attack.name)
    arguments: Any = (
        subject.twin, subject.images, subject.labels, attack.knobs, subject.threat, keys
    )  # fmt: skip
    if not hasattr(module, "components"):
        function = getattr(module, attack.module)
        if function is evading:
            function = partial(evading, score=subject.score, threshold=subject.threshold)
        adversarial = function(*arguments)
        logits = batched_logits(subject.model, adversarial.images, subject.batch_size)
        everyone = torch.arange(len(keys), device=keys.device)
        return {attack.name: _outcome(subject, everyone, adversarial, logits)}
    parts = module.components(*arguments, judge=subject.model, batch_size=subject.batch_size)
    return {  # the first part is none: it is the clean images
        name: _outcome(subject, at, adversarial, logits)
        for name, at, adversarial, logits in islice(parts, 1, None)
    }


def _outcome(subject: _Subject, at: Tensor, adversarial: Adversarial, logits: Tensor) -> Columns:
    """What an attack did to the images `at` of a batch; the others were not attempted."""
    full = _not_attempted(subject)
    if len(at):
        full["gradients"][at] = subject.passes.backward / len(at)
        labels, delta = subject.labels[at], adversarial.images - subject.images[at]
        full["attempted"][at] = True
        full["fooled"][at] = is_fooled(logits, labels)
        full["prediction"][at] = logits.argmax(1)
        full["margin"][at] = margin(logits, labels)
        full["queries"][at] = adversarial.queries
        full["rejection"][at] = rejection_scores(
            subject.model, adversarial.images, subject.batch_size
        )
        for norm in ("l0", "l2", "linf"):
            full[norm][at] = perturbation_norm(delta, norm)
    subject.passes.backward = 0  # the next attack's are counted anew
    return _arrays(full)


def _not_attempted(subject: _Subject) -> dict[str, Tensor]:
    """The ledger's columns of images that an attack does not try."""
    nobody = torch.zeros_like(subject.labels, dtype=torch.bool)
    nowhere = torch.full_like(subject.images[:, 0, 0, 0], torch.nan)
    columns = {
        "attempted": nobody,
        "fooled": nobody.clone(),
        "prediction": torch.full_like(subject.labels, -1),
        "margin": nowhere,
        "queries": torch.zeros_like(subject.labels),
        "gradients": torch.zeros_like(nowhere),
        "rejection": nowhere.clone(),
    }
    return columns | {norm: torch.zeros_like(nowhere) for norm in ("l0", "l2", "linf")}


def _arrays(columns: dict[str, Tensor]) -> Columns:
    return {name: values.cpu().numpy() for name, values in columns.items()}


def _clean(subject: _Subject, logits: Tensor, checks: AscentSettings | None) -> Columns:
    """Predictions on the images as they are and, if the suite asks for them, gradient checks."""
    columns = {
        "clean_prediction": logits.argmax(1).cpu().numpy(),
        "clean_margin": margin(logits, subject.labels).cpu().numpy(),
        "clean_confidence": logits.softmax(1).amax(1).cpu().numpy(),
        "clean_rejection": rejection_scores(subject.model, subject.images, subject.batch_size)
        .cpu()
        .numpy(),
    }
    if checks is None:
        return columns | {name: np.full(len(logits), np.nan) for name in CHECKS}
    return columns | _joined([_checks(batch, checks) for batch in subject.batches()])


def _checks(subject: _Subject, budget: AscentSettings) -> Columns:
    checks = gradient_checks(
        subject.twin,
        subject.images,
        subject.labels,
        subject.threat,
        keys=sample_keys(subject.rows, "gradient checks"),
        steps=budget.steps,
        relative_step_size=budget.relative_step_size,
    )
    return {f"check_{name}": values for name, values in checks.items()}


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
