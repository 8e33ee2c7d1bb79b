"""One optimisation step of every defense: ours against the published structure, side by side.

    python benchmarks/step.py [--device cuda --size 32 --channels 3 --width 1 --precision bf16
                               --compile on --batch 512] [--profile]

On a GPU it also says what a TRADES step of ours takes in either layout of the features.

The reference (benchmarks/reference.py) takes its batch from a data loader, ours from uint8 pixels
on the device. Rounds alternate; medians count. Weights, images and starting points are the same,
so the losses agree, up to pixels whose gradient is so near 0 that rounding decides its sign: from
there on the attacks differ. `--double` shows that nothing else does.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, NamedTuple

import bare  # noqa: F401
import reference
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from tradeoff.archs import resnet18
from tradeoff.defenses import at, dtrades, faal, fast, fat, fgsm, mart, trades
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.folding import EvalTwin
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.preprocess import Preprocess
from tradeoff.networks.threat import Threat
from tradeoff.training.acceleration import compiled, precision
from tradeoff.training.contract import Step

OURS: dict[str, tuple[Any, Any]] = {
    "at": (at, at.Knobs()),
    "trades": (trades, trades.Knobs(beta=reference.BETA_TRADES)),
    "dtrades": (
        dtrades,
        dtrades.Knobs(alpha=reference.ALPHA, beta=reference.BETA_DTRADES, differentiable=False),
    ),
    "mart": (mart, mart.Knobs(beta=reference.BETA_MART)),
    "faal": (faal, faal.Knobs(radius=reference.RADIUS)),
    "fgsm": (fgsm, fgsm.Knobs(weight=0.5)),
    "fast": (fast, fast.Knobs(relative_step_size=1.25)),
    "fat": (fat, fat.Knobs(objective="at", beta=0.0, grows_at=[], noise=0.001)),
}
# Forward passes that the algorithm needs, beside two (forward and backward) for each ascent step;
# a backward pass by the images costs as much as a forward pass, one by the parameters twice.
PASSES = {"at": 3, "trades": 7, "dtrades": 9, "mart": 6, "faal": 3}
# All passes of training on one step; of FAT at most those of AT. Their targets are over AT's step.
ONE_STEP, SLACK = {"fgsm": 8, "fast": 5}, 1.15
CPU_TARGETS = {"at": 1.5, "trades": 2.5}
GPU_TARGET, GPU_SHARE = 5.0, 0.3
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


class Row(NamedTuple):
    """One comparison: medians in seconds, the relative difference of the losses."""

    defense: str
    reference: float
    ours: float
    difference: float
    share: float | None  # of the card's matrix rate

    @property
    def ratio(self) -> float:
        return self.reference / self.ours


class Pixels(Dataset[tuple[Tensor, int]]):
    """Images as a data loader gets them: one by one, each made float."""

    def __init__(self, pixels: Tensor, labels: Tensor, kind: torch.dtype) -> None:
        self.pixels, self.labels, self.kind = pixels, labels, kind

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index].to(self.kind).div(255), int(self.labels[index])


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--width", type=float, default=0.25, help="1 is 64 base channels")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="of the inner attack")
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="float32", choices=["float32", "tf32", "bf16"])
    parser.add_argument("--compile", default="off", choices=["on", "off"])
    parser.add_argument("--double", action="store_true", help="in float64: do the losses agree?")
    parser.add_argument("--profile", action="store_true", help="where ours spends its time")
    return parser


def main() -> None:
    options = arguments().parse_args()
    print(heading(options))
    rows = measure(options)
    print_rows(rows, options.device)
    print("\n".join(over_at(options)))
    if options.device.startswith("cuda"):
        print_layouts(options)
    if options.profile:
        print(profiled(options))


def heading(options: argparse.Namespace) -> str:
    card = options.device.startswith("cuda")
    hardware = torch.cuda.get_device_name() if card else f"{options.threads} threads"
    return (
        f"ResNet-18, {options.channels}x{options.size}x{options.size}, width "
        f"{64 * options.width:g}, batch {options.batch}, PGD-{options.steps}, "
        f"{options.precision}, compile {options.compile}; {hardware}, torch {torch.__version__}"
    )


def measure(options: argparse.Namespace) -> list[Row]:
    """Every defense against its reference, in alternating rounds."""
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model, pixels, labels = prepare(options)
    steps: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {}
    ours, how = our_steps(model, pixels, labels, options)
    if options.compile == "on":
        print(f"ours: {how}")
    theirs = reference_steps(model, pixels, labels, options)
    steps = {name: (theirs[name], ours[name.removesuffix("_backward")]) for name in theirs}
    losses = {name: [run().item() for run in pair] for name, pair in steps.items()}
    times: dict[str, list[list[float]]] = {name: [[], []] for name in steps}
    for _ in range(options.rounds):
        for name, pair in steps.items():
            for taken, run in zip(times[name], pair, strict=True):
                taken.append(seconds(run, device))
    rate = matrix_rate(device) if device.type == "cuda" else None
    rows = []
    for name, (first, second) in times.items():
        one, other = losses[name]
        took = statistics.median(second)
        share = None
        if rate is not None:
            count = 2 * options.steps + PASSES[name.removesuffix("_backward")]
            share = count * forward_operations(model, pixels) / took / rate
        rows.append(Row(name, statistics.median(first), took, abs(one - other) / abs(one), share))
    return rows


def prepare(options: argparse.Namespace) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network after some steps of standard training, and a batch of made-up images as uint8."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    labels = torch.arange(options.batch) % 10
    patterns = torch.rand(10, options.channels, options.size, options.size)
    noise = torch.rand(options.batch, *patterns.shape[1:])
    pixels = (255 * (0.5 * patterns[labels] + 0.5 * noise)).to(torch.uint8)
    network = resnet18.build((options.channels, 32, 32), 10, options.width)
    layer = Preprocess([0.5] * options.channels, [0.25] * options.channels)
    model = nn.Sequential(layer, network).to(device, kind_of(options)).train()
    pixels, labels = pixels.to(device), labels.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(pixels.to(kind_of(options)) / 255), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0  # the statistics stay as they are, so that steps are comparable
    return model, pixels, labels


def reference_steps(
    model: nn.Module, pixels: Tensor, labels: Tensor, options: argparse.Namespace
) -> dict[str, Callable[[], Tensor]]:
    model = copy.deepcopy(model)
    device = labels.device
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)
    loader = DataLoader(Pixels(pixels.cpu(), labels.cpu(), kind_of(options)), options.batch)

    def run(step: reference.ReferenceStep) -> Tensor:
        images, targets = next(iter(loader))
        images, targets = images.to(device), targets.to(device)
        size = options.epsilon / 4
        loss = step(model, images, targets, options.epsilon, options.steps, size, draws(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    names = ("at", "at_backward", "trades", "dtrades", "mart", "faal")
    return {name: lambda name=name: run(getattr(reference, name)) for name in names}


def our_steps(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    options: argparse.Namespace,
    layout: torch.memory_format | None = None,
) -> tuple[dict[str, Callable[[], Tensor]], str]:
    """The steps of training/loop.py without its bookkeeping, and whether they are compiled.

    Args:
        layout: None: the one that training has.
    """
    device = labels.device
    layout = layout or training_layout(device, options.precision)
    model = place(copy.deepcopy(model), device, layout)
    twin = EvalTwin(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, fused=True)
    search = InnerAttack(Threat("linf", options.epsilon), options.steps, options.epsilon / 4)
    networks = {"model": model, "attacked": twin.module}
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True

    def run(defense: Any, knobs: Any, fit: bool = True) -> Tensor:
        images = (pixels.to(kind_of(options)) / 255).contiguous(memory_format=layout)
        twin.refresh()
        optimizer.zero_grad(set_to_none=True)
        step = Step(networks["attacked"], search, draws(device), 0, 1, 0.0, model)
        with precision(options.precision, device):
            loss = defense.training_loss(networks["model"], images, labels, step, knobs).total
            loss.backward()
        if fit:
            optimizer.step()
        return loss.detach()

    def probe(quick: nn.Module, attacked: nn.Module) -> None:
        networks.update(model=quick, attacked=attacked)
        run(*OURS["trades"], fit=False)

    settings: Any = SimpleNamespace(compile=options.compile, precision=options.precision)
    quick, attacked, how = compiled(model.train(), twin.module, settings, 1, probe)
    networks.update(model=quick, attacked=attacked)
    return {name: lambda name=name: run(*OURS[name]) for name in OURS}, how


def over_at(options: argparse.Namespace) -> list[str]:
    """What steps of defenses with a cheaper attack take over one of AT, in alternating rounds."""
    model, pixels, labels = prepare(options)
    ours, _ = our_steps(model, pixels, labels, options)
    names = ("at", *ONE_STEP, "fat")
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(1 + options.rounds):
        for name in names:
            took = seconds(ours[name], labels.device)
            if turn:  # the first is to warm up
                times[name].append(took)
    medians = {name: statistics.median(values) for name, values in times.items()}
    whole = 2 * options.steps + PASSES["at"]
    targets = {name: SLACK * count / whole for name, count in ONE_STEP.items()} | {"fat": 1.0}
    return [
        f"{name} over at: {medians[name] / medians['at']:.3f}, target at most {target:.3f}"
        for name, target in targets.items()
    ]


def print_layouts(options: argparse.Namespace) -> None:
    """What a TRADES step takes in either layout, and which of them training has."""
    model, pixels, labels = prepare(options)
    own = training_layout(labels.device, options.precision)
    for name, layout in LAYOUTS.items():
        run = our_steps(model, pixels, labels, options, layout)[0]["trades"]
        run()
        took = statistics.median(seconds(run, labels.device) for _ in range(options.rounds))
        print(f"trades, {name}{' (ours)' if layout == own else ''}: {took:.4f} s")


def kind_of(options: argparse.Namespace) -> torch.dtype:
    return torch.float64 if options.double else torch.float32


def draws(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    card = device.type == "cuda"
    if card:
        torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    if card:
        torch.cuda.synchronize()
    return time.perf_counter() - began


def forward_operations(model: nn.Module, pixels: Tensor) -> float:
    """Floating-point operations of one forward pass of the batch: convolutions and products."""
    total = 0.0

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        assert isinstance(layer.weight, Tensor)
        total += 2.0 * output.numel() * layer.weight[0].numel()

    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        kind = next(model.parameters()).dtype
        copy.deepcopy(model).eval()(pixels[:1].to(kind) / 255)
    for handle in handles:
        handle.remove()
    return total * len(pixels)


def matrix_rate(device: torch.device, size: int = 8192) -> float:
    """The most bf16 operations a second that the card's matrix product reaches here."""
    kind = torch.bfloat16
    one, other = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best = min(seconds(lambda: one @ other, device) for _ in range(20))
    return 2.0 * size**3 / best


def print_rows(rows: list[Row], device: str) -> None:
    """The comparisons, and D-TRADES over TRADES and FAAL over AT."""
    for line in lines(rows, device):
        print(line)


def lines(rows: list[Row], device: str) -> list[str]:
    card = device.startswith("cuda")
    table = [
        f"{'step':14}{'reference':>12}{'ours':>10}{'ratio':>8}{'target':>8}"
        f"{'losses differ by':>18}{'matrix rate':>13}"
    ]
    for row in rows:
        target = GPU_TARGET if card else CPU_TARGETS.get(row.defense)
        share = "" if row.share is None else f"{row.share:12.1%}"
        table.append(
            f"{row.defense:14}{row.reference:10.3f} s{row.ours:8.3f} s{row.ratio:8.2f}"
            f"{target or '':>8}{row.difference:18.1e} {share}"
        )
    times = {row.defense: row.ours for row in rows}
    for one, other, limit in (("dtrades", "trades", 1.10), ("faal", "at", 1.05)):
        table.append(f"{one} over {other}: {times[one] / times[other]:.3f}, target {limit:.2f}")
    return table


def profiled(options: argparse.Namespace, defense: str = "trades") -> str:
    """Where the time of one of our steps goes, by operator."""
    model, pixels, labels = prepare(options)
    step = our_steps(model, pixels, labels, options)[0][defense]
    step()
    card = options.device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * card
    with profile(activities=activities) as found, nullcontext():
        step()
    key = "self_cuda_time_total" if card else "self_cpu_time_total"
    return found.key_averages().table(sort_by=key, row_limit=10, max_name_column_width=60)


if __name__ == "__main__":
    main()
