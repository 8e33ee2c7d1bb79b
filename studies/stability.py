"""How often does TRADES mask its gradients, and does a weight for each image mend it?

    python studies/stability.py [--seeds 5] [--arms trades-3-16-0.01 ...] [--epochs 12]

Li et al. (2024) report seeds of TRADES whose accuracy under PGD is far above that under AutoAttack,
more of them where beta is low, batches are small, rates are high and classes are many. Here the
classes are 100: pairs of digits. An arm is NAME-BETA-BATCH-RATE, trained with every seed; a model
counts as masked if its RA under PGD is more than 10 points above that under APGD-CE and Square.

What is told is the rate of masked models with its exact interval (Clopper & Pearson 1934), and of
each epoch FOSC, gradient cosine, lambda's quantiles and a short Square, which date onset and
healing. Models that are in the CSV are not trained again.
"""

import argparse
import csv
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from tradeoff.networks import arithmetic  # noqa: E402

arithmetic.switch("portable")

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from scipy.stats import binomtest  # noqa: E402
from torch import nn  # noqa: E402

from tradeoff.attacks import apgd, pgd, square  # noqa: E402
from tradeoff.attacks.outcome import is_fooled  # noqa: E402
from tradeoff.attacks.suites.gradients import gradient_checks  # noqa: E402
from tradeoff.core.settings import AscentSettings  # noqa: E402
from tradeoff.core.study import Study  # noqa: E402
from tradeoff.datasets import digit_pairs  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset, split  # noqa: E402
from tradeoff.defenses import at, dtrades, trades  # noqa: E402
from tradeoff.networks.ascent import ascend_cross_entropy, ascend_divergence  # noqa: E402
from tradeoff.networks.models import Blueprint, build_network  # noqa: E402
from tradeoff.networks.randomness import sample_keys  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training.contract import Loss, Step  # noqa: E402
from tradeoff.training.loop import fit  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402

THREAT = Threat("linf", 0.12)
WIDTH = 0.125
MASKED = 0.10  # RA under PGD less RA under APGD-CE and Square
OVER_TRADES = ("trades", "dtrades", "uniform_start", "cross_entropy", "floor")


@dataclass(frozen=True)
class Arm:
    """What is trained: `name` as in `losses`, beta of TRADES or the most that D-TRADES's entropy
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


DEFAULT = [Arm("trades", beta, batch, rate)
           for beta, batch, rate in product((1.0, 3.0, 6.0), (16, 64), (0.003, 0.01))] + [
    Arm(name, 3.0, 16, 0.01) for name in (*OVER_TRADES[1:], "at")
]  # fmt: skip


class Variation(ModuleType):
    """TRADES with one thing changed, as a defense for the training loop."""

    SELECT_BY = "robust"

    def __init__(self, arm: Arm) -> None:
        super().__init__(arm.name)
        self.arm = arm

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
            alpha = self.arm.beta / torch.tensor(100.0).log().item()
            measured = dtrades.adaptive_weight(step.frozen, eval_logits, adversarial, alpha, 1.0)
            weight = measured.weight.detach().clamp_min(self.arm.beta)
        return Loss(*trades.objective(model(images), model(adversarial), labels, weight))


def plan_of(arm: Arm, seed: int, epochs: int) -> Plan:
    """How an arm is trained: as the digits are, but for what it varies."""
    attack = AscentSettings(steps=10, relative_step_size=0.25)
    usual = Study.load(ROOT / "params.yaml").datasets["digits"].train
    own = {"epochs": epochs, "batch_size": arm.batch, "learning_rate": arm.rate}
    settings = usual.model_copy(update=own | {"attack": attack, "selection": attack})
    alpha = arm.beta / torch.tensor(100.0).log().item()
    defense, knobs = {
        "at": (at, at.Knobs()),
        "trades": (trades, trades.Knobs(beta=arm.beta)),
        "dtrades": (dtrades, dtrades.Knobs(alpha=alpha, beta=1.0, differentiable=False)),
    }.get(arm.name, (Variation(arm), None))
    return Plan(defense, knobs, settings, THREAT, seed)


def judge(model: nn.Module, subset: Subset) -> dict[str, float]:
    """RA under PGD-10, and under APGD-CE and Square together, of a model in eval mode."""
    keys = sample_keys(torch.arange(len(subset)), "stability")
    images, labels = subset.images, subset.labels
    ten = pgd.Knobs(loss="cross_entropy", steps=10, relative_step_size=0.25, restarts=1)
    strong = apgd.Knobs(loss="ce", targets=1, steps=50, restarts=1)
    queries = square.Knobs(queries=500, restarts=1, rescale_schedule=True)
    examples = {
        "natural": images,
        "pgd": pgd.pgd(model, images, labels, ten, THREAT, keys).images,
        "apgd": apgd.apgd(model, images, labels, strong, THREAT, keys).images,
        "square": square.square(model, images, labels, queries, THREAT, keys).images,
    }
    with torch.no_grad():
        right = {name: ~is_fooled(model(points), labels) for name, points in examples.items()}
    strongest = right["natural"] & right["apgd"] & right["square"]
    values = {"natural": right["natural"], "pgd": right["natural"] & right["pgd"],
              "strongest": strongest}  # fmt: skip
    return {name: mask.float().mean().item() for name, mask in values.items()}


def telemetry(model: nn.Module, subset: Subset) -> dict[str, float]:
    """FOSC, gradient cosine and RA under a Square of 200 queries."""
    keys = sample_keys(torch.arange(len(subset)), "telemetry")
    checks = gradient_checks(model, subset.images, subset.labels, THREAT, keys=keys, steps=10,
                             relative_step_size=0.25)  # fmt: skip
    queries = square.Knobs(queries=200, restarts=1, rescale_schedule=True)
    points = square.square(model, subset.images, subset.labels, queries, THREAT, keys).images
    with torch.no_grad():
        robust = ~is_fooled(model(points), subset.labels)
    return {"fosc": float(checks["fosc"].mean()), "square": robust.float().mean().item(),
            "gradient_cosine": float(checks["gradient_cosine"].mean())}  # fmt: skip


def run(arm: Arm, seed: int, epochs: int, data: Prepared) -> tuple[list[dict[str, Any]], bool]:
    """Train an arm once: a row for each epoch, of which the last has the judgement; and whether
    its model is masked."""
    blueprint = Blueprint.of("resnet18", WIDTH, data)
    model = build_network(blueprint, data.mean, data.std, seed)
    rows: list[dict[str, Any]] = []

    def after_epoch(epoch: int, _: int, __: int, ___: int, row: dict[str, float] | None) -> None:
        if row is None:
            return
        kept = {name: value for name, value in row.items()
                if name.startswith(("lambda_q", "validation"))}  # fmt: skip
        model.eval()
        rows.append({"arm": str(arm), "seed": seed, "epoch": epoch + 1}
                    | telemetry(model, data.validation.first(100)) | kept)  # fmt: skip
        model.train()

    fit(model, data, plan_of(arm, seed, epochs), after_epoch)
    judged = judge(model.eval(), data.test.first(300))
    masked = judged["pgd"] - judged["strongest"] > MASKED
    rows[-1] |= {f"last_{name}": value for name, value in judged.items()} | {"masked": masked}
    return rows, masked


COLUMNS = ["arm", "seed", "epoch", "fosc", "gradient_cosine", "square",
           "validation_natural_accuracy", "validation_robust_accuracy", "lambda_q10", "lambda_q50",
           "lambda_q90", "last_natural", "last_pgd", "last_strongest", "masked"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--arms", type=Arm.parse, nargs="+", default=DEFAULT)
    parser.add_argument("--out", type=Path, default=Path("studies/stability.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = split("digit_pairs", digit_pairs.read(Path()), 500, 1000, None)
    new = not options.out.exists()
    rows_before = [] if new else list(csv.DictReader(options.out.open()))
    masked = {(row["arm"], int(row["seed"])): row["masked"] == "True"
              for row in rows_before if row["masked"]}  # fmt: skip
    with options.out.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for arm in options.arms:
            for seed in range(options.seeds):
                if (str(arm), seed) not in masked:
                    rows, masked[str(arm), seed] = run(arm, seed, options.epochs, data)
                    writer.writerows(rows)
                    file.flush()
            hits = sum(masked[str(arm), seed] for seed in range(options.seeds))
            low, high = binomtest(hits, options.seeds).proportion_ci(0.95, "exact")
            print(f"{arm}: {hits} of {options.seeds} masked, 95 % interval {low:.2f} to {high:.2f}",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
