"""Attack every model of a data set with examples made on others: a ledger and a table.

Others are the models of the first seed, and of each of these a substitute trained on its answers.
"""

import _environment
import torch
from torch import nn

from tradeoff.core.study import Study
from tradeoff.datasets.prepared import Prepared, load_prepared
from tradeoff.evaluation.completeness import trained
from tradeoff.evaluation.csv_tables import write_table
from tradeoff.evaluation.extraction import extract
from tradeoff.evaluation.surrogates import ensembles, labelled, sources
from tradeoff.evaluation.transfer import save_transferred, transfer, transfer_table
from tradeoff.networks.ascent import InnerAttack
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.folding import attacked_twin, fold_if_same
from tradeoff.networks.layouts import place
from tradeoff.networks.models import Blueprint, build_network, load_classifier
from tradeoff.networks.randomness import derive_seed, sample_keys
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
    test = data.test.first(settings.images).to(device)
    attackers = sources(cells)
    few = test.images[:16]
    models, attacked = {}, {}
    for key, cell in cells.items():
        model = load_classifier(cell, "best", data, device)
        models[key] = fold_if_same(model, few)
        attacked[key] = attacked_twin(model, few) if hasattr(model, "surrogate") else models[key]
    extracted = {}
    if settings.extraction is not None:
        own = data.validation.first(settings.extraction.images).to(device).images
        for key in attackers:
            network = place(new_substitute(key, settings.extraction.architecture, data), device)
            extracted[key] = extract(
                models[key], own, network, settings.extraction, key, others=test.images
            )
            print(f"[transfer] {dataset}: {extracted[key].queries} queries to {key}", flush=True)
    threat = Threat(chosen.threat.norm, chosen.threat.epsilon)
    step_size = settings.relative_step_size * threat.epsilon
    outcome = transfer(
        models,
        test.images,
        test.labels,
        InnerAttack(threat, settings.steps, step_size),
        keys=sample_keys(torch.arange(len(test), device=device), "transfer"),
        attacked=attacked,
        sources=attackers,
        ensembles=ensembles(cells),
        substitutes={key: answered.substitute for key, answered in extracted.items()},
        batch_size=settings.batch_size,
        report=lambda source: print(f"[transfer] {dataset}: examples of {source}", flush=True),
    )
    save_transferred(outcome, test.labels, chosen.transfer_ledger)
    table = labelled(transfer_table(outcome), cells, study.axes.control, extracted)
    write_table(table, chosen.table("transfer"))


def new_substitute(victim: str, architecture: str, data: Prepared) -> nn.Module:
    """A network at width 1 with random weights of its own."""
    blueprint = Blueprint.of(architecture, 1.0, data)
    return build_network(blueprint, data.mean, data.std, derive_seed("extraction", victim))


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
