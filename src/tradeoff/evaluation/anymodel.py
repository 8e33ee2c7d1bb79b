"""The study's evaluation for a model that is not the study's, from Python or the shell.

from tradeoff.evaluation import evaluate
result = evaluate(model, images, labels, Threat("linf", 8 / 255), "autoattack")

python -m tradeoff.evaluation.anymodel MODEL DATA.npz --suite autoattack --epsilon 8/255
python -m tradeoff.evaluation.anymodel CELL --suite autoattack
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.suites.ledger import Ledger, save_ledger
from tradeoff.attacks.suites.run import OnProgress, run_suite
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Dataset, Study, Suite
from tradeoff.datasets.prepared import class_balanced_order, load_prepared
from tradeoff.evaluation.metrics import suite_metrics
from tradeoff.evaluation.norms import norm_metrics
from tradeoff.networks.device import NoSuchDevice, pick_device
from tradeoff.networks.models import load_classifier
from tradeoff.networks.passes import in_training
from tradeoff.networks.threat import BallNorm, Threat
from tradeoff.running.attack_checkpoints import Checkpoints
from tradeoff.running.progress import Progress


class Evaluation(NamedTuple):
    """What became of every image, and the metrics computed from it."""

    ledger: Ledger
    metrics: dict[str, Any]


class Unusable(Exception):
    """A file given on the command line cannot be used; the message says what is needed."""


def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    threat: Threat,
    suite: str | Suite,
    *,
    checkpoints: Path | None = None,
    report: OnProgress = lambda version, attack, done, images: None,
) -> Evaluation:
    """Put a model through a suite of attacks.

    Args:
        model: maps images to logits (N, classes); it is attacked in eval mode, in which it is
            left, in float32, on the images' device.
        images: (N, C, H, W) in [0, 1]; labels (N,) int64. If there are more than the suite's
            `images`, so many of them are attacked, class-balanced and always the same ones; the
            ledger's `about["chosen"]` has their indices in its order, or None if all are attacked.
        suite: a suite, or the name of one in ./params.yaml.
        checkpoints: a folder that keeps what is done, so that an interrupted call goes on.
        report: called with (version, attack, images done, images); the version is "best".

    Raises:
        ValueError: model, images or labels are not what an attack takes.
        BadParams: there is no such suite, or params.yaml cannot be used.
    """
    chosen = Study.load().suite(suite) if isinstance(suite, str) else suite
    if in_training(model):
        model.eval()
    places = None
    if chosen.images is not None and chosen.images < len(labels):
        places = class_balanced_order(labels.cpu(), ("evaluate",))[: chosen.images]
        images, labels = (part[places.to(part.device)] for part in (images, labels))
    with torch.no_grad():
        classes = model(images[:1]).shape[-1]
    about = {
        "cell": type(model).__name__,
        "suite": chosen.name,
        "classes": int(classes),
        "threat": {"norm": threat.norm, "epsilon": threat.epsilon},
        "attacks": {a.name: {"attack": a.module} | a.knobs.model_dump() for a in chosen.attacks},
        "chosen": None if places is None else places.tolist(),
    }
    ledger = run_suite(
        {"best": model},
        images,
        labels,
        threat,
        chosen,
        about=about,
        checkpoints=Checkpoints(checkpoints),
        report=report,
    )
    return Evaluation(ledger, suite_metrics(ledger) | {"norms": norm_metrics(ledger, "best")})


def load_exported(path: Path, device: torch.device) -> nn.Module:
    """A TorchScript or torch.export (.pt2) file as a module.

    Raises:
        Unusable: it is neither.
    """
    try:
        if path.suffix == ".pt2":
            module = torch.export.load(path).module().to(device)
            module.training = False  # its mode is frozen in the graph; eval() is refused
            return module
        return torch.jit.load(str(path), map_location=device)
    except (RuntimeError, ValueError, OSError) as error:
        raise Unusable(
            f"{path}: neither TorchScript nor torch.export (.pt2): {str(error).splitlines()[0]}"
        ) from error


def load_images(path: Path, device: torch.device) -> tuple[Tensor, Tensor]:
    """`images` float (N, C, H, W) in [0, 1] and `labels` (N,) of an .npz file.

    Raises:
        Unusable: there is no such file, or it lacks one of the two.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = file["images"], file["labels"]
    except (OSError, KeyError, ValueError) as error:
        raise Unusable(
            f"{path}: an .npz file with `images` and `labels` is needed: {error}"
        ) from None
    return (
        torch.from_numpy(images).float().to(device),
        torch.from_numpy(labels).long().to(device),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the robustness of a model.")
    parser.add_argument("model", help="a cell of the study, or a TorchScript or .pt2 file")
    parser.add_argument("data", nargs="?", help=".npz with images and labels; a cell needs none")
    parser.add_argument("--suite", default="autoattack", help="of params.yaml")
    parser.add_argument("--norm", choices=["linf", "l2"], help="a cell's own; else linf")
    parser.add_argument("--epsilon", help="such as 8/255 or 0.3; a cell has its own")
    parser.add_argument("--out", type=Path, help="write the ledger here (.npz)")
    given = parser.parse_args()
    try:
        result = _evaluate_files(given)
    except (Unusable, BadParams, NoSuchDevice, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on")
    if given.out:
        save_ledger(result.ledger, given.out)
    print(_attacked(result.ledger))
    for name, value in result.metrics.items():
        print(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")


def _evaluate_files(given: argparse.Namespace) -> Evaluation:
    study, dataset = Study.load(), None
    if given.data is None:
        cell = study.cell(given.model)
        dataset = cell.dataset
        device = pick_device(dataset.threads)
        data = load_prepared(dataset.prepared, dataset.name)
        model = load_classifier(cell, "best", data, device)
        test = data.test.first(dataset.suite(given.suite).images).to(device)
        images, labels = test.images, test.labels
    else:
        device = pick_device()
        model = load_exported(Path(given.model), device)
        images, labels = load_images(Path(given.data), device)
    threat = _threat(given.norm, given.epsilon, dataset)
    progress = Progress(f"attack {given.suite}", Path(given.model).name, (1, 1))
    return evaluate(
        model,
        images,
        labels,
        threat,
        (dataset or study).suite(given.suite),
        checkpoints=Path("checkpoints"),
        report=progress.attacking,
    )


def _threat(norm: BallNorm | None, epsilon: str | None, dataset: Dataset | None) -> Threat:
    """The threat given on the command line, else that of the cell's data set."""
    known = dataset.threat if dataset else None
    norm = norm or (known.norm if known else "linf")
    if epsilon is None:
        if known is None or norm != known.norm:
            raise Unusable(f"--epsilon is missing: the radius in {norm}, such as 8/255")
        return Threat(norm, known.epsilon)
    numerator, _, denominator = epsilon.partition("/")
    try:
        return Threat(norm, float(numerator) / float(denominator or 1))
    except (ValueError, ZeroDivisionError):
        raise Unusable(f"--epsilon {epsilon}: a number or a quotient such as 8/255") from None


def _attacked(ledger: Ledger) -> str:
    """Which images under which threat, in words."""
    chosen, threat = ledger.about["chosen"], ledger.about["threat"]
    which = "" if chosen is None else " (as many as the suite takes, class-balanced)"
    return (
        f"{len(ledger['labels'])} images{which}, {ledger.about['suite']}, "
        f"{threat['norm']} {threat['epsilon']:.4g}"
    )


if __name__ == "__main__":
    main()
