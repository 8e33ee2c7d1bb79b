"""An epoch of training end to end against the sum of its steps, and the time to the first step.

    python benchmarks/epoch.py [--device cuda] [--images 5120] [--batch 128] [--augment crop_flip]

Runs the training loop itself on made-up images: data, augmentation, bookkeeping, validation. The
steps are timed alone on a batch that lies ready.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import harness
import torch
from harness import ROOT
from ruamel.yaml import YAML

from tradeoff.core.settings import TrainSettings
from tradeoff.datasets.prepared import Prepared, Subset
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.models import Blueprint, build_network
from tradeoff.networks.randomness import generator
from tradeoff.networks.threat import Threat
from tradeoff.training import loop
from tradeoff.training.history import EpochRecord, Row
from tradeoff.training.plan import Plan
from tradeoff.training.run import Run

EPOCH_TARGET, START_TARGET = 1.08, 5.0


def arguments() -> argparse.ArgumentParser:
    """`--validation` is a share of `--images`, `--steps` are those of the inner attack."""
    parser = harness.parser(
        __doc__, device="cpu", threads=2, defense="trades", images=5120, validation=1 / 11,
        size=28, channels=1, width=0.125, batch=128, steps=10, precision="float32",
    )  # fmt: skip
    parser.add_argument("--augment", choices=["crop_flip"])
    return parser


def main() -> None:
    options = arguments().parse_args()
    whole, steps = epoch(options)
    print(
        f"epoch of {options.defense}, {options.images} images: {whole:.1f} s; its steps: "
        f"{steps:.1f} s; ratio {whole / steps:.3f}, target {EPOCH_TARGET}"
    )
    seconds = first_step(options.threads)
    print(
        f"from `python stages/train.py` to the first step: {seconds:.1f} s, target {START_TARGET}"
    )


def epoch(options: argparse.Namespace) -> tuple[float, float]:
    """Seconds of the second epoch, and of as many single steps, taken before and after it."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    data = made_up(options)
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    attack = {"steps": options.steps, "relative_step_size": 0.25}
    settings = TrainSettings.model_validate(
        params["train"]
        | {"epochs": 2, "batch_size": options.batch, "augment": options.augment}
        | {"attack": attack, "selection": attack, "compile": "off", "precision": options.precision}
    )
    defense = importlib.import_module(f"tradeoff.defenses.{options.defense}")
    knobs = defense.Knobs.model_validate(params[options.defense])
    plan = Plan(defense, knobs, settings, Threat("linf", 0.1), seed=0)
    blueprint = Blueprint.of("resnet18", options.width, data)
    layout = training_layout(device, options.precision)
    model = place(build_network(blueprint, data.mean, data.std, 0), device, layout)
    steps = -(-options.images // options.batch)
    epochs: list[float] = []

    def report(_epoch: int, _epochs: int, _step: int, _steps: int, row: Row | None) -> None:
        if row is not None:
            epochs.append(row["seconds"])

    before = single_steps(model, data, plan, device)
    loop.fit(model, data, plan, report)
    after = single_steps(model, data, plan, device)
    return epochs[-1], steps * median(before + after)


def single_steps(
    model: torch.nn.Module, data: Prepared, plan: Plan, device: torch.device, count: int = 5
) -> list[float]:
    """Seconds of a step on a batch that lies ready: twin, forward, backward, optimizer."""
    run = Run.begin(model, plan, data)
    train = data.train.to(device)
    networks, _ = loop._networks(run, train)
    batch = plan.settings.batch_size
    images, labels = train.floats(train.pixels[:batch]), train.labels[:batch]
    record, draws = EpochRecord(len(data.classes), device), generator("steps", device=device)

    def step() -> None:
        networks.twin.refresh()
        run.optimizer.zero_grad(set_to_none=True)
        loop.accumulate_gradient(run, networks, images, labels, draws, record)
        run.optimizer.step()

    return [harness.seconds(step, device) for _ in range(count + 1)][1:]


def made_up(options: argparse.Namespace) -> Prepared:
    """Images of ten classes, those of training and validation apart."""
    held_out = max(round(options.images * options.validation), 1)
    channels = options.channels
    pixels, labels = harness.made_up(options.images + held_out + 10, channels, options.size)
    sizes = [options.images, held_out, 10]
    parts = map(Subset, pixels.split(sizes), labels.split(sizes), [255] * 3)
    names = tuple(f"class {label}" for label in range(10))
    return Prepared("made_up", *parts, classes=names, mean=[0.5] * channels, std=[0.25] * channels)


def first_step(threads: int) -> float:
    """Seconds from the start of stages/train.py on a digits cell until its first step is done."""
    cell = "trades-resnet18-digits-0"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("params.yaml", "stages", "src"):
            (Path(folder) / name).symlink_to(ROOT / name)
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "stages/prepare.py", "digits"]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        command = [sys.executable, str(Path(__file__).with_name("first_step.py")), cell]
        began = time.time()
        done = subprocess.run(
            command, cwd=folder, env=environment, check=True, capture_output=True, text=True
        )
        return float(done.stdout.split("first step at ")[1].split()[0]) - began


if __name__ == "__main__":
    main()
