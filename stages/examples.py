"""Adversarial examples for the report, and the sizes of data set and networks."""

import _environment
import torch

from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.evaluation import examples
from tradeoff.evaluation.completeness import trained
from tradeoff.evaluation.csv_tables import write_table
from tradeoff.networks.device import describe, pick_device
from tradeoff.networks.folding import attacked_twin
from tradeoff.networks.models import load_classifier
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat


def main(dataset: str) -> None:
    study = Study.load()
    chosen, settings = study.dataset(dataset), study.examples
    device = pick_device(chosen.threads, chosen.arithmetic)
    data = load_prepared(chosen.prepared, dataset)
    threat = Threat(chosen.threat.norm, chosen.threat.epsilon)
    there = trained(study.cells(dataset))
    # Usually the study's first seed: the first of which any model is there.
    seed = min((cell.seed for cell in there), key=study.axes.seeds.index)
    cells = [cell for cell in there if cell.seed == seed]
    print(f"[examples] {dataset}: {len(cells)} models on {describe(device)}", flush=True)
    test = data.test.first(settings.images).to(device)
    keys = sample_keys(torch.arange(len(test), device=device), "examples")
    counts = {
        ("images", part): len(getattr(data, part)) for part in ("train", "validation", "test")
    }
    counts["images", "classes"] = len(data.classes)
    shown = {}
    for cell in cells:
        model = load_classifier(cell, "best", data, device)
        counts["parameters", cell.architecture] = examples.parameter_count(model)
        shown[cell.architecture, cell.defense] = examples.attack_model(
            attacked_twin(model, test.images),
            test.images,
            test.labels,
            threat,
            keys=keys,
            steps=settings.steps,
            relative_step_size=settings.relative_step_size,
        )
    factor = examples.amplification(test.images, list(shown.values()))
    pixels = examples.sheet(test.images, list(shown.values()), factor)
    examples.save_sheet(pixels, chosen.table("examples").with_suffix(".png"))
    write_table(examples.example_table(test.labels, shown, factor), chosen.table("examples"))
    write_table(examples.size_table(counts), chosen.table("sizes"))


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
