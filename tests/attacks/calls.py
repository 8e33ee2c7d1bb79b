"""The attacks, called with their knobs by name; a knob that is not named has its value below."""

import importlib
from typing import Any, Protocol

from torch import Tensor, nn

from tradeoff.attacks.outcome import Adversarial
from tradeoff.networks.threat import Threat

KNOBS: dict[str, dict[str, Any]] = {
    "fgsm": {},
    "bim": {"steps": 10, "relative_step_size": 0.25},
    "mifgsm": {"steps": 10, "momentum": 1.0},
    "pgd": {"loss": "cross_entropy", "steps": 20, "relative_step_size": 0.25, "restarts": 1},
    "apgd": {"loss": "ce", "targets": 9, "steps": 100, "restarts": 1},
    "square": {"queries": 5000, "restarts": 1, "rescale_schedule": False},
    "autoattack": {},  # the paper's
    "fab": {"targets": None, "steps": 100, "restarts": 1, "enough": 0.0},
    "fmn": {"steps": 100, "step_size": 1.0, "gamma": 0.05},
    "deepfool": {"steps": 50, "candidates": None, "overshoot": 0.02},
    "carlini_wagner": {
        "steps": 1000,
        "binary_search_steps": 9,
        "initial_constant": 1e-3,
        "learning_rate": 0.01,
        "confidence": 0.0,
    },
    "lbfgs": {"targets": 3, "steps": 30, "binary_search_steps": 10, "initial_constant": 1.0},
    "spatial": {"degrees": 30.0, "shift": 0.1, "tries": 10},
    "confidence": {
        "steps": 20,
        "relative_step_size": 0.25,
        "momentum": 0.9,
        "factor": 1.5,
        "restarts": 1,
    },
    "jsma": {"theta": 1.0, "gamma": 0.145, "targets": None},
    "jsma_softmax": {"theta": 1.0, "gamma": 0.145, "targets": None, "temperature": 1.0},
    "ddn": {"steps": 40, "step_size": 1.0, "initial_norm": 1.0, "gamma": 0.05},
    "sigma_zero": {
        "steps": 100,
        "step_size": 1.0,
        "sigma": 0.001,
        "threshold": 0.3,
        "threshold_step": 0.01,
    },
    "superdeepfool": {
        "steps": 10,
        "inner_steps": 10,
        "candidates": None,
        "overshoot": 0.02,
        "halvings": 10,
    },
}


class Call(Protocol):
    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        threat: Threat | None = None,
        *,
        keys: Tensor | None = None,
        batch_size: int | None = None,
        **knobs: Any,
    ) -> Adversarial: ...


def call_of(attack: str) -> Call:
    module = importlib.import_module(f"tradeoff.attacks.{attack}")

    def call(
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        threat: Threat | None = None,
        *,
        keys: Tensor | None = None,
        batch_size: int | None = None,
        **knobs: Any,
    ) -> Adversarial:
        chosen = module.Knobs(**KNOBS[attack] | knobs)
        more = {} if batch_size is None else {"batch_size": batch_size}
        result: Adversarial = getattr(module, attack)(
            model, images, labels, chosen, threat, keys, **more
        )
        return result

    return call


fgsm, bim, mifgsm, pgd = map(call_of, ("fgsm", "bim", "mifgsm", "pgd"))
apgd, square, autoattack = map(call_of, ("apgd", "square", "autoattack"))
fmn, deepfool, carlini_wagner = map(call_of, ("fmn", "deepfool", "carlini_wagner"))
lbfgs, jsma, jsma_softmax = map(call_of, ("lbfgs", "jsma", "jsma_softmax"))
spatial, confidence = map(call_of, ("spatial", "confidence"))
ddn, sigma_zero, superdeepfool = map(call_of, ("ddn", "sigma_zero", "superdeepfool"))


def apgd_targeted(*inputs: Any, **knobs: Any) -> Adversarial:
    return apgd(*inputs, loss="targeted_dlr", **knobs)


def fab(model: nn.Module, images: Tensor, labels: Tensor, norm: str, **knobs: Any) -> Adversarial:
    """The authors start within 0.3 (linf) or 1 (l2) of an image in [0, 1]."""
    radius = {"linf": 0.3, "l2": 1.0}[norm]
    return call_of("fab")(model, images, labels, norm=norm, start_radius=radius, **knobs)


def fab_targeted(*inputs: Any, **knobs: Any) -> Adversarial:
    return fab(*inputs, **{"targets": 9} | knobs)
