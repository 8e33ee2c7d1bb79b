"""AutoAttack, ours against pyautoattack: same model, images and budgets, one run.

    TRADEOFF_DATA=data python benchmarks/autoattack.py [--device cuda] [--samples 200]
                                                       [--version plus] [--scale 0.1]

Trains a small convolutional network adversarially on MNIST ($TRADEOFF_DATA/MNIST/raw/*.gz), or
on scikit-learn's digits if MNIST is not there, then attacks the first test images with both. The
target is a ratio of 2 on two CPU cores and of 3 on a GPU. Ours attacks the folded twin of the
network and keeps freed memory, as the stages do; theirs comes first, so that neither helps it.
Passes are counted in images. The original network judges both.
"""

import argparse
import copy
import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import harness  # noqa: F401
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.attacks.autoattack import PAPER, Knobs, autoattack
from tradeoff.networks.device import keep_freed_memory
from tradeoff.networks.folding import fold
from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat, project

try:
    from pyautoattack import AutoAttack
except ImportError:
    AutoAttack = None

Clock = Callable[[], float]
TARGET = {"cpu": 2, "cuda": 3}


class Data(NamedTuple):
    name: str
    epsilon: float
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class Row(NamedTuple):
    who: str
    robust_accuracy: float
    seconds: float
    forward: int
    backward: int
    fooled: Tensor


class Counter(nn.Module):
    """Passes images on to a model and counts them, forward and backward."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.forward_passes = self.backward_passes = 0

    def forward(self, images: Tensor) -> Tensor:
        self.forward_passes += len(images)
        logits = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward_passes += len(gradient)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--batch-size", type=int, help="default: 256 on a CPU, 2000 on a GPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the standard budget")
    parser.add_argument("--version", choices=["standard", "plus"], default="standard")
    parser.add_argument("--batches", type=int, default=300, help="of training, before the attack")
    parser.add_argument(
        "--cpu-seconds", action="store_true", help="of this process, where others keep a CPU busy"
    )
    return parser


def main() -> None:
    compare(arguments().parse_args())


def compare(options: argparse.Namespace) -> list[Row]:
    """Theirs, where it is installed, and ours on the same model and images."""
    clock = clock_of(options)
    torch.set_num_threads(options.threads)
    data = load()
    device = torch.device(options.device)
    model = train(network(data.images.shape[-1]), data, device, options.batches)
    images = data.test_images[: options.samples].to(device)
    labels = data.test_labels[: options.samples].to(device)
    threat = Threat(options.norm, data.epsilon if options.norm == "linf" else 2.0)
    budget = budget_of(options)
    batch_size = options.batch_size or (256 if device.type == "cpu" else 2000)
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{options.threads} cores"
    print(
        f"{data.name}, {len(images)} images, {threat}, {hardware}, {options.version}, "
        f"budget x {options.scale:g}",
        flush=True,
    )
    rows = []
    if AutoAttack is None:
        print("pyautoattack is not installed: the comparison is missing")
    else:
        rows.append(time_theirs(model, images, labels, threat, budget, clock))
    keep_freed_memory()
    rows.append(time_ours(model, images, labels, threat, budget, batch_size, clock))
    report(rows, device.type)
    return rows


def clock_of(options: argparse.Namespace) -> Clock:
    return time.process_time if options.cpu_seconds else time.perf_counter


def budget_of(options: argparse.Namespace) -> Knobs:
    """The share of the published budget that the options ask for."""
    return Knobs(
        version=options.version,
        apgd_steps=max(round(PAPER.apgd_steps * options.scale), 2),
        fab_steps=max(round(PAPER.fab_steps * options.scale), 2),
        square_queries=round(PAPER.square_queries * options.scale),
    )


def time_ours(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    budget: Knobs,
    batch_size: int,
    clock: Clock = time.perf_counter,
) -> Row:
    attacked = fold(model)
    keys = sample_keys(torch.arange(len(images), device=images.device), "benchmark")

    def attack(counter: nn.Module) -> Tensor:
        return autoattack(
            counter,
            images,
            labels,
            budget,
            threat,
            keys,
            batch_size=batch_size,
        ).images

    return measure("ours", attack, attacked, model, images, labels, clock)


def time_theirs(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    budget: Knobs,
    clock: Clock = time.perf_counter,
) -> Row:
    def attack(counter: nn.Module) -> Tensor:
        ensemble = AutoAttack(
            counter,
            norm={"linf": "Linf", "l2": "L2"}[threat.norm],
            eps=threat.epsilon,
            seed=0,
            device=images.device,
            version=budget.version,
        )
        ensemble.fab.n_iter = budget.fab_steps
        ensemble.square.n_queries = budget.square_queries
        for apgd in (ensemble.apgd, ensemble.apgd_targeted):
            apgd.n_iter = budget.apgd_steps
            apgd.n_iter_2 = max(int(0.22 * apgd.n_iter), 1)
            apgd.n_iter_min = max(int(0.06 * apgd.n_iter), 1)
            apgd.size_decr = max(int(0.03 * apgd.n_iter), 1)
        return ensemble.run_standard_evaluation(images, labels, batch_size=len(images))[0]

    return measure("pyautoattack", attack, copy.deepcopy(model), model, images, labels, clock)


def measure(
    who: str,
    attack: Callable[[nn.Module], Tensor],
    attacked: nn.Module,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    clock: Clock,
) -> Row:
    """Run one attack on a copy of the model; the original judges what it found."""
    counter = Counter(attacked).eval()
    with torch.no_grad():
        attacked(images)  # kernels are chosen and loaded before the clock starts
    synchronize(images)
    started = clock()
    found = attack(counter)
    synchronize(images)
    seconds = clock() - started
    with torch.no_grad():
        fooled = model(found).argmax(1) != labels
    accuracy = 1 - fooled.double().mean().item()
    return Row(who, accuracy, seconds, counter.forward_passes, counter.backward_passes, fooled)


def synchronize(images: Tensor) -> None:
    if images.is_cuda:
        torch.cuda.synchronize(images.device)


def report(rows: list[Row], device_type: str) -> None:
    print(f"{'':14}{'robust':>8}{'seconds':>10}{'forward':>12}{'backward':>12}")
    for row in rows:
        passes = f"{row.forward:12}{row.backward:12}"
        print(f"{row.who:14}{row.robust_accuracy:8.1%}{row.seconds:10.1f}{passes}")
    if len(rows) == 2:
        theirs, ours = rows
        same = (ours.fooled == theirs.fooled).double().mean().item()
        print(f"same verdict on {same:.1%} of the images")
        ratio, target = speedup(rows), TARGET[device_type]
        print(f"ratio {ratio:.2f}, target {target}: {'reached' if ratio >= target else 'MISSED'}")


def speedup(rows: list[Row]) -> float:
    """How many times as fast ours is, from the two rows of `compare`."""
    theirs, ours = rows
    return theirs.seconds / ours.seconds


def load() -> Data:
    folder = Path(os.environ.get("TRADEOFF_DATA", "data")) / "MNIST" / "raw"
    if not (folder / "train-images-idx3-ubyte.gz").exists():
        from sklearn.datasets import load_digits

        print(f"no MNIST in {folder}: taking scikit-learn's digits")
        digits = load_digits()
        order = torch.randperm(len(digits.target), generator=generator("digits"))
        images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 16
        labels = torch.tensor(digits.target, dtype=torch.long)[order]
        return Data("digits", 0.15, images[500:], labels[500:], images[:500], labels[:500])
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    train_images, train_labels, images, labels = (read(folder / f"{n}-ubyte.gz") for n in names)
    return Data(
        "MNIST", 0.3, train_images[:, None] / 255.0, train_labels.long(),
        images[:, None] / 255.0, labels.long(),
    )  # fmt: skip


def read(path: Path) -> Tensor:
    """An IDX file of unsigned bytes: a magic number with the count of dimensions, sizes, data."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", dimensions, offset=4)
    return torch.from_numpy(
        np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()
    )


def network(size: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 1
    for width, stride in ((16, 1), (32, 2), (32, 2)):
        layers += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
        channels = width
    reduced = -(-size // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * reduced**2, 10))


def train(
    model: nn.Module,
    data: Data,
    device: torch.device,
    batches: int = 300,
    learning_rate: float = 4e-3,
    steps: int = 5,
) -> nn.Module:
    """Adversarial training (Madry et al. 2018), epsilon rising from nothing; of 0 steps, noise."""
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    shuffle = generator("benchmark")
    for number in range(batches):
        batch = torch.randint(len(data.images), (128,), generator=shuffle)
        images, labels = data.images[batch].to(device), data.labels[batch].to(device)
        threat = Threat("linf", data.epsilon * min(1, 1.5 * number / batches))
        noise = torch.rand(images.shape, generator=shuffle).to(device) * 2 - 1
        attacked = (images + threat.epsilon * noise).clamp(0, 1)
        model.eval()
        for _ in range(steps):
            attacked.requires_grad_()
            loss = F.cross_entropy(model(attacked), labels)
            direction = torch.autograd.grad(loss, attacked)[0].sign()
            attacked = project(attacked.detach() + threat.epsilon / 3 * direction, images, threat)
        model.train()
        optimizer.zero_grad()
        F.cross_entropy(model(attacked), labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval()


if __name__ == "__main__":
    main()
