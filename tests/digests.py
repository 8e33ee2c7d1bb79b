"""Hashes of a training step of every defense and of every attack, for tests/test_portable.py.

A process of its own: what arithmetic is portable must be chosen before NumPy and torch are loaded.
"""

import hashlib
import importlib
from collections.abc import Iterator
from pathlib import Path

from tradeoff.networks.arithmetic import switch

switch("portable")

import numpy as np  # noqa: E402
import torch  # noqa: E402

from tradeoff.attacks.suites.ledger import PER_ATTACK, PER_IMAGE  # noqa: E402
from tradeoff.attacks.suites.run import run_suite  # noqa: E402
from tradeoff.core.study import Dataset, Study  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset  # noqa: E402
from tradeoff.networks.device import pick_device  # noqa: E402
from tradeoff.networks.layouts import place  # noqa: E402
from tradeoff.networks.models import Blueprint, build_model  # noqa: E402
from tradeoff.networks.randomness import generator  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training.loop import fit  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402

ROOT = Path(__file__).parents[1]
SMALL = {"epochs": 1, "batch_size": 16}
BUDGETS = {
    "steps": 2, "apgd_steps": 3, "fab_steps": 2, "square_queries": 5, "targets": 1, "restarts": 1,
    "binary_search_steps": 1, "candidates": 2,
}  # fmt: skip


def digest(*arrays: np.ndarray | torch.Tensor) -> str:
    """Of the bytes of all arrays."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(np.asarray(array)).tobytes())
    return total.hexdigest()[:16]


def images(draw: int, count: int) -> Subset:
    """Grey digits that nobody could read, of ten classes."""
    pixels = torch.randint(256, (count, 1, 8, 8), generator=generator("digests", draw))
    return Subset(pixels.to(torch.uint8), torch.arange(count) % 10, white=255)


def digests(study: Study, dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Names of steps and attacks, and what they gave."""
    device = pick_device(dataset.threads, dataset.arithmetic)
    data = Prepared(
        "digits", images(0, 32), images(1, 4), images(2, 4),
        classes=tuple("0123456789"), mean=[0.3], std=[0.35],
    )  # fmt: skip
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)
    networks = {}
    for cell in study.cells("digits"):
        if cell.seed != study.axes.seeds[0]:
            continue
        blueprint = Blueprint.of(cell.architecture, cell.settings.width, data)
        model = place(build_model(blueprint, data.mean, data.std, 0), device)
        defense = importlib.import_module(f"tradeoff.defenses.{cell.defense}")
        knobs = cell.knobs
        if hasattr(knobs, "finetune_epochs"):
            knobs = knobs.model_copy(update={"finetune_epochs": None})
        plan = Plan(defense, knobs, dataset.train.model_copy(update=SMALL), threat, 0)
        trained = fit(model, data, plan, lambda *_: None)
        yield cell.key, digest(*trained.last.values())
        networks[cell.architecture] = model.eval()
    for name, suite in dataset.suites.items():
        attacks = [
            attack.__class__(**{
                **vars(attack),
                "knobs": attack.knobs.model_copy(
                    update={k: v for k, v in BUDGETS.items() if hasattr(attack.knobs, k)}
                ),
            })
            for attack in suite.attacks
        ]  # fmt: skip
        small = suite.__class__(**{**vars(suite), "versions": ["best"], "attacks": tuple(attacks)})
        for architecture, model in networks.items():
            shown = data.test.images
            labels = model(shown).argmax(1)  # as the network says, so that there is much to fool
            ledger = run_suite({"best": model}, shown, labels, threat, small, about={})
            yield f"{architecture} {name}", digest(*(ledger[column] for column in PER_IMAGE))
            for number, attack in enumerate(ledger.attacks):
                columns = (ledger[column][:, number] for column in PER_ATTACK)
                yield f"{architecture} {name} {attack}", digest(*columns)


if __name__ == "__main__":
    params = Study.load(ROOT / "params.yaml")
    for name, value in digests(params, params.dataset("digits")):
        print(name, value, flush=True)
