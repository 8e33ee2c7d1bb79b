"""A study that nobody ran: params, and CSV files as summarize and train would write them."""

import random
from dataclasses import dataclass, fields
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from tradeoff.core.plugins import knobs_class
from tradeoff.core.schema import Section
from tradeoff.core.settings import (
    Axes,
    ExamplesSettings,
    MaskingSettings,
    ModelSettings,
    ReportSettings,
    Split,
    StatisticsSettings,
    ThreatSettings,
    TrainSettings,
    TransferSettings,
)
from tradeoff.core.study import Attack, Cell, Dataset, Source, Study, Suite, defense_section

DEFENSES = ["standard", "at", "trades", "dtrades", "mart", "faal"]
ATTACKS = ["fgsm", "pgd", "cw"]
PARTS = ["apgd-ce", "apgd-t", "fab-t", "square"]
EPSILON = 24 / 255
THRESHOLDS = {
    "pgd_minus_autoattack": 0.05, "square_alone": 0.01, "fosc": 0.1, "gradient_cosine": 0.1,
    "zero_gradients": 0.05, "large_epsilon_accuracy": 0.02, "single_step_stronger": 0.01,
}  # fmt: skip
CLASSES = 10
TRAIN_IMAGES = 1200
DETECTABLE = 0.03
PER_CLASS = 36
EPOCHS = 12
# Natural and robust accuracy around which cells are drawn.
LEVELS = {
    "standard": (0.98, 0.02),
    "at": (0.93, 0.62),
    "trades": (0.91, 0.66),
    "dtrades": (0.90, 0.67),
    "mart": (0.89, 0.65),
    "faal": (0.92, 0.60),
}
KNOBS = {
    "standard": {},
    "at": {},
    "trades": {"beta": 6.0},
    "dtrades": {"alpha": 2.5, "beta": 1.25, "differentiable": False},
    "mart": {"beta": 5.0},
    "faal": {
        "radius": 0.5,
        "fine_tuning": {"epochs": 2, "rate": 0.1},
    },
    "mixing": {"classifier": {"alpha": 0.5}},
    "mixing_75": {"classifier": {"alpha": 0.75}},
}


class NoKnobs(Section):
    """Of a defense that the package does not have."""


def made_up_study(
    defenses: list[str] | None = None,
    architectures: list[str] | None = None,
    seeds: list[int] | None = None,
    limit: int | None = None,
    attacks: list[str] | None = None,
    suite: str = "bounded",
) -> Study:
    """A study of the digits; names need not be those of modules."""
    defenses = DEFENSES if defenses is None else defenses
    axes = Axes.model_construct(
        defenses=defenses,
        architectures=architectures or ["resnet18", "vgg16"],
        datasets=["digits"],
        seeds=seeds or [0, 1, 2],
        proposal="dtrades",
        baseline="trades",
        control="standard",
        bases={"natural": "standard", "robust": "at"},
        trained={},
        certified=[],
    )
    ascent = {"steps": 10, "relative_step_size": 0.25}
    train = TrainSettings.model_validate({
        "epochs": EPOCHS, "batch_size": 64, "optimizer": "adam", "learning_rate": 0.001,
        "momentum": 0.9, "weight_decay": 0.0005, "schedule": "cosine", "milestones": [0.5, 0.75],
        "decay": 0.1, "warmup": 0.3, "augment": None, "clip_gradient": None, "ema_decay": None,
        "swa": None, "weight_perturbation": None, "label_smoothing": 0.0,
        "precision": "float32", "compile": "off", "micro_batch": None,
        "attack": ascent, "selection": {"steps": 20, "relative_step_size": 0.125},
    })  # fmt: skip
    dataset = Dataset(
        name="digits",
        source=Source("digits"),
        split=Split(validation=200, test=360, limit=limit),
        models={name: ModelSettings(width=0.25, pretrained=None) for name in axes.architectures},
        threat=ThreatSettings(norm="linf", epsilon=EPSILON),
        threads=2,
        arithmetic="native",
        train=train,
        suites={
            suite: Suite(
                suite, None, 64, ["best", "last"], None, tuple(map(_attack, attacks or ATTACKS))
            ),
        },
        certificates={},
    )
    sections = {
        name: defense_section(name).model_validate(KNOBS[name]) if name in KNOBS else NoKnobs()
        for name in defenses
    }
    return Study(
        axes=axes,
        datasets={"digits": dataset},
        knobs=sections,
        masking=MaskingSettings.model_validate(THRESHOLDS),
        transfer=TransferSettings(images=300, batch_size=300, steps=20, relative_step_size=0.1),
        examples=ExamplesSettings(images=4, measured=10, steps=20, relative_step_size=0.1),
        statistics=StatisticsSettings(level=0.95, alpha=0.05, power=0.8),
        report=ReportSettings(languages=["es", "en"]),
        suites=dataset.suites,
    )


def _attack(name: str) -> Attack:
    if name == "fgsm":
        return Attack(name, "fgsm", knobs_class("attacks", "fgsm")())
    loss = "margin" if name == "cw" else "cross_entropy"
    budget = {"loss": loss, "steps": 20, "relative_step_size": 0.1, "restarts": 2}
    return Attack(name, "pgd", knobs_class("attacks", "pgd").model_validate(budget))


@dataclass
class Tables:
    """A table of each name, as in plots/NAME/DATASET.csv."""

    cells: pd.DataFrame
    attacks: pd.DataFrame
    norms: pd.DataFrame
    curve: pd.DataFrame
    differences: pd.DataFrame
    masking: pd.DataFrame
    transfer: pd.DataFrame
    detectable: pd.DataFrame
    examples: pd.DataFrame
    gradients: pd.DataFrame
    sizes: pd.DataFrame
    provenance: pd.DataFrame


def made_up_tables(study: Study) -> Tables:
    """The tables of a complete matrix; the same for the same study."""
    cells, attacks = [], []
    for cell in study.cells("digits"):
        draw = random.Random(cell.key)
        level = LEVELS.get(cell.defense, (0.9, 0.5))
        names = ["natural", *(attack.name for suite in cell.dataset.suites.values()
                              for attack in suite.attacks)]  # fmt: skip
        rates: dict[str, dict[str, list[float]]] = {
            "best": _rates([*names, *PARTS, "all"], *level, draw),
            "last": _rates([*names, "all"], level[0] + 0.005, 0.93 * level[1], draw),
        }
        cells.append(_cell_row(cell, rates))
        attacks += [row for version, found in rates.items() for row in _rows(cell, version, found)]
    everything = study.cells("digits")
    norms = pd.DataFrame([row for cell in everything for row in _norm_rows(cell)])
    return Tables(
        cells=pd.DataFrame(cells),
        attacks=pd.DataFrame(attacks),
        norms=norms,
        curve=pd.DataFrame([row for cell in everything for row in _curve_rows(cell)]),
        differences=_differences(study, pd.DataFrame(cells)),
        masking=pd.DataFrame([row for cell in everything for row in _flag_rows(cell)]),
        transfer=_transfer(everything),
        detectable=judged(study, pd.DataFrame(cells), pd.DataFrame(attacks), norms),
        examples=_examples(study),
        gradients=_gradients(study),
        sizes=pd.DataFrame(
            [("images", "train", TRAIN_IMAGES), ("images", "validation", 200),
             ("images", "test", 360)]
            + [("parameters", name, 11_173_962) for name in study.axes.architectures],
            columns=["kind", "name", "count"],
        ),
        provenance=pd.DataFrame(
            [{"cell": cell.key, "stage": "train", "torch": "2.14.1", "deterministic": "yes",
              "arithmetic": "portable",
              "compilation": "not compiled: too short, or no GPU"} for cell in everything]
        ),
    )  # fmt: skip


def judged(
    study: Study, cells: pd.DataFrame, attacks: pd.DataFrame, norms: pd.DataFrame
) -> pd.DataFrame:
    """Three points of every metric between any two defenses, and as if a difference of so much
    were resolved; nothing is known of the worst class and ECE."""
    place = ["architecture", "defense"]
    means = {metric: cells.groupby(place)[metric].mean() for metric in ("NA", "RA", "RD")}
    chosen = attacks[(attacks["version"] == "best") & (attacks["class"] == "all")]
    means |= {
        f"accuracy_{name}": rows.groupby(place)["accuracy"].mean()
        for name, rows in chosen.groupby("attack") if name not in ("natural", "all")
    }  # fmt: skip
    means |= {
        f"APN_{norm}": rows.groupby(place)["APN"].mean() for norm, rows in norms.groupby("norm")
    }
    rows = [
        (architecture, metric, *sorted(pair), DETECTABLE,
         abs(values[architecture, pair[0]] - values[architecture, pair[1]]) >= DETECTABLE)
        for architecture in study.axes.architectures
        for pair in combinations(study.axes.defenses, 2)
        for metric, values in means.items()
    ]  # fmt: skip
    columns = ["architecture", "metric", "one", "other", "detectable", "resolved"]
    return pd.DataFrame(rows, columns=columns).assign(p=0.05)


def _gradients(study: Study) -> pd.DataFrame:
    """The first seed's in the picture, in the order of the cells."""
    cells = study.cells("digits")
    seeds = study.axes.seeds
    return pd.DataFrame(
        {"defense": cell.defense, "architecture": cell.architecture, "seed": cell.seed,
         "images": 40, "row": 1 + place // len(seeds) if cell.seed == seeds[0] else 0,
         "alignment": 0.1 * place, "roughness": 0.75, "sparsity": 0.5, "agreement": -0.25}
        for place, cell in enumerate(cells)
    )  # fmt: skip


def _examples(study: Study) -> pd.DataFrame:
    """Two images; every other model is fooled by the second."""
    rows = []
    models = [(a, d) for a in study.axes.architectures for d in study.axes.defenses]
    for place, (architecture, defense) in enumerate(models):
        for image in range(2):
            said = 7 if image and place % 2 else image
            rows.append(
                {"architecture": architecture, "defense": defense, "row": 1 + 2 * place,
                 "image": image, "label": image, "clean_prediction": image,
                 "clean_confidence": 0.99, "prediction": said, "confidence": 0.6,
                 "amplification": 4.1667}
            )  # fmt: skip
    return pd.DataFrame(rows)


def _key(cell: Cell) -> dict[str, Any]:
    return {"defense": cell.defense, "architecture": cell.architecture, "seed": cell.seed}


def _norm_rows(cell: Cell) -> list[dict[str, Any]]:
    draw = random.Random(f"norms {cell.key}")
    robust = LEVELS.get(cell.defense, (0.9, 0.5))[1]
    rows = []
    for norm, unit in (("l0", 12.0), ("l2", 1.5), ("linf", 0.15)):
        fooled = unit * (0.05 + robust + draw.gauss(0, 0.02))
        # MART resists on one network: some of its images have no norm.
        unfooled = 0.04 if (cell.defense, cell.architecture) == ("mart", "resnet18") else 0.0
        rows.append(
            _key(cell)
            | {"norm": norm, "images": 50, "APN": 0.9 * fooled, "unfooled": unfooled,
               "APN_fooled": fooled, "APN_fooled_median": 0.95 * fooled}
        )  # fmt: skip
    return rows


def _curve_rows(cell: Cell) -> list[dict[str, Any]]:
    natural, robust = LEVELS.get(cell.defense, (0.9, 0.5))
    robust = max(0.01, robust + random.Random(f"curve {cell.key}").gauss(0, 0.02))
    slope = np.log(natural / robust)
    return [
        _key(cell) | {"epsilon": round(epsilon, 6),
                      "RA": natural * float(np.exp(-slope * (epsilon / EPSILON) ** 1.5))}
        for epsilon in np.linspace(0, 2 * EPSILON, 41)
    ]  # fmt: skip


def _differences(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    means = cells.groupby(["architecture", "defense"])[["NA", "RA"]].mean()
    rows = []
    if "dtrades" in study.axes.defenses:
        for architecture in study.axes.architectures:
            for other in study.axes.defenses:
                for metric in ("NA", "RA") if other != "dtrades" else ():
                    gap = float(means.loc[(architecture, "dtrades"), metric]
                                - means.loc[(architecture, other), metric])  # fmt: skip
                    rows.append(
                        {"architecture": architecture, "other": other, "metric": metric,
                         "seeds": len(study.axes.seeds), "images": 360, "difference": gap,
                         "low": max(-1, gap - 0.02), "high": min(1, gap + 0.02),
                         "detectable": 0.03}
                    )  # fmt: skip
    return pd.DataFrame(rows)


def _flag_rows(cell: Cell) -> list[dict[str, Any]]:
    """TRADES of seed 0 raises two flags; one number of FAAL could not be measured."""
    rows = []
    for flag, threshold in THRESHOLDS.items():
        low = flag == "gradient_cosine"
        draw = random.Random(f"flag {flag} {cell.key}").random()
        raised: bool | None = cell.defense == "trades" and cell.seed == 0 and flag in (
            "fosc", "gradient_cosine")  # fmt: skip
        beyond = 0.5 + 0.4 * draw if raised == low else 1.5 + draw
        number = threshold * beyond
        if (cell.defense, cell.seed, flag) == ("faal", 1, "gradient_cosine"):
            raised, number = None, float("nan")
        rows.append(
            _key(cell)
            | {"flag": flag, "number": number, "threshold": threshold, "raised": raised,
               "suggests": f"The sentence of {flag}."}
        )  # fmt: skip
    return rows


def _transfer(cells: list[Cell]) -> pd.DataFrame:
    rows = []
    sources: list[tuple[str, str, str, int]] = [
        (cell.key, cell.defense, cell.architecture, cell.seed) for cell in cells if not cell.seed
    ]
    first = min(cell.seed for cell in cells)
    sources += [(f"ensemble-{name}", "ensemble", name, first)
                for name in dict.fromkeys(cell.architecture for cell in cells)]  # fmt: skip
    for source, defense, architecture, seed in sources:
        for target in cells:
            same = (defense, architecture) == (target.defense, target.architecture)
            inside = architecture == target.architecture and seed == target.seed
            if source == target.key or (defense == "ensemble" and inside):
                continue
            role = (
                "ensemble" if defense == "ensemble"
                else "gray_box" if same
                else "natural_source" if defense == "standard" != target.defense
                else "other_architecture" if architecture != target.architecture
                else "other_defense"
            )  # fmt: skip
            draw = random.Random(f"transfer {source} {target.key}")
            fooled = (1 - LEVELS.get(target.defense, (0.9, 0.5))[1]) * draw.uniform(0.3, 0.6)
            rows.append(
                {"role": role, "source_defense": defense, "source_architecture": architecture,
                 "target_defense": target.defense, "target_architecture": target.architecture,
                 "source": source, "target": target.key, "images": 300, "fooled": fooled,
                 "RA": 0.9 * (1 - fooled)}
            )  # fmt: skip
    rows += [
        {"role": "extraction", "source_defense": "extraction", "source_architecture": "wongsmall",
         "target_defense": target.defense, "target_architecture": target.architecture,
         "source": f"extraction-{target.key}", "target": target.key, "images": 300,
         "fooled": 0.1 + number / 1000, "RA": 0.7, "queries": 2400,
         "agreement": 0.9 + number / 1000}
        for number, target in enumerate(cell for cell in cells if cell.seed == first)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _rates(
    names: list[str], natural: float, robust: float, draw: random.Random
) -> dict[str, list[float]]:
    """Accuracy of each class under each attack; "all" is below every attack."""
    found: dict[str, list[float]] = {}
    for index, name in enumerate(names):
        level = natural if name == "natural" else robust + 0.02 * (len(names) - 1 - index)
        counts = [min(PER_CLASS, max(0, round(PER_CLASS * draw.gauss(level, 0.05))))
                  for _ in range(CLASSES)]  # fmt: skip
        found[name] = [count / PER_CLASS for count in counts]
    for place in range(CLASSES):
        found["all"][place] = min(found[name][place] for name in names)
    return found


def _cell_row(cell: Cell, rates: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    natural, robust = rates["best"]["natural"], rates["best"]["all"]
    na, ra = sum(natural) / CLASSES, sum(robust) / CLASSES
    return {
        "defense": cell.defense, "architecture": cell.architecture, "seed": cell.seed,
        "images": CLASSES * PER_CLASS, "images_bounded": CLASSES * PER_CLASS,
        "NA": na, "RA": ra, "RD": na - ra, "ASR": 1 - ra,
        "ASR_correct": (na - ra) / na, "RA_worst_class": min(robust),
        "NA_last": sum(rates["last"]["natural"]) / CLASSES,
        "RA_last": sum(rates["last"]["all"]) / CLASSES,
        "RA_bounded": min(1.0, ra + 0.03), "ECE": random.Random(f"ECE {cell.key}").random() / 10,
        "queries": 12345,
    }  # fmt: skip


def _rows(cell: Cell, version: str, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    key = _key(cell)
    rows = []
    for attack, by_class in rates.items():
        values = {"all": sum(by_class) / CLASSES} | {str(c): v for c, v in enumerate(by_class)}
        rows += [
            key | {"version": version, "attack": attack, "class": name,
                   "images": PER_CLASS * (CLASSES if name == "all" else 1), "accuracy": value}
            for name, value in values.items()
        ]  # fmt: skip
    return rows


def made_up_history(cell: Cell) -> pd.DataFrame:
    """The epochs of a cell's training."""
    draw = random.Random(f"history {cell.key}")
    natural, robust = LEVELS.get(cell.defense, (0.9, 0.5))
    rows = []
    for epoch in range(EPOCHS):
        progress = 1 - 0.5 ** (epoch + 1)
        row: dict[str, Any] = {
            "epoch": epoch,
            "loss": 2 * 0.8**epoch,
            "learning_rate": 0.001,
            "validation_natural_accuracy": min(1, natural * progress + draw.gauss(0, 0.01)),
            "validation_robust_accuracy": max(0, robust * progress - 0.006 * max(0, epoch - 7)
                                              + draw.gauss(0, 0.01)),
            "forward_passes": 12 * TRAIN_IMAGES,
            "backward_passes": 11 * TRAIN_IMAGES,
        }  # fmt: skip
        if cell.defense == "dtrades":
            entropy = 1.9 * 0.85**epoch + draw.gauss(0, 0.02)
            sensitivity = 0.6 * progress
            row |= {"lambda_mean": 2.5 * entropy + 1.25 * sensitivity, "lambda_std": 0.5}
            row |= {f"lambda_{c}": 2.5 * entropy + 0.1 * c for c in range(CLASSES)}
            row |= {f"lambda_entropy_{c}": 2.5 * entropy + 0.1 * c for c in range(CLASSES)}
            row |= {f"lambda_sensitivity_{c}": 1.25 * sensitivity for c in range(CLASSES)}
            row |= {
                "lambda_entropy_mean": 2.5 * entropy,
                "lambda_sensitivity_mean": 1.25 * sensitivity,
            }
            row |= {
                "lambda_q10": 2.0 * entropy,
                "lambda_q50": 2.5 * entropy,
                "lambda_q90": 3.0 * entropy,
            }
        if cell.defense == "faal":
            weight = 1 / CLASSES if epoch >= EPOCHS - 2 else None
            row |= {f"class_weight_{c}": weight for c in range(CLASSES)}
        rows.append(row)
    best = max(rows, key=lambda row: row["validation_robust_accuracy"])
    return pd.DataFrame([row | {"selected": int(row is best)} for row in rows])


def write_made_up(
    study: Study, root: Path, without: frozenset[str] = frozenset(),
    without_history: frozenset[str] = frozenset(), tables: Tables | None = None,
) -> None:  # fmt: skip
    """Write every input of a report below `root`, but for the cells with these keys."""
    tables = tables or made_up_tables(study)
    for field in fields(tables):
        table = getattr(tables, field.name)
        if "seed" in table:
            keys = (table["defense"] + "-" + table["architecture"] + "-digits-"
                    + table["seed"].astype(str))  # fmt: skip
            table = table[~keys.isin(without)]
        if "source" in table:
            table = table[~table["source"].isin(without) & ~table["target"].isin(without)]
        path = root / study.dataset("digits").table(field.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    tiles = np.random.default_rng(0).integers(
        0, 256, (4 * (int(tables.examples["row"].max()) + 2), 8)
    )
    Image.fromarray(tiles.astype(np.uint8)).save(root / "plots" / "examples" / "digits.png")
    tiles = tiles[: 4 * (int(tables.gradients["row"].max()) + 1)]
    Image.fromarray(tiles.astype(np.uint8)).save(root / "plots" / "gradients" / "digits.png")
    for cell in study.cells("digits"):
        if cell.key not in without | without_history:
            path = root / cell.history
            path.parent.mkdir(parents=True, exist_ok=True)
            made_up_history(cell).to_csv(path, index=False)


# A matrix with holes: a single seed, an architecture without one defense, no training CSV.
MISSING = frozenset({
    "trades-resnet18-digits-1",
    "at-resnet18-digits-1",
    "at-resnet18-digits-2",
    *(f"mart-vgg16-digits-{seed}" for seed in range(3)),
})  # fmt: skip
MISSING_HISTORY = frozenset({"faal-vgg16-digits-0"})
