"""An epoch of training end to end against the sum of its steps, and the time to the first step.

    python benchmarks/epoch.py [--device cuda] [--images 5120] [--batch 128] [--augment crop_flip]

Runs the training loop itself on made-up images: data, augmentation, bookkeeping, validation. The
steps are timed alone on a batch that lies ready.
"""

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tradeoff.core.settings import TrainSettings  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset  # noqa: E402
from tradeoff.networks.layouts import place, training_layout  # noqa: E402
from tradeoff.networks.models import Blueprint, build_network  # noqa: E402
from tradeoff.networks.randomness import generator  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training import loop  # noqa: E402
from tradeoff.training.history import EpochRecord, Row  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402
from tradeoff.training.run import Run  # noqa: E402

EPOCH_TARGET, START_TARGET = 1.08, 5.0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--defense", default="trades")
    parser.add_argument("--images", type=int, default=5120)
    parser.add_argument("--validation", type=float, default=1 / 11, help="share of --images")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--augment", choices=["crop_flip"])
    parser.add_argument("--precision", default="float32")
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
    return epochs[-1], steps * statistics.median(before + after)


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
    taken = []
    for _ in range(count + 1):
        began = time.perf_counter()
        networks.twin.refresh()
        run.optimizer.zero_grad(set_to_none=True)
        loop.accumulate_gradient(run, networks, images, labels, draws, record)
        run.optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return taken[1:]


def made_up(options: argparse.Namespace) -> Prepared:
    """Grey or colour images of ten classes, each a pattern under noise."""
    draws = generator("benchmark")
    shape = (options.channels, options.size, options.size)
    patterns = torch.rand(10, *shape, generator=draws)

    def subset(count: int) -> Subset:
        labels = torch.arange(count) % 10
        noise = torch.rand(count, *shape, generator=draws)
        pixels = (255 * (0.3 * patterns[labels] + 0.7 * noise)).to(torch.uint8)
        return Subset(pixels, labels, white=255)

    held_out = max(round(options.images * options.validation), 1)
    parts = [subset(count) for count in (options.images, held_out, 10)]
    names = tuple(f"class {label}" for label in range(10))
    channels = options.channels
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
