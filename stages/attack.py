"""Attack one cell's models with one suite: the ledger and the cell's metrics."""

import time

import _environment

from tradeoff.attacks.suites.checkpoints import Checkpoints
from tradeoff.attacks.suites.ledger import save_ledger
from tradeoff.attacks.suites.metrics import suite_metrics
from tradeoff.attacks.suites.norms import NORMS, norm_metrics
from tradeoff.attacks.suites.run import run_suite
from tradeoff.core.device import describe, pick_device
from tradeoff.core.files import checkpoints_folder, write_json
from tradeoff.core.models import Blueprint, load_model, read_origin
from tradeoff.core.prepared import load_prepared
from tradeoff.core.provenance import provenance
from tradeoff.core.study import Study
from tradeoff.core.threat import Threat
from tradeoff.running.progress import Progress


def main(cell: str, suite: str) -> None:
    study = Study.load()
    chosen = study.cell(cell)
    dataset = chosen.dataset
    attacks = dataset.suite(suite)
    device = pick_device(dataset.threads)
    data = load_prepared(dataset.prepared, dataset.name)
    blueprint = Blueprint.of(chosen.architecture, chosen.settings.width, data)
    models = {
        version: load_model(chosen.model(version), blueprint, device, cell)
        for version in attacks.versions
    }
    test = data.test.first(attacks.images).to(device)
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)

    progress = Progress(f"attack {suite}", cell, study.position(chosen))
    progress.say(f"{len(test)} images on {describe(device)}")
    about = {
        "cell": cell,
        "suite": suite,
        "classes": len(data.classes),
        **dataset.evaluation(suite),
        "trained_with": read_origin(chosen.model(attacks.versions[0])),
        "attacked_with": provenance(device),
    }
    began = time.perf_counter()
    ledger = run_suite(
        models,
        test.images,
        test.labels,
        threat,
        attacks,
        about=about,
        checkpoints=Checkpoints(checkpoints_folder()),
        report=progress.attacking,
    )
    save_ledger(ledger, chosen.ledger(suite))
    if suite == "minimal":
        norms = norm_metrics(ledger, "best")
        metrics = {f"APN_{norm}": norms[norm]["APN"] for norm in NORMS}
    else:
        metrics = suite_metrics(ledger)
    write_json(metrics | {"seconds": time.perf_counter() - began}, chosen.metrics(suite))
    progress.say(", ".join(f"{name} {value:.3f}" for name, value in metrics.items()))


if __name__ == "__main__":
    _environment.run(
        main, __doc__, cell="a cell, such as trades-resnet18-digits-0", suite="such as bounded"
    )
