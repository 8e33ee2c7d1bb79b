"""Does training in bf16 cost accuracy? Digits cells in float32 and in bf16, the same seeds.

    python benchmarks/precision.py [--defenses at trades dtrades] [--seeds 0 1 2]

Prints a table of natural accuracy and of robust accuracy under PGD with 20 steps on the test
images, float32 in both cases, and the paired difference over seeds. Needs data/digits.safetensors
(python stages/prepare.py digits).

A CPU without bf16 instructions takes 25 times as long in bf16. There convolutions and products are
done in float32 on operands rounded to bf16 and their results are rounded, as a GPU's tensor cores
do it; everything else is torch's autocast in either case.
"""

import importlib
from contextlib import nullcontext
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import harness
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from tradeoff.core.settings import AscentSettings
from tradeoff.core.study import Cell, Study
from tradeoff.datasets.prepared import Prepared, load_prepared
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.threat import Threat
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan
from tradeoff.training.validation import accuracies

PRECISIONS = ("float32", "bf16")
PRODUCTS = {F.conv2d, F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__}
ATTACK = AscentSettings(steps=20, relative_step_size=0.1)


class RoundedProducts(TorchFunctionMode):
    """Inside autocast, convolutions and products of bf16 numbers, summed in float32."""

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, lambda x: x.bfloat16().float(), (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs).bfloat16()


def measure(cell: Cell, data: Prepared, precision: str, device: torch.device) -> tuple[float, ...]:
    """NA and RA on the test images of a cell trained in this precision."""
    threat = Threat(cell.dataset.threat.norm, cell.dataset.threat.epsilon)
    settings = cell.dataset.train.model_copy(update={"precision": precision})
    blueprint = Blueprint.of(cell.architecture, cell.settings.width, data)
    model = build_network(blueprint, data.mean, data.std, cell.seed)
    place(model, device, training_layout(device, precision))
    defense = importlib.import_module(f"tradeoff.defenses.{cell.defense}")
    plan = Plan(defense, cell.knobs, settings, threat, cell.seed)
    with RoundedProducts() if device.type == "cpu" else nullcontext():
        trained = fit(model, data, plan, lambda *told: None)
    model.load_state_dict(trained.best)
    model.eval().requires_grad_(False)
    measured = accuracies(model, data.test.to(device), threat, ATTACK, batch_size=512)
    return tuple(measured.values())


def main() -> None:
    given = harness.parser(
        __doc__, defenses=["at", "trades", "dtrades"], seeds=[0, 1, 2], architecture="resnet18"
    ).parse_args()
    study = Study.load()
    dataset = study.dataset("digits")
    device = pick_device(dataset.threads)
    data = load_prepared(Path(dataset.prepared), dataset.name)
    print(f"{given.architecture}, {describe(device)}, torch {torch.__version__}")
    print("| defense | metric | float32 | bf16 | difference, mean and sd over seeds |")
    print("| --- | --- | --- | --- | --- |")
    for defense in given.defenses:
        cells = [study.cell(f"{defense}-{given.architecture}-digits-{s}") for s in given.seeds]
        measured = [[measure(cell, data, precision, device) for cell in cells]
                    for precision in PRECISIONS]  # fmt: skip
        for index, metric in enumerate(("NA", "RA")):
            exact, rounded = ([numbers[index] for numbers in rows] for rows in measured)
            gaps = [b - a for a, b in zip(exact, rounded, strict=True)]
            spread = stdev(gaps) if len(gaps) > 1 else float("nan")
            print(f"| {defense} | {metric} | {mean(exact):.3f} | {mean(rounded):.3f} | "
                  f"{mean(gaps):+.3f}, {spread:.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
