"""What was run, in words, from params.yaml and the tables."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from markupsafe import Markup

from tradeoff.core.study import Study, Suite
from tradeoff.reporting.equations import to_html
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.tellings import Telling, load_tellings
from tradeoff.reporting.view import View

# Settings that only some values of another make use of, by whether theirs do. A setting that is
# not beside the other, such as the momentum of an attack, is used.
USED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "momentum": lambda other: other.get("optimizer", "sgd") == "sgd",
    "milestones": lambda other: other.get("schedule") == "step",
    "decay": lambda other: other.get("schedule") == "step",
    "warmup": lambda other: other.get("schedule") == "onecycle",
    "epsilon_warmup": lambda other: other["epsilon_warmup"] > 0,
    "target": lambda other: other["target"] is not None,
    "temperature": lambda other: "loss" not in other or other["temperature"] != 1,
    "random_start": lambda other: bool(other["random_start"]),
    "plus_restarts": lambda other: other.get("version") == "plus",
}
MOST_CLASSES = 20  # that are named one by one
# What provenance says of compilation, and the words for it; anything else is shown as it is.
COMPILATIONS = {
    "compiled": "compiled",
    "not compiled": "not_compiled",
    "not compiled: too short, or no GPU": "not_compiled_short",
}


def describe_setting(view: View) -> dict[str, str]:
    """Data, threat, networks, training, attacks and seeds: what each is in this study, by its
    name."""
    suites = view.results.dataset.suites.values()
    transfer = view.study.transfer.model_dump()
    del transfer["batch_size"]  # decides no result
    images = _of_the_test(view, transfer.pop("images"))
    return {
        view("setting.images"): _images(view),
        view("setting.threat"): _threat(view),
        view("setting.networks"): _networks(view),
        view("setting.training"): _training(view),
        view("setting.seeds"): view.labels.enumerate([str(seed) for seed in view.seeds]),
        **{view("setting.suite", name=suite.name): _suite(view, suite) for suite in suites},
        view("headings.transfer"): view("setting.transfer_images", images=images,
                                        knobs=knob_text(transfer, view.labels)),
        # In words: alpha may also be a knob.
        view("setting.statistics"): view("setting.statistics_text",
                                         **view.labels.levels(view.study.statistics)),
    }  # fmt: skip


def describe_defenses(study: Study, labels: Labels) -> list[dict[str, object]]:
    """Each defense with its knobs and what its telling says of it: `equation` is formulas in LaTeX,
    `html` the same for a page."""
    tellings = load_tellings()
    return [
        {
            "id": name,
            "name": labels.name("defenses", name),
            "equation": telling.equation,
            "html": Markup(", ").join(map(to_html, telling.equation)),
            "symbols": telling.symbols.get(labels.language, ""),
            "knobs": defense_knobs(name, study.knobs[name].model_dump(), labels) or labels("none"),
        }
        for name in study.axes.defenses
        for telling in [tellings.get(name, Telling(title=name))]
    ]


def defense_knobs(name: str, knobs: dict[str, Any], labels: Labels) -> str:
    """The knobs of a defense in the words of its telling."""
    return knob_text(knobs, labels, f"words_of.{name}")


def software(view: View) -> list[str]:
    """With which PyTorch, arithmetic and GPUs the cells were computed, and whether repeatably."""
    table = view.results.provenance
    columns = [name for name in ("torch", "arithmetic", "device", "deterministic") if name in table]
    text = []
    for values, rows in table.dropna(subset=columns, how="all").groupby(columns, dropna=False):
        row = dict(zip(columns, map(str, values), strict=True))
        words = [view("software.torch", version=row.get("torch", view("software.not_told")))]
        if row.get("arithmetic") in ("portable", "native"):
            words.append(view(f"software.{row['arithmetic']}"))
        words.append(row["device"] if row.get("device", "nan") != "nan" and not
                     row["device"].startswith("cpu") else view("software.cpu"))  # fmt: skip
        text.append(view("software.on", what=", ".join(words), results=len(rows)))
        if row.get("deterministic") in ("yes", "no"):
            text[-1] += " " + view(f"software.{row['deterministic']}")
    return text if columns and text else [view("software.unknown")]


def trained_with(view: View, column: str) -> list[str]:
    """What provenance says of the training of the cells: the distinct values of a column."""
    table = view.results.provenance
    if column not in table:
        return []
    return [str(value) for value in table[table["stage"] == "train"][column].dropna().unique()]


def limit_note(view: View) -> str:
    """A warning if the study ran on a part of the images only, else an empty text."""
    limit = view.results.dataset.split.limit
    return "" if limit is None else view("setting.limit", limit=limit)


def _images(view: View) -> str:
    split, results = view.results.dataset.split, view.results
    text = [view("setting.validation", images=split.validation)]
    if split.test is None:
        text.append(view("setting.published_test"))
    else:
        text.append(view("setting.test", images=split.test))
    counts = results.cells["images"].dropna()
    if len(counts):
        text.append(view("setting.evaluated", images=view.labels.counts(counts)))
    train = results.size("images", "train")
    if train is not None:
        text.insert(0, view("setting.train", images=train))
    names = [results.class_name(number) for number in range(len(results.class_names))]
    if names != results.class_names and len(names) <= MOST_CLASSES:
        text.append(view("setting.classes", names=view.labels.enumerate(names)))
    return " ".join(text)


def _threat(view: View) -> str:
    threat = view.results.dataset.threat
    norm = view.labels.name("norms", threat.norm)
    return view("setting.ball", norm=norm, radius=radius(view, threat.epsilon))


def standard_autoattack(view: View) -> bool:
    """Whether every AutoAttack of the data set has the budget of its standard version."""
    for suite in view.results.dataset.suites.values():
        for attack in suite.attacks:
            if attack.module != "autoattack":
                continue
            paper = type(attack.knobs)()  # its defaults are the standard version's
            unused = {"plus_restarts": paper.model_dump()["plus_restarts"]}
            if attack.knobs.model_copy(update=unused) != paper:
                return False
    return True


def radius(view: View, epsilon: float) -> str:
    """An epsilon; papers write radii on 8-bit images as fractions of 255."""
    steps = round(255 * epsilon)
    exact = steps > 0 and abs(255 * epsilon - steps) < 1e-9
    value = view.labels.number(float(f"{epsilon:.4g}"))
    return f"{steps}/255 ≈ {value}" if exact and steps != 255 else value


def _networks(view: View) -> str:
    text = []
    for architecture in view.architectures:
        settings = view.results.dataset.models[architecture]
        source = settings.pretrained
        start = (
            view("setting.scratch") if source is None
            else view("setting.pretrained", source=view.labels.name("sources", source))
        )  # fmt: skip
        count = view.results.size("parameters", architecture)
        text.append(
            view("setting.network", name=view.network(architecture), start=start,
                 width=view.labels.number(settings.width))
            + ("" if count is None else view("setting.parameters", count=grouped(count)))
        )  # fmt: skip
    return " ".join(text)


def grouped(count: int) -> str:
    """11173962 as 11 173 962, in groups of three digits that no line break parts."""
    return f"{count:,}".replace(",", "\N{NO-BREAK SPACE}")


def _of_the_test(view: View, asked: int) -> int:
    """The number of test images used: those asked for, or all if these are fewer."""
    count = view.results.size("images", "test")
    return asked if count is None else min(asked, count)


def _training(view: View) -> str:
    """The recipe as it was set; number format and compilation as they came about."""
    settings, labels = view.results.dataset.train.model_dump(), view.labels
    precision, compilation = settings.pop("precision"), settings.pop("compile")
    recipe = knob_text({key: value for key, value in settings.items() if value is not None}, labels)
    compiled = trained_with(view, "compilation")
    if not compiled:
        text = view("setting.as_set", precision=labels.name("values", precision),
                    compilation=labels.name("values", compilation))  # fmt: skip
    else:
        ways = [view(f"setting.{COMPILATIONS[way]}") if way in COMPILATIONS else way
                for way in compiled]  # fmt: skip
        text = view("setting.ran", precision=_precision(view, precision),
                    compilation=labels.enumerate(ways))  # fmt: skip
    return f"{recipe}. {text}"


def _precision(view: View, asked: str) -> str:
    """The number format of training; TF32 is one of GPUs alone, which provenance names."""
    if asked != "tf32":
        return view.labels.name("values", asked)
    table = view.results.provenance
    rows = table[table["stage"] == "train"]
    devices = rows["device"].fillna("cpu") if "device" in rows else pd.Series("cpu", rows.index)
    on_cpu = {device.startswith("cpu") for device in devices}
    words = {True: view.labels.name("values", "float32"), False: view("setting.tf32_on_gpus")}
    return view.labels.enumerate([words[kind] for kind in sorted(on_cpu)])


def _suite(view: View, suite: Suite) -> str:
    images = (
        view("setting.all_images") if suite.images is None
        else view("setting.some_images", images=_of_the_test(view, suite.images))
    )  # fmt: skip
    attacks = []
    for attack in suite.attacks:
        knobs = knob_text(attack.budget, view.labels)
        name = view.labels.name("attacks", attack.name)
        attacks.append(f"{name} ({knobs})" if knobs else name)
    return f"{images} {'; '.join(attacks)}."


def knob_text(values: dict[str, Any], labels: Labels, words: str = "") -> str:
    """ "steps = 10; step size / ε = 0.25"; a section in a section stands in brackets. Settings that
    these values make no use of are left out.

    Args:
        words: where in the labels names are looked up first.
    """
    parts = []
    for key, value in values.items():
        if key in USED and not USED[key](values):
            continue
        name = labels.texts.get(f"{words}.{key}") or labels.name("knobs", key)
        if isinstance(value, dict):
            parts.append(f"{name} ({knob_text(value, labels, words)})")
        elif isinstance(value, str):
            word = labels.texts.get(f"{words}.{value}") or labels.name("values", value)
            parts.append(f"{name} = {word}")
        else:
            parts.append(f"{name} = {labels.number(value)}")
    # Not a comma: in Spanish it is the decimal mark.
    return "; ".join(parts)
