"""The study's evaluation for a model that is not the study's.

from tradeoff.evaluation import evaluate
ledger, metrics = evaluate(model, images, labels, Threat("linf", 8 / 255), "autoattack")

`tradeoff evaluate --help` says how to do the same from the shell.
"""

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.square import Knobs as SquareKnobs
from tradeoff.attacks.suites.ledger import Array, Ledger
from tradeoff.attacks.suites.run import OnProgress, run_suite
from tradeoff.core.plugins import constant
from tradeoff.core.study import Attack, Study, Suite
from tradeoff.datasets.prepared import class_balanced_order
from tradeoff.evaluation import preflight
from tradeoff.evaluation.masking import attack_numbers, flags, gradient_checks, gradient_numbers
from tradeoff.evaluation.metrics import by_class, correct_images, robust_images, suite_metrics
from tradeoff.evaluation.norms import norm_metrics
from tradeoff.evaluation.preflight import Unusable
from tradeoff.networks.threat import Threat
from tradeoff.running.attack_checkpoints import Checkpoints

# The study's params.yaml, which the package takes along: suites with the published budgets.
PARAMS = Path(__file__).with_name("params.yaml")
# An example's norm may exceed its threat's by what rounding adds.
NORM_ROUNDING = 1e-5


class Evaluation(NamedTuple):
    """What became of every image, and the metrics computed from it.

    Attributes:
        metrics: NA, RA, RD, ASR, ASR_correct (`docs/evaluation.md`); by norm in "norms" what
            `norm_metrics` gives; the masking "flags" that can be computed, "square_alone" and
            "zero_gradients" among them; RA "per_class" and the "worst_class"; "seconds" and
            "passes"; and "remarks", sentences on what was noticed before the attacks.
    """

    ledger: Ledger
    metrics: dict[str, Any]


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: str | Suite = "autoattack",
    *,
    copies: int | None = None,
    checkpoints: Path | str | None = None,
    report: OnProgress = lambda version, attack, done, images: None,
) -> Evaluation:
    """Put a model through a suite of attacks.

    Args:
        model: maps images to logits (N, classes); it is attacked in eval mode, in float32, on the
            images' device, and is afterwards as it was.
        images: float32 (N, C, H, W) in [0, 1]; labels (N,) int64. If there are more than the suite
            takes, so many of them are attacked, class-balanced and always the same ones; the
            ledger's `about["chosen"]` has their indices in its order, or None if all are attacked.
        suite: a suite, or the name of one: "bounded", "autoattack", "minimal" with the budgets of
            the study, or "square", which takes no gradients.
        copies: of a random model: so many calls vote, and attacks follow their average.
        checkpoints: a folder that keeps what is done, so that an interrupted call goes on.
        report: called with (version, attack, images done, images); the version is "best".

    Raises:
        Unusable: model, images or labels cannot be evaluated; says what to do.
        BadParams: there is no such suite.
    """
    chosen = suite_named(suite) if isinstance(suite, str) else suite
    _check_options(chosen, threat, copies)
    preflight.check_data(images, labels)
    preflight.check_model(model, images)
    kept = None if checkpoints is None else Checkpoints(usable_folder(checkpoints))
    started = time.perf_counter()
    places = None
    if chosen.images is not None and chosen.images < len(labels):
        places = class_balanced_order(labels.cpu(), ("evaluate",))[: chosen.images]
        images, labels = (part[places.to(part.device)] for part in (images, labels))
    with preflight.usual_modes(images.device), preflight.as_it_was(model) as remarks:
        subject, more = preflight.examine(model, images, labels, chosen, copies)
        remarks += more
        size = chosen.batch_size
        zero_gradients = preflight.share_of_zero_gradients(subject, images, labels, size)
        with torch.no_grad():
            classes = int(subject(images[:1]).shape[-1])
        about = {
            "cell": type(model).__name__,
            "suite": chosen.name,
            "classes": classes,
            "threat": {"norm": threat.norm, "epsilon": threat.epsilon},
            "attacks": chosen.budgets,
            "chosen": None if places is None else places.tolist(),
            "remarks": remarks,
        }
        try:
            ledger = run_suite(
                {"best": subject},
                images,
                labels,
                threat,
                chosen,
                about=about,
                checkpoints=kept,
                report=report,
            )
        except ValueError as error:  # what an attack met on its way, such as NaN
            raise Unusable(str(error)) from error
    right = correct_images(ledger, "best")
    remarks += preflight.chance(float(right.mean()), len(right), classes)
    metrics = measure(ledger, {"zero_gradients": zero_gradients})
    metrics["seconds"] = round(time.perf_counter() - started, 2)
    return Evaluation(ledger, metrics)


def _check_options(suite: object, threat: object, copies: object) -> None:
    if not isinstance(suite, Suite):
        raise Unusable(f"the suite is {suite!r}; one of this package or its name is needed")
    if not isinstance(threat, Threat):
        raise Unusable(f"the threat is {threat!r}; such as Threat('linf', 8 / 255) is needed")
    if threat.radii is not None:
        raise Unusable("the threat has a radius for each image; evaluation takes one for all")
    if copies is None:
        return
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
        raise Unusable(f"copies are {copies!r}; a number of calls that vote is needed, such as 32")


def usable_folder(checkpoints: object) -> Path:
    """The folder, made; refused before any attack where nothing can be kept."""
    try:
        folder = Path(checkpoints)  # type: ignore[arg-type]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
    except (OSError, TypeError) as error:
        raise Unusable(f"checkpoints cannot be kept in {checkpoints!r}: {error}") from error


@cache
def _study() -> Study:
    return Study.load(PARAMS)


def suite_named(name: str) -> Suite:
    """A suite of the study with its published budgets, or "square".

    Raises:
        BadParams: there is no such suite.
    """
    published = _study().suite
    if name != "square":
        return published(name)
    knobs = SquareKnobs(queries=5000, restarts=1, rescale_schedule=False)
    attack = Attack("square", "square", knobs)
    return replace(published("autoattack"), name=name, attacks=(attack,))


def measure(ledger: Ledger, numbers: dict[str, float]) -> dict[str, Any]:
    """All metrics of an evaluation but its seconds.

    Args:
        numbers: of masking flags, what the ledger does not hold.
    """
    about = ledger.about
    within = _within(ledger)
    robust = robust_images(within, "best")
    shares = [
        None if np.isnan(share) else float(share)
        for share in by_class(robust, ledger["labels"], about["classes"])
    ]
    worst = min(share for share in shares if share is not None)
    metrics: dict[str, Any] = dict(suite_metrics(within))
    try:
        metrics["norms"] = norm_metrics(ledger, "best")
        remarks = about["remarks"]
    except ValueError as error:  # a verdict that changed from batch to batch
        remarks = [*about["remarks"], f"no norms: {error}"]
    return metrics | {
        "flags": _flags(within, numbers),
        "per_class": shares,
        "worst_class": {"class": shares.index(worst), "RA": worst},
        "passes": {
            "forward": int(ledger["queries"].sum()),
            "backward": round(float(ledger["gradients"].sum())),
        },
        "remarks": remarks,
    }


def _within(ledger: Ledger) -> Ledger:
    """The ledger in which only examples within the threat fool: minimum-norm attacks go beyond."""
    norm, epsilon = ledger.about["threat"]["norm"], ledger.about["threat"]["epsilon"]
    modules = _modules(ledger)
    judged = [constant("attacks", modules.get(name, name), "IN_A_NORM", True)
              for name in ledger.attacks]  # fmt: skip
    beyond = ledger[norm] > epsilon * (1 + NORM_ROUNDING) + NORM_ROUNDING / 10
    fooled = ledger["fooled"] & ~(beyond & np.array(judged)[:, None])
    columns = ledger.columns | {"fooled": fooled}
    return Ledger(ledger.versions, ledger.attacks, columns, ledger.about)


def _modules(ledger: Ledger) -> dict[str, str]:
    """The attack's module of each entry of the suite."""
    return {name: entry["attack"] for name, entry in ledger.about["attacks"].items()}


def _flags(ledger: Ledger, numbers: dict[str, float]) -> dict[str, dict[str, Any]]:
    """The masking flags whose numbers these attacks give, by name: of the images that all of them
    were to be tried on."""
    ledger = ledger.first(min(map(ledger.tried, ledger.attacks)))
    fooled = dict(zip(ledger.attacks, ledger["fooled"][0], strict=True))
    correct, nobody = correct_images(ledger, "best"), np.zeros(len(ledger["labels"]), dtype=bool)

    def by(*names: str) -> Array:
        return np.any([nobody, *(fooled[name] for name in names if name in fooled)], 0)

    modules = _modules(ledger)
    square = [name for name in fooled if modules.get(name, name) == "square"]
    others = [name for name in fooled if name not in square]
    measured = attack_numbers(
        correct, fgsm=by("fgsm"), pgd=by("pgd"), square=by(*square),
        white_box=by(*others),
        autoattack=by(*fooled),
    )  # fmt: skip
    needs = {
        "square_alone": square and others,
        "single_step_stronger": {"fgsm", "pgd"} <= fooled.keys(),
    }
    numbers = dict(numbers) | {name: measured[name] for name, applies in needs.items() if applies}
    if not np.isnan(ledger["check_fosc"]).all():
        numbers |= gradient_numbers(gradient_checks(ledger, "best"))
    thresholds = _study().masking.model_dump()
    return {
        flag.name: flag._asdict()
        for flag in flags(numbers, {name: thresholds[name] for name in numbers})
    }
