"""What was run, in words, from params.yaml and the tables."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tradeoff.core.study import Dataset, Study, Suite
from tradeoff.reporting.equations import EQUATIONS, Equation
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results

# Settings that only some values of another make use of, by whether theirs do. A setting that is
# not beside the other, such as the momentum of an attack, is used.
USED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "momentum": lambda other: other.get("optimizer", "sgd") == "sgd",
    "milestones": lambda other: other.get("schedule") == "step",
    "decay": lambda other: other.get("schedule") == "step",
    "warmup": lambda other: other.get("schedule") == "onecycle",
    "plus_restarts": lambda other: other.get("version") == "plus",
    "finetune_rate": lambda other: other.get("finetune_epochs") is not None,
    "pretrain": lambda other: other.get("finetune_epochs") is not None,
    "pretrain_beta": lambda other: (
        other.get("finetune_epochs") is not None and other.get("pretrain") == "trades"
    ),
}
# What provenance says of compilation, and the words for it; anything else is shown as it is.
COMPILATIONS = {
    "compiled": "compiled",
    "not compiled": "not_compiled",
    "not compiled: too short, or no GPU": "not_compiled_short",
}


@dataclass(frozen=True)
class Item:
    """A term and what it is in this study."""

    term: str
    text: str


@dataclass(frozen=True)
class Defense:
    id: str
    name: str
    equation: Equation | None
    knobs: str


def describe_setting(
    study: Study, dataset: Dataset, results: Results, labels: Labels
) -> list[Item]:
    """Data, threat, networks, training, attacks and seeds."""
    seeds = labels.enumerate([str(seed) for seed in study.axes.seeds])
    items = [
        Item(labels("setting.images"), _images(dataset, results, labels)),
        Item(labels("setting.threat"), _threat(dataset, labels)),
        Item(labels("setting.networks"), _networks(study, dataset, results, labels)),
        Item(labels("setting.training"), _training(dataset, results, labels)),
        Item(labels("setting.seeds"), seeds),
    ]
    items += [_suite(suite, results, labels) for suite in dataset.suites.values()]
    transfer, statistics = study.transfer.model_dump(), study.statistics
    del transfer["batch_size"]  # decides no result
    images = _of_the_test(transfer.pop("images"), results)
    text = labels("setting.transfer_images", images=images, knobs=knob_text(transfer, labels))
    return [
        *items,
        Item(labels("headings.transfer"), text),
        Item(
            labels("setting.statistics"),
            # In words: alpha is also a knob of the proposal.
            labels(
                "setting.statistics_text",
                level=labels.number(100 * statistics.level),
                alpha=labels.number(100 * statistics.alpha),
                power=labels.number(100 * statistics.power),
            ),
        ),
    ]


def describe_defenses(study: Study, labels: Labels) -> list[Defense]:
    """Each defense with its objective, if this package knows it, and its knobs."""
    return [
        Defense(
            name,
            labels.name("defenses", name),
            EQUATIONS.get(name),
            knob_text(study.knobs[name].model_dump(), labels) or labels("none"),
        )
        for name in study.axes.defenses
    ]


def software(results: Results, labels: Labels) -> list[str]:
    """With which versions and on which devices the cells were computed, and whether repeatably."""
    table = results.provenance
    known = [name for name in ("python", "torch", "device", "deterministic") if name in table]
    if table.empty or not known:
        return [labels("software.unknown")]
    text = []
    for values, rows in table.dropna(subset=known, how="all").groupby(known, dropna=False):
        row = dict(zip(known, values, strict=True))
        said = {name: str(row.get(name, labels("software.not_told"))) for name in
                ("python", "torch", "device")}  # fmt: skip
        said["device"] = device_name(said["device"], labels)
        repeatable = {"yes": "repeatable", "no": "varying"}.get(str(row.get("deterministic")), "")
        line = labels("software.on", **said, results=len(rows))
        text.append(line + (" " + labels(f"software.{repeatable}") if repeatable else ""))
    return text or [labels("software.unknown")]


def device_name(device: str, labels: Labels) -> str:
    """A device as provenance describes it, "cpu, 4 threads" or a GPU's name, in words."""
    threads = re.fullmatch(r"cpu, (\d+) threads?", device)
    if threads is None:
        return device
    if threads[1] == "1":
        return labels("software.one_thread")
    return labels("software.threads", count=threads[1])


def trained_on(column: str, results: Results) -> list[str]:
    """What provenance says of the training of the cells: the distinct values of a column."""
    table = results.provenance
    if column not in table:
        return []
    return [str(value) for value in table[table["stage"] == "train"][column].dropna().unique()]


def limit_note(dataset: Dataset, labels: Labels) -> str:
    """A warning if the study ran on a part of the images only, else an empty text."""
    limit = dataset.split.limit
    return "" if limit is None else labels("setting.limit", limit=limit)


def _images(dataset: Dataset, results: Results, labels: Labels) -> str:
    split = dataset.split
    text = [labels("setting.validation", images=split.validation)]
    if split.test is None:
        text.append(labels("setting.published_test"))
    else:
        text.append(labels("setting.test", images=split.test))
    counts = sorted({int(count) for count in results.cells["images"].dropna()})
    if counts:
        text.append(labels("setting.evaluated", images=labels.enumerate([str(n) for n in counts])))
    train = results.size("images", "train")
    if train is not None:
        text.insert(0, labels("setting.train", images=train))
    return " ".join(text)


def _threat(dataset: Dataset, labels: Labels) -> str:
    norm = labels.name("norms", dataset.threat.norm)
    return labels("setting.ball", norm=norm, radius=radius(dataset.threat.epsilon, labels))


def radius(epsilon: float, labels: Labels) -> str:
    """An epsilon; papers write radii on 8-bit images as fractions of 255."""
    steps = round(255 * epsilon)
    exact = steps > 0 and abs(255 * epsilon - steps) < 1e-9
    value = labels.number(float(f"{epsilon:.4g}"))
    return f"{steps}/255 ≈ {value}" if exact and steps != 255 else value


def _networks(study: Study, dataset: Dataset, results: Results, labels: Labels) -> str:
    text = []
    for architecture in study.axes.architectures:
        settings = dataset.models[architecture]
        source = settings.pretrained
        start = (
            labels("setting.scratch") if source is None
            else labels("setting.pretrained", source=labels.name("sources", source))
        )  # fmt: skip
        name = labels.name("architectures", architecture)
        width = labels.number(settings.width)
        count = results.size("parameters", architecture)
        parameters = "" if count is None else labels("setting.parameters", count=grouped(count))
        text.append(labels("setting.network", name=name, width=width, start=start) + parameters)
    return " ".join(text)


def grouped(count: int) -> str:
    """11173962 as 11 173 962, in groups of three digits that no line break parts."""
    return f"{count:,}".replace(",", "\N{NO-BREAK SPACE}")


def _of_the_test(asked: int, results: Results) -> int:
    """So many test images, or all if there are fewer."""
    there = results.size("images", "test")
    return asked if there is None else min(asked, there)


def _training(dataset: Dataset, results: Results, labels: Labels) -> str:
    """The recipe as it was set; number format and compilation as they came about."""
    settings = dataset.train.model_dump()
    precision, compilation = settings.pop("precision"), settings.pop("compile")
    recipe = knob_text({key: value for key, value in settings.items() if value is not None}, labels)
    devices, compiled = trained_on("device", results), trained_on("compilation", results)
    if not devices or not compiled:
        text = labels("setting.as_set", precision=labels.name("values", precision),
                      compilation=labels.name("values", compilation))  # fmt: skip
    else:
        ways = [labels(f"setting.{COMPILATIONS[way]}") if way in COMPILATIONS else way
                for way in compiled]  # fmt: skip
        text = labels("setting.ran", precision=_precision(precision, devices, labels),
                      compilation=labels.enumerate(ways))  # fmt: skip
    return f"{recipe}. {text}"


def _precision(asked: str, devices: list[str], labels: Labels) -> str:
    """The number format of training on these devices; TF32 is one of GPUs alone."""
    if asked != "tf32":
        return labels.name("values", asked)
    on_cpu = {device.startswith("cpu") for device in devices}
    found = {True: labels.name("values", "float32"), False: labels("setting.tf32_on_gpus")}
    return labels.enumerate([found[kind] for kind in sorted(on_cpu)])


def _suite(suite: Suite, results: Results, labels: Labels) -> Item:
    images = (
        labels("setting.all_images") if suite.images is None
        else labels("setting.some_images", images=_of_the_test(suite.images, results))
    )  # fmt: skip
    attacks = []
    for attack in suite.attacks:
        own = knob_text(attack.knobs.model_dump(), labels)
        name = labels.name("attacks", attack.name)
        attacks.append(f"{name} ({own})" if own else name)
    return Item(labels("setting.suite", name=suite.name), f"{images} {'; '.join(attacks)}.")


def knob_text(values: dict[str, Any], labels: Labels) -> str:
    """ "steps = 10; step size / ε = 0.25"; a section in a section stands in brackets. Settings that
    these values make no use of are left out."""
    parts = []
    for key, value in values.items():
        if key in USED and not USED[key](values):
            continue
        name = labels.name("knobs", key)
        if isinstance(value, dict):
            parts.append(f"{name} ({knob_text(value, labels)})")
        elif isinstance(value, str):
            parts.append(f"{name} = {labels.name('values', value)}")
        else:
            parts.append(f"{name} = {labels.number(value)}")
    # Not a comma: in Spanish it is the decimal mark.
    return "; ".join(parts)
