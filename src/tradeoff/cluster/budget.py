"""`tradeoff plan`: which cells fit into some hours of a graphics card, and what they would resolve.

Work is counted: a network's forward pass in operations, by torch, and a defense's training step in
forward passes, by a real step, mostly of a narrow network. What a card does in a second is its
maker's peak times a share of it, or a rate that was measured.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import floor, prod
from pathlib import Path
from typing import Any

import torch
from scipy.special import stdtrit
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from tradeoff.core.plugins import constant
from tradeoff.core.schema import BadParams
from tradeoff.core.settings import StatisticsSettings
from tradeoff.core.study import Attack, Cell, Dataset, Study
from tradeoff.datasets.prepared import Prepared, Subset, load_prepared
from tradeoff.datasets.published import DataMissing
from tradeoff.networks.ascent import Replay
from tradeoff.networks.folding import EvalTwin
from tradeoff.networks.models import Assembly, Blueprint, build_network, new_networks
from tradeoff.networks.randomness import generator
from tradeoff.networks.threat import Threat
from tradeoff.running.words import duration, table
from tradeoff.training.history import EpochRecord
from tradeoff.training.loop import Networks, accumulate_gradient
from tradeoff.training.plan import Plan
from tradeoff.training.run import Run

# Peaks in 1e12 operations a second, by their makers' data sheets, without sparsity.
CARDS: dict[str, dict[str, float]] = {
    "T4": {"float32": 8.1, "fp16": 65},
    "P100": {"float32": 9.3},
    "V100": {"float32": 15.7, "fp16": 125},
    "L4": {"float32": 30.3, "tf32": 60, "bf16": 121, "fp16": 121},
    "RTX3090": {"float32": 35.6, "tf32": 35.6, "bf16": 71, "fp16": 71},
    "RTX4090": {"float32": 82.6, "tf32": 82.6, "bf16": 165, "fp16": 165},
    "A100": {"float32": 19.5, "tf32": 156, "bf16": 312, "fp16": 312},
    "H100": {"float32": 67, "tf32": 495, "bf16": 989, "fp16": 989},
}
# Shares of the peak that such networks reach: assumed, until `make bench-gpu` has measured them.
FLOAT32_SHARE, TENSOR_CORE_SHARE = 0.3, 0.1

WIDTHS, EPOCHS = (1.0, 0.5, 0.25, 0.125), (1.0, 0.5, 0.25)  # shares of what params.yaml has

# Of two robust models, on how many images they disagree, and by how much their difference varies
# from seed to seed. Assumed; `differences.csv` of a data set has what its own results resolve.
DISAGREE, SEED_SPREAD = 0.2, 0.01

# Of a step that is counted: how many images of which shape, and the width of the network. Its last
# maps should not be smaller than 3x3: those a CPU multiplies otherwise (`networks.cpu_kernels`).
BATCH, IMAGE, NARROW = 2, (3, 48, 48), 0.125
FEW = 2  # steps of its attack: as many as FAT's tau grows to
REPEATED = ("steps", "inner_steps", "restarts", "binary_search_steps", "targets", "candidates")


@dataclass(frozen=True)
class Size:
    """What is known of a data set before it is read: the images of its splits, their shape."""

    train: int
    validation: int
    test: int
    image: tuple[int, int, int]
    classes: int


@dataclass(frozen=True)
class Card:
    """What a card does: operations a second in each precision that it has."""

    name: str
    rates: dict[str, float]

    @property
    def fastest(self) -> str:
        return max(self.rates, key=lambda precision: self.rates[precision])

    def own(self, precision: str) -> str:
        """The precision that training has on this card, as it falls back to float32."""
        return precision if precision in self.rates else "float32"


@dataclass(frozen=True)
class Work:
    """Images times forward passes of a cell: in the precision of training, and in float32."""

    training: float
    evaluation: float

    def seconds(self, forward: float, card: Card, precision: str) -> float:
        """Time of a cell whose network takes `forward` operations for an image."""
        of_training = self.training / card.rates[precision]
        return forward * (of_training + self.evaluation / card.rates["float32"])


class Operations(TorchDispatchMode):
    """Counts what is multiplied and added in convolutions and products, inside of it."""

    total = 0

    def __torch_dispatch__(
        self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if (count := flop_registry.get(function._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


@dataclass(frozen=True)
class Choice:
    """How all defenses of an architecture fit: shares of width and epochs, and how many seeds."""

    width: float
    epochs: float
    seeds: int
    seconds: float


def show(root: Path, name: str, hours: float, rate: float | None) -> int:
    """Print both tables; `rate` is that of a training step, in 1e12 operations a second.

    Raises:
        BadParams: the card is not known, or params.yaml is wrong.
    """
    card, study = make_card(name, rate), Study.load(root / "params.yaml")
    stated = ", ".join(f"{rate / 1e12:.3g} in {kind}" for kind, rate in card.rates.items())
    how = "stated shares of its peak" if rate is None else "training as measured by you"
    print(f"{name}: 1e12 operations a second: {stated} ({how}).")
    print("Networks narrower than usual reach less of it.\n")
    cells: list[Sequence[object]] = []
    fits: list[Sequence[object]] = []
    for dataset in (study.datasets[name] for name in study.axes.datasets):
        try:
            size = size_of(dataset)
        except DataMissing as error:
            cells.append((dataset.name, str(error)))
            continue
        first = study.axes.seeds[0]
        for architecture in study.axes.architectures:
            own = [cell for cell in study.trained_cells(dataset.name)
                   if (cell.architecture, cell.seed) == (architecture, first)]  # fmt: skip
            forward = forward_operations(own[0], size)
            precision = card.own(dataset.train.precision)
            for cell in own:
                seconds = work(cell, size).seconds(forward, card, precision)
                seeds = min(len(study.axes.seeds), floor(3600 * hours / seconds))
                took = duration(seconds)
                cells.append((dataset.name, architecture, cell.defense, precision, took, seeds))
            fits.append((dataset.name, architecture, *_fit(study, own, size, card, hours)))
    print(f"Each cell as params.yaml has it, and how many of its seeds fit into {hours:g} h:\n")
    head = "data set|network|defense|precision|a cell takes|seeds that fit"
    print(table(head.split("|"), cells))
    print(f"\nThe largest training with which all defenses of a network fit into {hours:g} h:\n")
    head = "data set|network|width|epochs|precision|seeds|takes|resolves"
    print(table(head.split("|"), fits))
    print(
        "\n`resolves`: the smallest difference in RA that a test would find, were two models to "
        f"disagree on {DISAGREE:.0%} of\nthe images and the difference to vary by "
        f"{SEED_SPREAD:.0%} from seed to seed; of one seed, that of these two models."
    )
    return 0


def _fit(
    study: Study, cells: Sequence[Cell], size: Size, card: Card, hours: float
) -> Sequence[object]:
    chosen = choose(cells, size, card, 3600 * hours, len(study.axes.seeds))
    if chosen is None:
        return ("none fits",)
    dataset = cells[0].dataset
    images = min(dataset.suite("autoattack").images or size.test, size.test)
    return (
        f"{chosen.width * cells[0].settings.width:g}",
        shortened(dataset.train.epochs, chosen.epochs),
        card.fastest,
        chosen.seeds,
        duration(chosen.seconds),
        f"{100 * detectable(chosen.seeds, images, study.statistics):.1f} points",
    )


def make_card(name: str, rate: float | None = None) -> Card:
    """A card of `CARDS`; `rate` replaces that of its fastest precision.

    Raises:
        BadParams: it is not known.
    """
    if name not in CARDS:
        raise BadParams(f"--gpu {name}: is not known; allowed: {', '.join(CARDS)}")
    rates = {
        kind: 1e12 * peak * (FLOAT32_SHARE if kind == "float32" else TENSOR_CORE_SHARE)
        for kind, peak in CARDS[name].items()
    }
    if rate is not None:
        rates[Card(name, rates).fastest] = 1e12 * rate
    return Card(name, rates)


def choose(
    cells: Sequence[Cell], size: Size, card: Card, seconds: float, seeds: int
) -> Choice | None:
    """The costliest training of all `cells` that fits at least once; None if none does.

    Args:
        cells: the defenses of one architecture and data set, of one seed.
        seeds: how many there are at most.
    """
    choices = []
    for width in WIDTHS:
        forward = forward_operations(cells[0], size, width)
        for epochs in EPOCHS:
            works = [work(cell, size, epochs, width) for cell in cells]
            once = sum(one.seconds(forward, card, card.fastest) for one in works)
            fitting = min(seeds, floor(seconds / once))
            if fitting:
                choices.append((once, Choice(width, epochs, fitting, fitting * once)))
    return max(choices, key=lambda choice: choice[0])[1] if choices else None


def work(cell: Cell, size: Size, epochs: float = 1.0, width: float = 1.0) -> Work:
    """What a cell has to do: training with its validation, and all suites on all their images,
    as if no image were fooled before an attack ends."""
    dataset, settings = cell.dataset, cell.train
    count = shortened(settings.epochs, epochs)
    validated = size.validation * (2 * settings.selection.steps + 1.5)
    attacked = sum(
        min(attack.images or size.test, suite.images or size.test, size.test)
        * len(suite.versions)
        * attack_passes(attack, size.classes)
        for suite in dataset.suites.values()
        for attack in suite.attacks
    )
    trained, networks = count * size.train * step_passes(cell, size, width), cell.network_count
    return Work(trained, networks * (count * validated + attacked))


def shortened(epochs: int, share: float) -> int:
    """A share of the epochs, at least one."""
    return max(1, round(share * epochs))


def attack_passes(attack: Attack, classes: int) -> float:
    """Forward passes that an attack takes for an image; a backward pass costs as much as one."""
    knobs = attack.knobs.model_dump()
    if attack.module == "autoattack":
        targets = min(knobs["targets"], classes - 1)
        steps = (1 + targets) * knobs["apgd_steps"] + targets * knobs["fab_steps"]
        return 2.0 * steps + float(knobs["square_queries"])
    counts = {name: knobs[name] for name in REPEATED if name in knobs}
    if counts.get("candidates", classes) is None:
        counts["candidates"] = classes
    return 2.0 * prod(counts.values())


def forward_operations(cell: Cell, size: Size, width: float = 1.0) -> float:
    """Operations of one image's forward pass through one network of a cell; nothing is computed."""
    scaled = width * cell.settings.width
    blueprint = Blueprint(cell.architecture, cell.dataset.name, size.image, size.classes, scaled)
    channels = size.image[0]
    with torch.device("meta"), torch.no_grad():
        network = build_network(blueprint, [0.5] * channels, [0.25] * channels).eval()
        with Operations() as counted:
            network(torch.zeros(1, *size.image))
    return float(counted.total)


def step_passes(cell: Cell, size: Size, width: float = 1.0) -> float:
    """What one training step takes for an image, in forward passes of one network of the cell; 0
    if nothing is trained.

    Operations of a real step are counted, whatever they are of: networks and bases, both ways,
    bounds, a density model. The attack takes a few steps and then one more, from which all follow.
    """
    if not hasattr(importlib.import_module(f"tradeoff.defenses.{cell.defense}"), "training_loss"):
        return 0.0
    counted_width, image = NARROW, IMAGE
    if _has_costs_of_its_own(cell):
        counted_width, image = width * cell.settings.width, size.image
    moved, steps = cell.train.weight_perturbation is not None, cell.train.attack.steps
    few = min(steps, FEW)
    key = (cell.defense, cell.architecture, repr(cell.knobs), moved, few, counted_width, image)
    if key not in _STEPS:
        count = partial(_count_step, cell, counted_width, image)
        _STEPS[key] = count(few), count(few + 1)
    counted, more = _STEPS[key]
    return counted + (steps - few) * (more - counted)


_STEPS: dict[tuple[object, ...], tuple[float, float]] = {}


def _has_costs_of_its_own(cell: Cell) -> bool:
    """Whether a step computes what does not shrink as a network does: bounds, a density model."""
    bounds = constant("defenses", cell.defense, "TRAINS_ON_BOUNDS", False)
    return bool(bounds) or cell.classifier == "purified"


def _count_step(cell: Cell, width: float, image: tuple[int, int, int], steps: int) -> float:
    """Operations of a step of a network of this width on such images, in those of a forward pass.

    Labels are the network's own answers and, but for bounds, epsilon is next to nothing: no image
    is fooled, and no attack ends before its last step.
    """
    attack = cell.train.attack.model_copy(update={"steps": steps})
    changes = {"precision": "float32", "micro_batch": None, "attack": attack}
    settings, threat = cell.train.model_copy(update=changes), cell.dataset.threat
    tiny = threat.epsilon if _has_costs_of_its_own(cell) else 1e-6
    data = _random_images(image)
    assembly = Assembly.of(cell, data)
    networks = tuple(replace(network, width=width) for network in assembly.networks)
    assembly = replace(assembly, networks=networks)
    model = assembly.build(new_networks(assembly, data)).train()
    calm = build_network(networks[0], data.mean, data.std).eval().requires_grad_(False)
    defense = importlib.import_module(f"tradeoff.defenses.{cell.defense}")
    plan = Plan(defense, cell.knobs, settings, Threat(threat.norm, tiny), cell.seed)
    run = Run.begin(model, plan, data)
    twin, images = EvalTwin(run.model), data.train.images
    bases = dict.fromkeys(cell.bases, calm)
    with Operations() as forward, torch.no_grad():
        calm(images)
    labels = twin.module(images).argmax(1).detach()
    called, replay = Networks(run.model, twin.module, twin, bases), Replay()
    record = EpochRecord(len(data.classes), torch.device("cpu"))
    one_pass = partial(
        accumulate_gradient, run, called, images, labels, generator("plan"), record, replay
    )
    with Operations() as step:
        one_pass()
        if settings.weight_perturbation is not None:
            # Weights that are moved up the loss get their gradient from a second pass over the
            # examples.
            replay.repeats = True
            one_pass()
    return step.total / forward.total


def _random_images(image: tuple[int, int, int]) -> Prepared:
    """One batch in each split."""
    pixels = torch.randint(256, (BATCH, *image), generator=generator("plan"), dtype=torch.uint8)
    part = Subset(pixels, torch.arange(BATCH), 255)
    mean = [0.5] * image[0]
    return Prepared("plan", part, part, part, tuple(map(str, range(10))), mean, mean)


def size_of(dataset: Dataset) -> Size:
    """From what its module says was published, else from the prepared file.

    Raises:
        DataMissing: neither is there.
    """
    size: dict[str, Any] | None = constant("datasets", dataset.source.module, "SIZE")
    if size is None:
        data = load_prepared(dataset.prepared, dataset.name)
        counts = (len(data.train), len(data.validation), len(data.test))
        return Size(*counts, data.image, len(data.classes))
    split, limit = dataset.split, dataset.split.limit
    test: int = split.test or size["test"]
    images: int = size["images"] - (split.test or 0)
    images, test = min(images, limit or images), min(test, limit or test)
    return Size(images - split.validation, split.validation, test, size["image"], size["classes"])


def detectable(seeds: int, images: int, settings: StatisticsSettings) -> float:
    """The smallest difference of two accuracies that a test finds (`evaluation.statistics`), for
    the components of variance that are assumed above."""
    of_seeds, of_images = SEED_SPREAD**2 / seeds if seeds > 1 else 0.0, DISAGREE / images
    variance = of_seeds + of_images
    free = images - 1.0
    if seeds > 1:  # Satterthwaite's
        free = variance**2 / (of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1))
    quantiles = stdtrit(free, [1 - settings.alpha / 2, settings.power])
    return float(quantiles.sum()) * variance**0.5
