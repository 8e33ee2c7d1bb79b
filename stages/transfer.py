"""Attack every model of a data set with examples made on the others: a ledger and a table."""

import _environment
import torch

from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.evaluation.missing import trained
from tradeoff.evaluation.surrogates import ensembles, labelled
from tradeoff.evaluation.tables import write_table
from tradeoff.evaluation.transfer import save_transferred, transfer, transfer_table
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.folding import fold
from tradeoff.networks.models import Blueprint, load_model
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat


def main(dataset: str) -> None:
    study = Study.load()
    chosen = study.dataset(dataset)
    settings = study.transfer
    device = pick_device(chosen.threads, chosen.arithmetic)
    data = load_prepared(chosen.prepared, dataset)
    asked = study.cells(dataset)
    cells = {cell.key: cell for cell in trained(asked)}
    where = describe(device)
    print(f"[transfer] {dataset}: {len(cells)} of {len(asked)} models on {where}", flush=True)
    models = {}
    for key, cell in cells.items():
        blueprint = Blueprint.of(cell.architecture, cell.settings.width, data)
        models[key] = fold(load_model(cell.model("best"), blueprint, device, key))
    test = data.test.first(settings.images).to(device)
    outcome = transfer(
        models,
        test.images,
        test.labels,
        Threat(chosen.threat.norm, chosen.threat.epsilon),
        keys=sample_keys(torch.arange(len(test), device=device), "transfer"),
        ensembles=ensembles(cells),
        steps=settings.steps,
        relative_step_size=settings.relative_step_size,
        batch_size=settings.batch_size,
        report=lambda source: print(f"[transfer] {dataset}: examples of {source}", flush=True),
    )
    save_transferred(outcome, test.labels, chosen.transfer_ledger)
    write_table(labelled(transfer_table(outcome), cells), chosen.table("transfer"))


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
