"""Adversarial examples and input gradients for the report; the sizes of data set and networks."""

import _environment
import torch

from tradeoff.attacks.pgd import Knobs
from tradeoff.core.study import Study
from tradeoff.datasets.prepared import load_prepared
from tradeoff.evaluation import examples, saliency
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
    cells = trained(study.cells(dataset))
    # Usually the study's first seed: the first of which any model is there.
    seed = min((cell.seed for cell in cells), key=study.axes.seeds.index)
    print(f"[examples] {dataset}: {len(cells)} models on {describe(device)}", flush=True)
    test = data.test.first(max(settings.images, settings.measured)).to(device)
    knobs = Knobs(loss="cross_entropy", steps=settings.steps,
                  relative_step_size=settings.relative_step_size, restarts=1)  # fmt: skip
    keys = sample_keys(torch.arange(len(test), device=device), "examples")
    counts = {
        ("images", part): len(getattr(data, part)) for part in ("train", "validation", "test")
    }
    for number, name in enumerate(data.classes):
        counts["class", name] = int((data.test.labels == number).sum())
    few, measured = slice(settings.images), slice(settings.measured)
    count = min(settings.measured, len(test))
    examples_of, gradients, pictures = {}, {}, {}
    for cell in cells:
        model = load_classifier(cell, "best", data, device)
        twin = attacked_twin(model, test.images)
        attacked = examples.attack_model(twin, test.images, test.labels, knobs, threat, keys)
        gradients[cell.defense, cell.architecture, cell.seed] = saliency.measures(
            twin, test.images[measured], attacked.first(measured)
        )
        if cell.seed == seed:
            counts["parameters", cell.architecture] = examples.parameter_count(model)
            one = examples_of[cell.architecture, cell.defense] = attacked.first(few)
            gradient = saliency.saliency(twin, test.images[few], one.clean.argmax(1))
            pictures[cell.defense, cell.architecture] = saliency.tiles(gradient)
    test = test.first(settings.images)
    factor = examples.amplification(test.images, list(examples_of.values()))
    pixels = examples.sheet(test.images, list(examples_of.values()), factor)
    examples.save_sheet(pixels, chosen.table("examples").with_suffix(".png"))
    write_table(examples.example_table(test.labels, examples_of, factor), chosen.table("examples"))
    write_table(examples.size_table(counts), chosen.table("sizes"))
    rows = examples.joined([test.images, *pictures.values()])
    examples.save_sheet(rows, chosen.table("gradients").with_suffix(".png"))
    table = saliency.gradient_table(gradients, seed, list(pictures), count)
    write_table(table, chosen.table("gradients"))


if __name__ == "__main__":
    _environment.run(main, __doc__, dataset="a data set of params.yaml, such as digits")
