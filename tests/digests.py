"""Hashes of training steps and of every attack, for tests/test_portable.py.

Emulated, everything takes some thirty times as long. So each network of the digits takes one step
of two defenses, which have all operators between them, attacks are made on a tiny network, and
torch's compiler, which its optimizers would load without using it, is a module that does nothing.

A process of its own: what arithmetic is portable must be chosen before NumPy and torch are loaded.
"""

import hashlib
import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from tradeoff.networks.arithmetic import switch

switch("portable")
compiler = ModuleType("torch._dynamo")
compiler.disable = lambda function, *_, **__: function  # type: ignore[attr-defined]
compiler.graph_break = lambda: None  # type: ignore[attr-defined]
sys.modules[compiler.__name__] = compiler

import numpy as np  # noqa: E402
import torch  # noqa: E402

from tests import tiny  # noqa: E402
from tradeoff.attacks.suites.ledger import PER_ATTACK, PER_IMAGE  # noqa: E402
from tradeoff.attacks.suites.run import run_suite  # noqa: E402
from tradeoff.core.study import Dataset, Study  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset  # noqa: E402
from tradeoff.networks.device import pick_device  # noqa: E402
from tradeoff.networks.layouts import place  # noqa: E402
from tradeoff.networks.models import Blueprint, build_network  # noqa: E402
from tradeoff.networks.randomness import generator  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training.loop import fit  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402

ROOT = Path(__file__).parents[1]
STEPS = {"resnet18": ("dtrades", "faal"), "vgg16": ("trades", "mart")}
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


def step_digests(study: Study, dataset: Dataset, data: Prepared) -> Iterator[tuple[str, str]]:
    """The weights after an epoch of one step, by cell."""
    device = torch.device("cpu")
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)
    settings = dataset.train.model_copy(update=SMALL)
    for architecture, defenses in STEPS.items():
        for name in defenses:
            cell = study.cell(f"{name}-{architecture}-{dataset.name}-0")
            blueprint = Blueprint.of(architecture, cell.settings.width, data)
            model = place(build_network(blueprint, data.mean, data.std, 0), device)
            defense = importlib.import_module(f"tradeoff.defenses.{name}")
            plan = Plan(defense, cell.knobs, settings, threat, 0)
            yield cell.key, digest(*fit(model, data, plan, lambda *_: None).last.values())


def layer_digests() -> Iterator[tuple[str, str]]:
    """Layers on many numbers, since a rounding that differs for one in a hundred must show."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = place(torch.nn.Sequential(torch.nn.BatchNorm2d(5000)), torch.device("cpu")).eval()
        norm[0].running_var.uniform_(0.1, 2)
        maps = torch.rand(5000, 2, 2, 3).permute(3, 0, 1, 2)  # as ProductConvolution leaves them
    yield "BatchNorm2d in eval mode", digest(norm(maps).detach())


def attack_digests(dataset: Dataset, data: Prepared) -> Iterator[tuple[str, str]]:
    """Everything that the ledgers of all suites hold, by attack."""
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)
    model = place(tiny.network(classes=10), torch.device("cpu")).eval().requires_grad_(False)
    shown = data.test.images
    labels = model(shown).argmax(1)  # as the network says, so that there is much to fool
    for name, suite in dataset.suites.items():
        attacks = []
        for attack in suite.attacks:
            smaller = {key: n for key, n in BUDGETS.items() if hasattr(attack.knobs, key)}
            if attack.module == "fmn":
                smaller["steps"] = 12  # in fewer none of them finds anything
            attacks.append(replace(attack, knobs=attack.knobs.model_copy(update=smaller)))
        small = replace(suite, versions=["best"], attacks=tuple(attacks))
        ledger = run_suite({"best": model}, shown, labels, threat, small, about={})
        yield name, digest(*(ledger[column] for column in PER_IMAGE))
        for number, attack_name in enumerate(ledger.attacks):
            columns = (ledger[column][:, number] for column in PER_ATTACK)
            yield f"{name} {attack_name}", digest(*columns)


if __name__ == "__main__":
    params = Study.load(ROOT / "params.yaml")
    chosen = params.dataset("digits")
    prepared = Prepared(
        "digits", images(0, 16), images(1, 4), images(2, 4),
        classes=tuple("0123456789"), mean=[0.3], std=[0.35],
    )  # fmt: skip
    pick_device(chosen.threads, chosen.arithmetic)
    for found in (
        layer_digests(), step_digests(params, chosen, prepared), attack_digests(chosen, prepared)
    ):  # fmt: skip
        for name, value in found:
            print(name, value, flush=True)
