"""`tradeoff export CELL`: a cell's model for people who do not have the study."""

import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tradeoff.attacks.autoattack import Knobs, autoattack
from tradeoff.attacks.suites.ledger import BadLedger, load_ledger
from tradeoff.core.files import atomic_write
from tradeoff.core.study import Cell, Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.evaluation.metrics import suite_metrics
from tradeoff.evaluation.norms import norm_metrics
from tradeoff.evaluation.preflight import reason_of
from tradeoff.networks.device import matrix_precision, pick_device
from tradeoff.networks.folding import SAME
from tradeoff.networks.losses import competing_range
from tradeoff.networks.models import load_classifier, read_origin
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat


def export(key: str, folder: Path) -> list[Path]:
    """Write a cell's model in every form into a folder; the paths written.

    model.safetensors  the classifier with all that it is made of, which `tradeoff evaluate` reads
    model.pt2          a torch.export program: images (N, C, H, W) in [0, 1] to logits, any N; not
                       of every classifier, and the card says why not
    README.md          a model card, from params.yaml and the cell's ledgers
    robustbench.json   what RobustBench's form for a new model asks for
    adversarial.npz    images and labels: test images under AutoAttack, with the cell's budget

    Raises:
        BadParams: there is no such cell.
        ModelMismatch: it has no model yet.
    """
    cell = Study.load().cell(key)
    dataset, threat = cell.dataset, cell.dataset.threat
    device = pick_device(dataset.threads)
    data = load_prepared(dataset.prepared, dataset.name)
    model = load_classifier(cell, "best", data, device)
    suite = dataset.suite("autoattack")
    test = data.test.first(suite.images).to(device)
    images, labels = test.images, test.labels
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("model.safetensors", "model.pt2", "README.md",
                                        "robustbench.json", "adversarial.npz")]  # fmt: skip
    weights, program, card, claim, adversarial = paths
    shutil.copyfile(cell.model("best"), weights)
    reason = write_program(model, images, program)
    if reason:
        paths.remove(program)
    entry = next(attack for attack in suite.attacks if attack.module == "autoattack")
    knobs = Knobs(**entry.knobs.model_dump())
    keys = sample_keys(torch.arange(len(labels), device=device), "autoattack")
    attacked = autoattack(
        model, images, labels, knobs, Threat(threat.norm, threat.epsilon), keys,
        batch_size=suite.batch_size,
    )  # fmt: skip
    with atomic_write(adversarial) as partial, partial.open("wb") as file:
        np.savez(file, images=attacked.images.cpu().numpy(), labels=labels.cpu().numpy())
    numbers = _numbers(cell)
    claim.write_text(json.dumps(_claim(cell, numbers), indent=2) + "\n", "utf-8")
    card.write_text(_card(cell, numbers, images.shape[1:], reason), "utf-8")
    return paths


def write_program(model: nn.Module, images: Tensor, path: Path) -> str | None:
    """Write a model as a torch.export program that takes any number of images.

    Returns:
        None; or, where nothing was written, why: torch.export cannot follow all that a classifier
        may do, and what it makes of others is the model for one number of images alone.
    """
    few = images[:2]
    free = ({0: torch.export.Dim("images")},)
    try:
        # It reads cuDNN's flags, and refuses any that differ from torch's own defaults; and it
        # prints the whole graph of what it cannot follow.
        with matrix_precision("tf32"), redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            exported = torch.export.export(model, (few,), dynamic_shapes=free)
            program = exported.module()
    except Exception as error:  # of many kinds
        return f"torch.export cannot follow this classifier: {reason_of(error)}"
    with torch.no_grad():
        for some in (images[:1], images):
            expected = model(some)
            near = SAME * competing_range(expected).amax()
            if bool(((program(some) - expected).abs() > near).any()):
                return f"what torch.export makes of this classifier is wrong for {len(some)} images"
    with atomic_write(path) as partial, partial.open("wb") as file:
        torch.export.save(exported, file)
    return None


def _numbers(cell: Cell) -> dict[str, dict[str, Any]]:
    """The metrics of each suite whose ledger is there."""
    numbers: dict[str, dict[str, Any]] = {}
    for suite in cell.dataset.suites:
        try:
            ledger = load_ledger(cell.ledger(suite), cell.key, suite)
        except BadLedger:
            continue
        numbers[suite] = dict(suite_metrics(ledger)) | {"images": len(ledger["labels"])}
        if suite == "minimal":
            norms = norm_metrics(ledger, "best")
            numbers[suite] = {norm: value["APN"] for norm, value in norms.items()}
    return numbers


def _claim(cell: Cell, numbers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fields of RobustBench's form for a new model; null is for the claimant to fill in."""
    threat, shares = cell.dataset.threat, numbers.get("autoattack", {})
    return {
        "paper": None,
        "venue": None,
        "dataset": cell.dataset.name,
        "threat_model": {"linf": "Linf", "l2": "L2"}[threat.norm],
        "eps": threat.epsilon,
        "clean_accuracy": _percent(shares.get("NA")),
        "robust_accuracy": _percent(shares.get("RA")),
        "robust_accuracy_images": shares.get("images"),
        "attack": cell.dataset.evaluation("autoattack")["attacks"],
        "additional_data": False,
        "number_of_forward_passes": cell.network_count,
        "architecture": cell.architecture,
        "model_id": cell.key,
        "checkpoint": "model.safetensors",
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


PROGRAM = """    import torch
    model = torch.export.load("model.pt2").module()  # images (N, C, H, W), any N
    logits = model(images)
"""


def _card(
    cell: Cell, numbers: dict[str, dict[str, Any]], image: torch.Size, no_program: str | None
) -> str:
    """A model card: what it is, how it was trained, what was measured, how to use it."""
    threat, train = cell.dataset.threat, cell.train
    rows = [
        f"| {suite} | {name} | {value:.4f} |" if isinstance(value, float)
        else f"| {suite} | {name} | {value} |"
        for suite, metrics in numbers.items() for name, value in metrics.items()
    ]  # fmt: skip
    measured = "\n".join(["| suite | metric | value |", "| --- | --- | --- |", *rows])
    origin = read_origin(cell.model("best"))
    trained_with = ", ".join(f"{name} {value}" for name, value in origin.items())
    return f"""# {cell.key}

{cell.architecture} on {cell.dataset.name}, trained by `{cell.defense}` (seed {cell.seed});
classifier `{cell.classifier}`. It maps images {tuple(image)} with values in [0, 1] to logits;
normalisation is its first layer.

Training: {train.epochs} epochs of {train.optimizer} at {train.learning_rate}, batches of
{train.batch_size}; knobs {cell.knobs.model_dump()}; {trained_with}.

## Measured

Within {threat.norm} {threat.epsilon:.4g}, by the budgets of the study's params.yaml:

{measured if rows else "Nothing yet: the cell has no ledgers."}

## Use

{PROGRAM if no_program is None else f"There is no model.pt2: {no_program}."}
`tradeoff evaluate model.safetensors DATA.npz --epsilon {threat.epsilon:.4g}` evaluates it again.
`adversarial.npz` has `images` and `labels`: test images under AutoAttack.
"""
