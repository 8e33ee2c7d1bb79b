"""One optimisation step of every defense: ours against the published structure, side by side.

    python benchmarks/step.py [--device cuda --size 32 --channels 3 --width 1 --precision bf16
                               --compile on --batch 512] [--profile]

On a GPU it also says what a TRADES step of ours takes in either layout of the features. `--width 1`
is 64 base channels, `--steps` are those of the inner attack.

The reference (benchmarks/reference.py) takes its batch from a data loader, ours from uint8 pixels
on the device. Rounds alternate; medians count. Weights, images and starting points are the same,
so the losses agree, up to pixels whose gradient is so near 0 that rounding decides its sign: from
there on the attacks differ. `--double` shows, in float64, that nothing else does.
"""

import argparse
import copy
from collections.abc import Callable
from statistics import median
from types import SimpleNamespace
from typing import Any, NamedTuple

import harness
import reference
import torch
import torch.nn.functional as F
from harness import seconds
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

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
REFERENCES = ("at", "at_backward", "trades", "dtrades", "mart", "faal")
# Forward passes that the algorithm needs, beside two (forward and backward) for each ascent step;
# a backward pass by the images costs as much as a forward pass, one by the parameters twice.
PASSES = {"at": 3, "trades": 7, "dtrades": 9, "mart": 6, "faal": 3}
# All passes of training on one step; of FAT at most those of AT. Their targets are over AT's step.
ONE_STEP, SLACK = {"fgsm": 8, "fast": 5}, 1.15
CPU_TARGETS = {"at": 1.5, "trades": 2.5}
GPU_TARGET, GPU_SHARE = 5.0, 0.3
# The most that a step of the first may take of one of the second.
OVER = {("dtrades", "trades"): 1.10, ("faal", "at"): 1.05}
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
    return harness.parser(
        __doc__, device="cpu", threads=2, size=28, channels=1, width=0.25, batch=128, steps=10,
        epsilon=0.1, rounds=3, precision="float32", compile="off", double=False, profile=False,
    )  # fmt: skip


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
    hardware = harness.hardware(torch.device(options.device), options.threads)
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
    ours, how = our_steps(model, pixels, labels, options)
    if options.compile == "on":
        print(f"ours: {how}")
    theirs = reference_steps(model, pixels, labels, options)
    steps = {name: (theirs[name], ours[name.removesuffix("_backward")]) for name in theirs}
    losses = {name: [run().item() for run in pair] for name, pair in steps.items()}
    rounds = [
        {name: [seconds(run, device) for run in pair] for name, pair in steps.items()}
        for _ in range(options.rounds)
    ]
    rate = matrix_rate(device) if device.type == "cuda" else None
    operations = forward_operations(model, pixels)
    rows = []
    for name, (expected, loss) in losses.items():
        took = [median(times[name][which] for times in rounds) for which in (0, 1)]
        count = 2 * options.steps + PASSES[name.removesuffix("_backward")]
        share = None if rate is None else count * operations / took[1] / rate
        rows.append(Row(name, *took, abs(expected - loss) / abs(expected), share))
    return rows


def prepare(options: argparse.Namespace) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A network after some steps of standard training, and a batch of made-up images as uint8."""
    torch.manual_seed(0)
    device, kind = torch.device(options.device), kind_of(options)
    pixels, labels = (
        part.to(device) for part in harness.made_up(options.batch, options.channels, options.size)
    )
    network = resnet18.build((options.channels, 32, 32), 10, options.width)
    layer = Preprocess([0.5] * options.channels, [0.25] * options.channels)
    model = nn.Sequential(layer, network).to(device, kind).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(model(pixels.to(kind) / 255), labels).backward()
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

    def run(name: str) -> Tensor:
        images, targets = (part.to(device) for part in next(iter(loader)))
        attack = reference.Attack(
            options.epsilon, options.steps, options.epsilon / 4, draws(device),
            backward=name.endswith("_backward"),
        )  # fmt: skip
        step = getattr(reference, name.removesuffix("_backward"))
        loss: Tensor = step(model, images, targets, attack)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return {name: lambda name=name: run(name) for name in REFERENCES}


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
    inner = InnerAttack(Threat("linf", options.epsilon), options.steps, options.epsilon / 4)
    networks = {"model": model, "frozen": twin.module}
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True

    def run(defense: Any, knobs: Any, fit: bool = True) -> Tensor:
        images = (pixels.to(kind_of(options)) / 255).contiguous(memory_format=layout)
        twin.refresh()
        optimizer.zero_grad(set_to_none=True)
        step = Step(networks["frozen"], inner, draws(device), 0, 1, 0.0, model)
        with precision(options.precision, device):
            loss = defense.training_loss(networks["model"], images, labels, step, knobs).total
            loss.backward()
        if fit:
            optimizer.step()
        return loss.detach()

    def probe(model: nn.Module, frozen: nn.Module) -> None:
        networks.update(model=model, frozen=frozen)
        run(*OURS["trades"], fit=False)

    settings: Any = SimpleNamespace(compile=options.compile, precision=options.precision)
    fast, frozen, how = compiled(model.train(), twin.module, settings, 1, probe)
    networks.update(model=fast, frozen=frozen)
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
    medians = {name: median(values) for name, values in times.items()}
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
        took = median(seconds(run, labels.device) for _ in range(options.rounds))
        print(f"trades, {name}{' (ours)' if layout == own else ''}: {took:.4f} s")


def kind_of(options: argparse.Namespace) -> torch.dtype:
    return torch.float64 if options.double else torch.float32


def draws(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def forward_operations(model: nn.Module, pixels: Tensor) -> float:
    """Floating-point operations of one forward pass of the batch: convolutions and products."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        model(pixels[:1].to(next(model.parameters()).dtype) / 255)
    return float(counted.get_total_flops()) * len(pixels)


def matrix_rate(device: torch.device, size: int = 8192) -> float:
    """The most bf16 operations a second that the card's matrix product reaches here."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = min(seconds(lambda: left @ right, device) for _ in range(20))
    return 2.0 * size**3 / best


def print_rows(rows: list[Row], device: str) -> None:
    """The comparisons, and D-TRADES over TRADES and FAAL over AT."""
    print(f"{'step':14}{'reference':>12}{'ours':>10}{'ratio':>8}{'target':>8}"
          f"{'losses differ by':>18}{'matrix rate':>13}")  # fmt: skip
    for row in rows:
        target = GPU_TARGET if device.startswith("cuda") else CPU_TARGETS.get(row.defense)
        share = "" if row.share is None else f"{row.share:12.1%}"
        print(f"{row.defense:14}{row.reference:10.3f} s{row.ours:8.3f} s{row.ratio:8.2f}"
              f"{target or '':>8}{row.difference:18.1e} {share}")  # fmt: skip
    times = {row.defense: row.ours for row in rows}
    for (defense, base), limit in OVER.items():
        print(f"{defense} over {base}: {times[defense] / times[base]:.3f}, target {limit:.2f}")


def profiled(options: argparse.Namespace) -> str:
    """Where the time of one of our TRADES steps goes, by operator."""
    step = our_steps(*prepare(options), options)[0]["trades"]
    step()
    card = options.device.startswith("cuda")
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * card
    with profile(activities=activities) as profiler:
        step()
    key = "self_cuda_time_total" if card else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=key, row_limit=10, max_name_column_width=60)


if __name__ == "__main__":
    main()
