"""Does training in short floats cost accuracy? Digits cells in float32, bf16 and fp16, same seeds.

    python benchmarks/precision.py [--precisions bf16 fp16] [--defenses ...] [--seeds 0 1 2]

Prints a table of natural accuracy and of robust accuracy under PGD with 20 steps on the test
images, float32 in all cases, and the paired difference over seeds; of fp16 also how many steps
were skipped. Needs data/digits.safetensors (python stages/prepare.py digits).

A CPU without instructions for such floats takes 25 times as long with them. There convolutions and
products are done in float32 on rounded operands and their results are rounded, as a GPU's tensor
cores do it; everything else is torch's autocast in either case.
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

PRODUCTS = {F.conv2d, F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__}
ATTACK = AscentSettings(steps=20, relative_step_size=0.1)


class RoundedProducts(TorchFunctionMode):
    """Inside autocast, convolutions and products of its short floats, summed in float32."""

    def __torch_function__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in PRODUCTS or not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        short = torch.get_autocast_dtype("cpu")
        args, kwargs = tree_map_only(Tensor, lambda x: x.to(short).float(), (args, kwargs))
        with torch.autocast("cpu", enabled=False):
            return function(*args, **kwargs).to(short)


def measure(
    cell: Cell, data: Prepared, precision: str, device: torch.device
) -> tuple[float, float, float]:
    """NA and RA on the test images of a cell trained in this precision, and its skipped steps."""
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
    skipped = sum(row.get("skipped_steps", 0.0) for row in trained.history)
    return measured["natural"], measured["robust"], skipped


def main() -> None:
    given = harness.parser(
        __doc__,
        defenses=["at", "trades", "dtrades"],
        precisions=["bf16", "fp16"],
        seeds=[0, 1, 2],
        architecture="resnet18",
    ).parse_args()
    study = Study.load()
    dataset = study.dataset("digits")
    device = pick_device(dataset.threads)
    data = load_prepared(Path(dataset.prepared), dataset.name)
    print(f"{given.architecture}, {describe(device)}, torch {torch.__version__}")
    print("| defense | metric | float32 | precision | mean | difference, mean and sd over seeds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for defense in given.defenses:
        cells = [study.cell(f"{defense}-{given.architecture}-digits-{s}") for s in given.seeds]
        plain = [measure(cell, data, "float32", device) for cell in cells]
        for precision in given.precisions:
            short = [measure(cell, data, precision, device) for cell in cells]
            for at, metric in enumerate(("NA", "RA")):
                gaps = [b[at] - a[at] for a, b in zip(plain, short, strict=True)]
                spread = stdev(gaps) if len(gaps) > 1 else float("nan")
                means = [mean(row[at] for row in rows) for rows in (plain, short)]
                print(
                    f"| {defense} | {metric} | {means[0]:.4f} | {precision} | {means[1]:.4f} | "
                    f"{mean(gaps):+.4f}, {spread:.4f} |",
                    flush=True,
                )
            if precision == "fp16":
                print(f"skipped steps: {[int(row[2]) for row in short]}", flush=True)


if __name__ == "__main__":
    main()
