"""Make one cell's model: models/DATASET/CELL/{best,last}.safetensors and its training history."""

import importlib
import shutil
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import Any

import _environment
import torch
from torch import nn

from tradeoff.core.files import save_interval
from tradeoff.core.study import Cell, Study
from tradeoff.datasets.prepared import Prepared, load_prepared
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.folding import fold_if_same
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.models import Assembly, load_classifier, new_networks, save_model
from tradeoff.networks.provenance import provenance
from tradeoff.networks.threat import Threat
from tradeoff.running import timings
from tradeoff.running.estimate import estimate
from tradeoff.running.interruption import interruptions
from tradeoff.running.progress import Progress
from tradeoff.running.training_checkpoints import TrainingCheckpoint, checkpoint_path
from tradeoff.training.acceleration import emulates
from tradeoff.training.history import MEASURED, write_history
from tradeoff.training.loop import Trained, fit
from tradeoff.training.plan import Plan
from tradeoff.training.pretrained import load_pretrained


def main(cell: str) -> None:
    study = Study.load()
    chosen = study.cell(cell)
    device = pick_device(chosen.dataset.threads, chosen.dataset.arithmetic)
    data = load_prepared(chosen.dataset.prepared, chosen.dataset.name)
    progress = Progress("train", cell, study.position(chosen))
    defense = importlib.import_module(f"tradeoff.defenses.{chosen.defense}")
    if hasattr(defense, "training_loss"):
        train(chosen, defense, data, device, progress)
    else:
        put_together(chosen, data, device)
        progress.say(f"{chosen.classifier} of {', '.join(b.key for b in chosen.bases.values())}")


def train(
    cell: Cell, defense: Any, data: Prepared, device: torch.device, progress: Progress
) -> None:
    """Train the cell's model, from its checkpoint if there is one, and write it."""
    interval, settings = save_interval(), cell.train
    bases = frozen_bases(cell, data, device)
    threat = Threat(cell.dataset.threat.norm, cell.dataset.threat.epsilon)
    if hasattr(defense, "training_set"):
        data = replace(data, train=defense.training_set(data.train, bases, threat, cell.knobs))
    model = first_model(cell, data, progress)
    place(model, device, training_layout(device, settings.precision))
    if emulates(settings.precision, device):
        progress.say(
            f"train.precision is bf16, which {describe(device)} lacks: it is emulated there, "
            "slowly and without compiling; float32 will be faster"
        )
    plan = Plan(defense, cell.knobs, settings, threat, cell.seed, bases)
    with interruptions() as interrupted:
        path = checkpoint_path(cell, model, data, plan)
        checkpoint = TrainingCheckpoint(path, interrupted, interval)
        reached = checkpoint.reached()
        left = estimate(model, data, plan, reached).in_words()
        goes_on = f"goes on in epoch {reached[0] + 1} and " if any(reached) else ""
        progress.say(
            f"{len(data.train)} images, {settings.epochs} epochs on {describe(device)}; "
            f"training {goes_on}will take {left}"
        )
        trained = fit(model, data, plan, progress.training, checkpoint)
    write(cell, data, device, trained)
    checkpoint.done()
    epochs = {name: [row.get(name, 0.0) for row in trained.history] for name in MEASURED}
    timings.note(
        seconds=sum(epochs["seconds"]),
        epoch_seconds=median(epochs["seconds"]),
        peak_memory_mib=max(epochs["peak_memory_mib"]) or None,
        device=describe(device),
    )


def first_model(cell: Cell, data: Prepared, progress: Progress) -> nn.Module:
    """The model before the first step: of random weights, of ImageNet's, or of its base's."""
    assembly = Assembly.of(cell, data)
    networks = new_networks(assembly, data)
    if cell.settings.pretrained is not None:
        for network in networks:
            progress.say(load_pretrained(network[1], cell.architecture, cell.dataset.name))
    model = assembly.build(networks)
    if cell.start is not None:
        start = load_classifier(cell.start, "best", data, torch.device("cpu"))
        model.load_state_dict(start.state_dict())
    return model


def frozen_bases(cell: Cell, data: Prepared, device: torch.device) -> Mapping[str, nn.Module]:
    """The classifiers that the cell stands on, folded where that gives the same logits."""
    images = data.validation.first(16).to(device).images
    return {
        role: fold_if_same(load_classifier(base, "best", data, device), images)
        for role, base in cell.bases.items()
    }


def put_together(cell: Cell, data: Prepared, device: torch.device) -> None:
    """Write a model whose networks are its bases'; nothing is trained, at most calibrated."""
    assembly, validation = Assembly.of(cell, data), data.validation.to(device)
    threat = Threat(cell.dataset.threat.norm, cell.dataset.threat.epsilon)
    states = {}
    for version in ("best", "last"):
        networks = [load_classifier(base, version, data, device) for base in cell.bases.values()]
        classifier: Any = assembly.build(networks).eval().to(device)
        if hasattr(classifier, "calibrate"):
            classifier.calibrate(validation.images, validation.labels, threat)
        states[version] = classifier.state_dict()
    write(cell, data, device, Trained(**states, history=[], compilation="nothing to compile"))


def write(cell: Cell, data: Prepared, device: torch.device, trained: Trained) -> None:
    assembly = Assembly.of(cell, data)
    origin = provenance(device, compilation=trained.compilation)
    # The folder is the stage's output: what other code has written there must not stay.
    shutil.rmtree(cell.model("best").parent, ignore_errors=True)
    save_model(trained.best, assembly, cell.model("best"), origin, cell.key)
    save_model(trained.last, assembly, cell.model("last"), origin, cell.key)
    write_history(trained.history, cell.history)


if __name__ == "__main__":
    _environment.run(main, __doc__, cell="a cell, such as trades-resnet18-digits-0")
