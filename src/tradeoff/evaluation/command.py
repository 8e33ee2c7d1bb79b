"""`tradeoff evaluate`: a model and images by name, a suite, a threat; ledger and numbers."""

import argparse
import json
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tradeoff.attacks.suites.ledger import Ledger, save_ledger
from tradeoff.core.files import checkpoints_folder
from tradeoff.core.schema import BadParams
from tradeoff.core.study import FILE, Cell, Dataset, Study, Suite
from tradeoff.datasets.prepared import load_prepared
from tradeoff.evaluation.anymodel import Evaluation, evaluate, suite_named, usable_folder
from tradeoff.evaluation.preflight import Unusable
from tradeoff.evaluation.sources import load_images, load_source
from tradeoff.networks.device import NoSuchDevice, pick_device
from tradeoff.networks.models import load_classifier
from tradeoff.networks.threat import BallNorm, Threat, radius_of
from tradeoff.running.progress import Progress


def run(given: argparse.Namespace) -> int:
    """Evaluate what the command line names; print the numbers and write the files asked for.

    Raises:
        Unusable: something given cannot be used; says what is needed.
    """
    _check_outputs(given)
    try:
        result, images = _evaluate(given)
    except (NoSuchDevice, BadParams, ValueError) as error:
        raise Unusable(str(error)) from error
    # First what needs no disk: of hours of attacks something is left in any case.
    if given.json:
        print(json.dumps(_plain(result.metrics), indent=2))
    else:
        print("\n".join(result_lines(result)))
    if given.out:
        save_ledger(result.ledger, given.out)
    if given.report:
        from tradeoff.reporting.page import write_page

        write_page(result, images, given.report, Path(given.model).name)
    return 0


def _plain(value: Any) -> Any:
    """The value with null in place of what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checkpoints() -> Path | None:
    """Where unfinished work is kept; None, told, where nothing can be written."""
    try:
        return usable_folder(checkpoints_folder())
    except Unusable:
        folder = checkpoints_folder()
        print(f"{folder} cannot be written to: what is interrupted begins anew", file=sys.stderr)
        return None


def _check_outputs(given: argparse.Namespace) -> None:
    """Refuse, before hours of attacks, to write where nothing can be, or over what is read."""
    paths = [path for path in (given.out, given.report) if path is not None]
    for path in paths:
        _check_writable(path)
    read = [Path(name) for name in (given.model, given.data) if name is not None]
    for number, path in enumerate(paths):
        for other in (*read, *paths[:number]):
            if path.resolve() == other.resolve():
                raise Unusable(f"{path} is named twice: it would be written over")


def _check_writable(path: Path) -> None:
    folder = path.parent
    if path.is_dir():
        raise Unusable(f"{path} is a folder; the name of a file is needed")
    if not folder.is_dir():
        raise Unusable(f"{path}: there is no folder {folder}")
    trial = path.with_name(f".{path.name}.partial")  # as `atomic_write` calls it
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise Unusable(f"{path}: {folder} cannot be written to: {error.strerror}") from None


def _evaluate(given: argparse.Namespace) -> tuple[Evaluation, Tensor]:
    """The result, and all images that were given."""
    cell = _cell(given.model)
    dataset = cell.dataset if cell else None
    device = pick_device(dataset.threads if dataset else None)
    model = _model(given, cell, device)
    images, labels = _images(given.data, cell, device, given.suite)
    suite: Suite = suite_named(given.suite)
    if dataset and given.suite in dataset.suites:
        suite = dataset.suite(given.suite)
    threat = _threat(given.norm, given.epsilon, dataset)
    progress = Progress(f"evaluate {given.suite}", Path(given.model).name, (1, 1))
    checkpoints = _checkpoints()
    result = evaluate(model, images, labels, threat, suite, copies=given.copies,
                      checkpoints=checkpoints, report=progress.attacking)  # fmt: skip
    if checkpoints is not None:
        with suppress(OSError):  # another evaluation's are in it
            checkpoints.rmdir()
    return result, images


def _cell(name: str) -> Cell | None:
    """The cell of the study in this folder that is called so, if there is one."""
    path = Path(name)
    if ":" in name or path.suffix or path.is_file() or not Path(FILE).exists():
        return None
    return Study.load().cell(name)


def _model(given: argparse.Namespace, cell: Cell | None, device: torch.device) -> nn.Module:
    if cell is None:
        norm = given.norm or "linf"
        return load_source(given.model, device, norm=norm, architecture=given.architecture)
    data = load_prepared(cell.dataset.prepared, cell.dataset.name)
    return load_classifier(cell, "best", data, device)


def _images(
    name: str | None, cell: Cell | None, device: torch.device, suite: str
) -> tuple[Tensor, Tensor]:
    """Images and labels of a file or folder, or of the test split of a data set of the study."""
    dataset = cell.dataset if cell else None
    if name is not None:
        path = Path(name)
        if path.exists() or path.suffix or not Path(FILE).exists():
            return load_images(path, device)
        dataset = Study.load().dataset(name)
    if dataset is None:
        raise Unusable("images are missing: an .npz file, a folder of pictures or a data set")
    test = load_prepared(dataset.prepared, dataset.name).test
    if suite in dataset.suites:
        test = test.first(dataset.suite(suite).images)
    test = test.to(device)
    return test.images, test.labels


def _threat(norm: BallNorm | None, epsilon: str | None, dataset: Dataset | None) -> Threat:
    """The threat given on the command line, else that of the cell's data set."""
    usual = dataset.threat if dataset else None
    norm = norm or (usual.norm if usual else "linf")
    if epsilon is not None:
        return Threat(norm, radius_of(epsilon))
    if usual is None or norm != usual.norm:
        raise Unusable(f"--epsilon is missing: the radius in {norm}, such as 8/255")
    return Threat(norm, usual.epsilon)


def result_lines(result: Evaluation) -> list[str]:
    """The result in lines: what was attacked, the remarks, and every number."""
    ledger, metrics = result
    lines = [_attacked(ledger), *(f"Note: {remark}." for remark in metrics["remarks"])]
    lines += [f"{name}: {_number(value)}" for name, value in metrics.items()
              if name not in ("remarks", "flags")]  # fmt: skip
    for name, flag in metrics["flags"].items():
        raised = f"raised: {flag['suggests']}" if flag["raised"] else "not raised"
        lines.append(f"masking, {name}: {_number(flag['number'])}, {raised}")
    return lines


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_number(part)}" for name, part in value.items())
    if isinstance(value, list):
        return " ".join(_number(part) for part in value)
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else str(value)


def _attacked(ledger: Ledger) -> str:
    """Which images under which threat, in words."""
    chosen, threat = ledger.about["chosen"], ledger.about["threat"]
    which = "" if chosen is None else " (as many as the suite takes, class-balanced)"
    return (
        f"{len(ledger['labels'])} images{which}, {ledger.about['suite']}, "
        f"{threat['norm']} {threat['epsilon']:.4g}"
    )
