"""Attack one cell's models with one suite: the ledger of what became of every image."""

import _environment

from tradeoff.attacks.suites.asking import asking
from tradeoff.attacks.suites.ledger import save_ledger
from tradeoff.attacks.suites.run import run_suite
from tradeoff.core.files import checkpoints_folder, file_hash
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.models import load_classifier, read_origin
from tradeoff.networks.provenance import provenance
from tradeoff.networks.threat import Threat
from tradeoff.running import timings
from tradeoff.running.attack_checkpoints import Checkpoints
from tradeoff.running.progress import Progress


def main(cell: str, suite: str) -> None:
    study = Study.load()
    chosen = study.cell(cell)
    dataset = chosen.dataset
    attacks = dataset.suite(suite)
    device = pick_device(dataset.threads, dataset.arithmetic)
    data = load_prepared(dataset.prepared, dataset.name)
    models = {
        version: load_classifier(chosen, version, data, device) for version in attacks.versions
    }
    test = data.test.first(attacks.images).to(device)
    threat = Threat(dataset.threat.norm, dataset.threat.epsilon)

    progress = Progress(f"attack {suite}", cell, study.position(chosen))
    progress.say(f"{len(test)} images on {describe(device)}")
    validation = data.validation.to(device).images
    asked = asking(models, validation, attacks.batch_size)
    about = {
        "cell": cell,
        "suite": suite,
        "classes": len(data.classes),
        **dataset.evaluation(suite),
        "models": {v: file_hash(chosen.model(v)) for v in attacks.versions},
        "trained_with": read_origin(chosen.model(attacks.versions[0])),
        "attacked_with": provenance(device),
        **asked,
    }
    ledger = run_suite(
        models,
        test.images,
        test.labels,
        threat,
        attacks,
        about=about,
        thresholds=asked.get("rejection_thresholds"),
        checkpoints=Checkpoints(checkpoints_folder()),
        report=progress.attacking,
    )
    save_ledger(ledger, chosen.ledger(suite))
    timings.note(device=describe(device))
    for v, version in enumerate(ledger.versions):
        correct = ledger["clean_prediction"][v] == ledger["labels"]
        robust = correct & ~ledger["fooled"][v].any(0)
        progress.say(f"{version}: {correct.mean():.1%} correct, {robust.mean():.1%} also attacked")


if __name__ == "__main__":
    _environment.run(
        main, __doc__, cell="a cell, such as trades-resnet18-digits-0", suite="such as bounded"
    )
