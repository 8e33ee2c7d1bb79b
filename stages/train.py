"""Train one cell: models/DATASET/CELL/{best,last}.safetensors and its history."""

import importlib
from statistics import median

import _environment

from tradeoff.core.files import save_interval
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.layouts import place, training_layout
from tradeoff.networks.models import Blueprint, build_model, save_model
from tradeoff.networks.provenance import provenance
from tradeoff.networks.threat import Threat
from tradeoff.running import timings
from tradeoff.running.estimate import estimated_seconds
from tradeoff.running.interruption import interruptions
from tradeoff.running.progress import Progress
from tradeoff.running.training_checkpoints import Checkpoint, checkpoint_path
from tradeoff.running.words import duration
from tradeoff.training.acceleration import emulates
from tradeoff.training.history import MEASURED, write_history
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan
from tradeoff.training.pretrained import load_pretrained


def main(cell: str) -> None:
    study, interval = Study.load(), save_interval()
    chosen = study.cell(cell)
    dataset = chosen.dataset
    device = pick_device(dataset.threads, dataset.arithmetic)
    data = load_prepared(dataset.prepared, dataset.name)
    progress = Progress("train", cell, study.position(chosen))

    blueprint = Blueprint.of(chosen.architecture, chosen.settings.width, data)
    model = build_model(blueprint, data.mean, data.std, chosen.seed)
    if chosen.settings.pretrained is not None:
        progress.say(load_pretrained(model[1], chosen.architecture, dataset.name))
    place(model, device, training_layout(device, dataset.train.precision))
    if emulates(dataset.train.precision, device):
        progress.say(
            f"train.precision is bf16, which {describe(device)} lacks: it is emulated there, "
            "slowly and without compiling; float32 will be faster"
        )

    defense = importlib.import_module(f"tradeoff.defenses.{chosen.defense}")
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)
    plan = Plan(defense, chosen.knobs, dataset.train, threat, chosen.seed)
    with interruptions() as interrupted:
        path = checkpoint_path(chosen, model, data, plan)
        checkpoint = Checkpoint(path, interrupted, interval)
        reached = checkpoint.reached()
        left = duration(estimated_seconds(model, data, plan, reached))
        goes_on = f"goes on in epoch {reached[0] + 1} and " if any(reached) else ""
        progress.say(
            f"{len(data.train)} images, {dataset.train.epochs} epochs on {describe(device)}; "
            f"training {goes_on}will take about {left}"
        )
        trained = fit(model, data, plan, progress.training, checkpoint)
    origin = provenance(device, compilation=trained.compilation)
    save_model(trained.best, blueprint, chosen.model("best"), origin, cell)
    save_model(trained.last, blueprint, chosen.model("last"), origin, cell)
    write_history(trained.history, chosen.history)
    checkpoint.done()
    epochs = {name: [row.get(name, 0.0) for row in trained.history] for name in MEASURED}
    timings.note(
        seconds=sum(epochs["seconds"]),
        epoch_seconds=median(epochs["seconds"]),
        peak_memory_mib=max(epochs["peak_memory_mib"]) or None,
        device=describe(device),
    )


if __name__ == "__main__":
    _environment.run(main, __doc__, cell="a cell, such as trades-resnet18-digits-0")
