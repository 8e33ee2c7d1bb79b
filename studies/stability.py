"""How often does TRADES mask its gradients, and does a weight for each image mend it?

    python studies/stability.py mnist_5k    35 networks of ten minutes: three hours on two cores
    python studies/stability.py pairs [--seeds 5] [--arms trades-3-16-0.01 ...] [--epochs 12]

Li et al. (2024) report seeds of TRADES whose accuracy under PGD is far above that under AutoAttack,
more of them where beta is low, batches are small, rates are high and classes are many. `pairs` are
of digits, 100 classes; `mnist_5k` trains as the study does there, but for its arms. An arm is
NAME-BETA-BATCH-RATE, trained with every seed; a network counts as masked if its RA under PGD is
more than 10 points above that under APGD-CE and Square.

What is told is the rate of masked networks with its exact interval (Clopper & Pearson 1934) and
Fisher's exact test against the first arm; reports/stability has the rows, with FOSC, gradient
cosine, lambda's quantiles and a short Square after each epoch, which date onset and healing.
Networks that are there are not trained again.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tradeoff.networks import arithmetic  # noqa: E402

arithmetic.switch("portable")

import pandas as pd  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from scipy.stats import binomtest, fisher_exact  # noqa: E402
from torch import nn  # noqa: E402

from tradeoff.attacks import apgd, pgd, square  # noqa: E402
from tradeoff.attacks.outcome import is_fooled  # noqa: E402
from tradeoff.attacks.suites.gradients import gradient_checks  # noqa: E402
from tradeoff.core.settings import AscentSettings  # noqa: E402
from tradeoff.core.study import Study  # noqa: E402
from tradeoff.datasets import digit_pairs, mnist_5k  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset, split  # noqa: E402
from tradeoff.datasets.published import PublishedData  # noqa: E402
from tradeoff.defenses import at, dtrades, trades  # noqa: E402
from tradeoff.networks.ascent import ascend_cross_entropy, ascend_divergence  # noqa: E402
from tradeoff.networks.models import Blueprint, build_network  # noqa: E402
from tradeoff.networks.randomness import sample_keys  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training.contract import Loss, Step  # noqa: E402
from tradeoff.training.loop import fit  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402

HELD_OUT = 500, 1000  # for validation and for the test
MASKED = 0.10  # RA under PGD less RA under APGD-CE and Square
OVER_TRADES = ("trades", "dtrades", "shuffled", "uniform_start", "cross_entropy", "floor")


@dataclass(frozen=True)
class Arm:
    """What is trained: `name` as in `plan_of`, beta of TRADES or the most that D-TRADES's entropy
    weighs, batch size and peak learning rate."""

    name: str
    beta: float
    batch: int
    rate: float

    @classmethod
    def parse(cls, text: str) -> "Arm":
        """The arm of a text such as trades-3-16-0.01.

        Raises:
            argparse.ArgumentTypeError: it is none; says what one is.
        """
        name, *numbers = text.split("-")
        try:
            beta, batch, rate = numbers
            arm = cls(name, float(beta), int(batch), float(rate))
        except ValueError:
            arm = None
        if arm is None or name not in (*OVER_TRADES, "at"):
            raise argparse.ArgumentTypeError(
                f"{text!r} is no arm; one is NAME-BETA-BATCH-RATE, such as trades-3-16-0.01, with "
                f"NAME {' | '.join((*OVER_TRADES, 'at'))}"
            )
        return arm

    def __str__(self) -> str:
        return f"{self.name}-{self.beta:g}-{self.batch}-{self.rate:g}"


@dataclass(frozen=True)
class Setting:
    """The images, and how networks are trained on them where arms do not say.

    Attributes:
        recipe: the data set in params.yaml whose `train` holds.
        width: of ResNet-18.
    """

    name: str
    read: Callable[[Path], PublishedData]
    recipe: str
    width: float
    epsilon: float
    steps: int
    epochs: int
    arms: tuple[str, ...]

    @property
    def data(self) -> Prepared:
        return split(self.name, self.read(Path()), *HELD_OUT, None)


STUDY = Study.load(ROOT / "params.yaml")
MNIST = STUDY.datasets["mnist_5k"]
GRID = product((1, 3, 6), (16, 64), (0.003, 0.01))
# In batches of 64 networks mask their gradients, in batches of 32 some of them do; 1.5 is about
# D-TRADES's mean of lambda at the end of training.
SETTINGS = {
    "pairs": Setting(
        "digit_pairs", digit_pairs.read, "digits", 0.125, 0.12, steps=10, epochs=12,
        arms=(*(f"trades-{beta}-{batch}-{rate}" for beta, batch, rate in GRID),
              *(f"{name}-3-16-0.01" for name in (*OVER_TRADES[1:], "at"))),
    ),
    "mnist_5k": Setting(
        "mnist_5k", mnist_5k.read, "mnist_5k", MNIST.models["resnet18"].width,
        MNIST.threat.epsilon, steps=MNIST.train.attack.steps, epochs=MNIST.train.epochs,
        arms=("trades-6-32-0.002", "dtrades-6-32-0.002", "shuffled-6-32-0.002",
              "trades-1.5-32-0.002", "at-1-32-0.002", "trades-6-64-0.002", "dtrades-6-64-0.002"),
    ),
}  # fmt: skip


class Variation(ModuleType):
    """TRADES with one thing changed, as a defense for the training loop."""

    SELECT_BY = "robust"

    def __init__(self, arm: Arm, classes: int) -> None:
        super().__init__(arm.name)
        self.arm, self.classes = arm, classes

    def training_loss(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, step: Step, knobs: Any
    ) -> Loss:
        eval_logits = step.eval_logits(images)
        start = step.gaussian_start(images)
        if self.arm.name == "uniform_start":
            start = step.random_start(images)
        if self.arm.name == "cross_entropy":
            adversarial = ascend_cross_entropy(step.frozen, images, labels, start, step.inner)
        else:
            clean = F.log_softmax(eval_logits, 1)
            adversarial = ascend_divergence(step.frozen, images, clean, start, step.inner)
        weight: float | torch.Tensor = self.arm.beta
        if self.arm.name == "floor":
            alpha = alpha_of(self.arm, self.classes)
            measured = dtrades.adaptive_weight(step.frozen, eval_logits, adversarial, alpha, 1.0)
            weight = measured.weight.detach().clamp_min(self.arm.beta)
        return Loss(*trades.objective(model(images), model(adversarial), labels, weight))


def plan_of(setting: Setting, arm: Arm, seed: int, epochs: int, classes: int) -> Plan:
    """How an arm is trained: as its recipe is, but for what it varies."""
    attack = AscentSettings(steps=setting.steps, relative_step_size=0.25)
    usual = STUDY.datasets[setting.recipe].train
    own = {"epochs": epochs, "batch_size": arm.batch, "learning_rate": arm.rate}
    settings = usual.model_copy(update=own | {"attack": attack, "selection": attack})
    adaptive = {"alpha": alpha_of(arm, classes), "beta": 1.0, "differentiable": False}
    defense, knobs = {
        "at": (at, at.Knobs()),
        "trades": (trades, trades.Knobs(beta=arm.beta)),
        "dtrades": (dtrades, dtrades.Knobs(**adaptive)),
        "shuffled": (dtrades, dtrades.Knobs(**adaptive, whose="shuffled")),
    }.get(arm.name, (Variation(arm, classes), None))
    return Plan(defense, knobs, settings, Threat("linf", setting.epsilon), seed)


def alpha_of(arm: Arm, classes: int) -> float:
    """The alpha with which an entropy at its most weighs beta."""
    return arm.beta / math.log(classes)


def judge(model: nn.Module, subset: Subset, threat: Threat) -> dict[str, float]:
    """RA under PGD-10, and under APGD-CE and Square together, of a model in eval mode."""
    keys = sample_keys(torch.arange(len(subset)), "stability")
    images, labels = subset.images, subset.labels
    ten = pgd.Knobs(loss="cross_entropy", steps=10, relative_step_size=0.25, restarts=1)
    strong = apgd.Knobs(loss="ce", targets=1, steps=50, restarts=1)
    queries = square.Knobs(queries=500, restarts=1, rescale_schedule=True)
    examples = {
        "natural": images,
        "pgd": pgd.pgd(model, images, labels, ten, threat, keys).images,
        "apgd": apgd.apgd(model, images, labels, strong, threat, keys).images,
        "square": square.square(model, images, labels, queries, threat, keys).images,
    }
    with torch.no_grad():
        right = {name: ~is_fooled(model(points), labels) for name, points in examples.items()}
    strongest = right["natural"] & right["apgd"] & right["square"]
    values = {"natural": right["natural"], "pgd": right["natural"] & right["pgd"],
              "strongest": strongest}  # fmt: skip
    return {name: mask.float().mean().item() for name, mask in values.items()}


def telemetry(model: nn.Module, subset: Subset, threat: Threat) -> dict[str, float]:
    """FOSC, gradient cosine and RA under a Square of 200 queries."""
    keys = sample_keys(torch.arange(len(subset)), "telemetry")
    checks = gradient_checks(model, subset.images, subset.labels, threat, keys=keys, steps=10,
                             relative_step_size=0.25)  # fmt: skip
    queries = square.Knobs(queries=200, restarts=1, rescale_schedule=True)
    points = square.square(model, subset.images, subset.labels, queries, threat, keys).images
    with torch.no_grad():
        robust = ~is_fooled(model(points), subset.labels)
    return {"fosc": float(checks["fosc"].mean()), "square": robust.float().mean().item(),
            "gradient_cosine": float(checks["gradient_cosine"].mean())}  # fmt: skip


def run(name: str, arm: Arm, seed: int, epochs: int | None) -> list[dict[str, Any]]:
    """Train an arm once: a row for each epoch, of which the last has the judgement."""
    torch.set_num_threads(1)
    setting = SETTINGS[name]
    data = setting.data
    plan = plan_of(setting, arm, seed, epochs or setting.epochs, len(data.classes))
    model = build_network(Blueprint.of("resnet18", setting.width, data), data.mean, data.std, seed)
    rows: list[dict[str, Any]] = []

    def after_epoch(epoch: int, _: int, __: int, ___: int, row: dict[str, float] | None) -> None:
        if row is None:
            return
        kept = {name: value for name, value in row.items()
                if name.startswith(("lambda_q", "validation"))}  # fmt: skip
        model.eval()
        rows.append({"arm": str(arm), "seed": seed, "epoch": epoch + 1}
                    | telemetry(model, data.validation.first(100), plan.threat) | kept)  # fmt: skip
        model.train()

    fit(model, data, plan, after_epoch)
    judged = judge(model.eval(), data.test.first(300), plan.threat)
    masked = judged["pgd"] - judged["strongest"] > MASKED
    rows[-1] |= {f"last_{name}": value for name, value in judged.items()} | {"masked": masked}
    return rows


COLUMNS = ["arm", "seed", "epoch", "fosc", "gradient_cosine", "square",
           "validation_natural_accuracy", "validation_robust_accuracy", "lambda_q10", "lambda_q50",
           "lambda_q90", "last_natural", "last_pgd", "last_strongest", "masked"]  # fmt: skip


def rates(networks: pd.DataFrame, arms: Sequence[str]) -> list[str]:
    """A sentence for each arm: its rate, and how it compares with the first arm's.

    Args:
        networks: a row for each.
    """
    counts = {arm: (int(of.sum()), len(of)) for arm, of in networks.groupby("arm")["masked"]}
    first, sentences = counts[arms[0]], []
    for arm in arms:
        hits, seeds = counts[arm]
        low, high = binomtest(hits, seeds).proportion_ci(0.95, "exact")
        test = fisher_exact([[hit, trained - hit] for hit, trained in (first, counts[arm])])
        sentences.append(
            f"{arm}: {hits} of {seeds} masked, 95 % interval {low:.2f} to {high:.2f}"
            + (f"; against {arms[0]} p = {test.pvalue:.2f}" if arm != arms[0] else "")
        )
    return sentences


def networks_of(table: Path) -> pd.DataFrame:
    """The last epoch's row of each network of a table, `masked` among its columns."""
    if not table.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(table).dropna(subset="masked")


def add(table: Path, rows: list[dict[str, Any]]) -> None:
    """Write a network's rows to a table, whose order is that of arms, seeds and epochs."""
    before = [pd.read_csv(table)] if table.exists() else []
    both = pd.concat([*before, pd.DataFrame(rows, columns=COLUMNS)])
    both.sort_values(["arm", "seed", "epoch"]).to_csv(table, index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="by default those of the images")
    parser.add_argument("--arms", type=Arm.parse, nargs="+", help="by default those of the images")
    parser.add_argument("--out", type=Path, help="by default reports/stability/IMAGES.csv")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    table = options.out or ROOT / "reports" / "stability" / f"{options.images}.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    known = networks_of(table)
    there = set(zip(known.arm, known.seed, strict=True))
    arms = options.arms or [Arm.parse(text) for text in SETTINGS[options.images].arms]
    todo = [(arm, seed) for seed in range(options.seeds) for arm in arms
            if (str(arm), seed) not in there]  # fmt: skip
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        jobs = [pool.submit(run, options.images, arm, seed, options.epochs) for arm, seed in todo]
        for job in as_completed(jobs):
            add(table, job.result())
    print("\n".join(rates(networks_of(table), [str(arm) for arm in arms])))


if __name__ == "__main__":
    main()
