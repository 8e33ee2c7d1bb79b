"""params.yaml as typed, validated objects: the study, its cells, their settings and paths.

No torch here: reading and checking the whole file takes a fraction of a second.
"""

import difflib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import create_model
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tradeoff.core.arithmetic import Arithmetic
from tradeoff.core.schema import BadParams, Section, knobs_class, module_names, unknown, validate
from tradeoff.core.settings import (
    AscentSettings,
    Axes,
    DatasetSettings,
    ExamplesSettings,
    MaskingSettings,
    ModelSettings,
    ReportSettings,
    Split,
    StatisticsSettings,
    Suites,
    SuiteSettings,
    ThreatSettings,
    TrainSettings,
    TransferSettings,
)

FILE = "params.yaml"

# Without these versions and rows of a suite's ledgers `evaluation.summary` has no tables.
NEEDED_VERSIONS = {"bounded": ("best", "last"), "autoattack": ("best",), "minimal": ("best",)}
NEEDED_ROWS = {"bounded": ("fgsm", "pgd"), "autoattack": ("square",), "minimal": ()}

# Every other table is one of `summarize`, in a folder that is its output.
TABLES_OF_OTHER_STAGES = ("transfer", "examples", "sizes", "sweep")


@dataclass(frozen=True)
class Attack:
    """An entry of a suite: `module` of tradeoff.attacks, run with `knobs`."""

    name: str
    module: str
    knobs: Section


@dataclass(frozen=True)
class Suite:
    name: str
    images: int | None
    batch_size: int
    versions: list[str]
    gradient_checks: AscentSettings | None
    attacks: tuple[Attack, ...]


@dataclass(frozen=True)
class Dataset:
    """A data set with its settings, those of sections `train` and `suites` filled in."""

    name: str
    split: Split
    models: dict[str, ModelSettings]
    threat: ThreatSettings
    threads: int | None
    arithmetic: Arithmetic
    train: TrainSettings
    suites: dict[str, Suite]

    def suite(self, name: str) -> Suite:
        """A suite with this data set's budgets.

        Raises:
            BadParams: params.yaml has no such suite.
        """
        return _named(self.suites, name)

    def evaluation(self, suite: str) -> dict[str, Any]:
        """Threat and attacks of a suite, as its ledgers record them."""
        attacks = self.suite(suite).attacks
        return {
            "threat": self.threat.model_dump(),
            "attacks": {a.name: {"attack": a.module} | a.knobs.model_dump() for a in attacks},
        }

    @property
    def prepared(self) -> Path:
        return Path("data", f"{self.name}.safetensors")

    @property
    def transfer_ledger(self) -> Path:
        return Path("ledgers", "transfer", f"{self.name}.npz")

    def table(self, name: str) -> Path:
        """A table of the data set's results: cells, attacks, norms, curve, ..."""
        if name in TABLES_OF_OTHER_STAGES:
            return Path("plots", name, f"{self.name}.csv")
        return Path("plots", "summary", self.name, f"{name}.csv")

    @property
    def summary(self) -> Path:
        """The folder of means over seeds, a JSON for each defense and architecture."""
        return Path("metrics", "means", self.name)


@dataclass(frozen=True)
class Cell:
    """One row of the study's table; every stage works on one, or on those of a data set."""

    defense: str
    architecture: str
    dataset: Dataset
    seed: int
    knobs: Section

    @property
    def key(self) -> str:
        return f"{self.defense}-{self.architecture}-{self.dataset.name}-{self.seed}"

    @property
    def settings(self) -> ModelSettings:
        return self.dataset.models[self.architecture]

    def model(self, version: str) -> Path:
        return Path("models", self.dataset.name, self.key, f"{version}.safetensors")

    @property
    def history(self) -> Path:
        return Path("plots", "training", self.dataset.name, f"{self.key}.csv")

    def ledger(self, suite: str) -> Path:
        return Path("ledgers", self.dataset.name, f"{self.key}-{suite}.npz")


@dataclass(frozen=True)
class Study:
    """The whole of params.yaml, checked."""

    axes: Axes
    datasets: dict[str, Dataset]
    knobs: dict[str, Section]
    masking: MaskingSettings
    transfer: TransferSettings
    examples: ExamplesSettings
    statistics: StatisticsSettings
    report: ReportSettings
    suites: dict[str, Suite]

    @classmethod
    def load(cls, file: Path = Path(FILE)) -> "Study":
        """Read and check params.yaml in the current folder.

        Raises:
            BadParams: names the file, the key, the value given and what is allowed.
        """
        raw = _read(file)
        defenses = module_names("defenses", "Knobs")
        sections: dict[str, Any] = {
            name: (knobs_class("defenses", name), ...) for name in defenses if name in raw
        }
        whole = create_model(
            "Params",
            __base__=Section,
            study=(Axes, ...),
            datasets=(dict[str, DatasetSettings], ...),
            train=(TrainSettings, ...),
            suites=(Suites, ...),
            masking=(MaskingSettings, ...),
            transfer=(TransferSettings, ...),
            examples=(ExamplesSettings, ...),
            statistics=(StatisticsSettings, ...),
            report=(ReportSettings, ...),
            **sections,
        )
        params = validate(whole, raw, file=file.name)
        for name in params.study.defenses:
            if name not in raw:
                raise BadParams(f"{file.name}: {name}: this section of study.defenses is missing")
        for name in params.study.datasets:
            if name not in params.datasets:
                raise BadParams(f"{file.name}: datasets.{name}: is missing, study.datasets has it")
            models = params.datasets[name].models
            for architecture in params.study.architectures:
                if architecture not in models:
                    raise BadParams(
                        f"{file.name}: datasets.{name}.models.{architecture}: is missing, "
                        "study.architectures has it"
                    )
        suites = {
            suite: _suite(suite, entries, file.name, f"suites.{suite}")
            for suite, entries in raw["suites"].items()
        }
        datasets = {name: _dataset(name, raw, params, file.name) for name in params.datasets}
        for name, dataset in product(params.study.defenses, params.study.datasets):
            _check_finetuning(name, getattr(params, name), datasets[dataset], file.name)
        return cls(
            params.study,
            datasets,
            {name: getattr(params, name) for name in sections},
            params.masking,
            params.transfer,
            params.examples,
            params.statistics,
            params.report,
            suites,
        )

    def cell(self, key: str) -> Cell:
        """The cell of a key such as trades-resnet18-cifar10-0.

        Raises:
            BadParams: there is no such cell in the study.
        """
        for cell in self.cells():
            if cell.key == key:
                return cell
        near = difflib.get_close_matches(key, [cell.key for cell in self.cells()], 1)
        axes = {
            "DEFENSE": self.axes.defenses,
            "ARCHITECTURE": self.axes.architectures,
            "DATASET": self.axes.datasets,
            "SEED": self.axes.seeds,
        }
        raise BadParams(
            f"{key!r} is no cell of the study; a cell is DEFENSE-ARCHITECTURE-DATASET-SEED with "
            + "; ".join(f"{axis} {' | '.join(map(str, names))}" for axis, names in axes.items())
            + (f". Did you mean {near[0]}?" if near else "")
        )

    def cells(self, dataset: str | None = None) -> list[Cell]:
        """All cells, or those of one data set, in the order of params.yaml."""
        axes = self.axes
        names = axes.datasets if dataset is None else [self.dataset(dataset).name]
        rows = product(axes.defenses, axes.architectures, names, axes.seeds)
        return [Cell(d, a, self.datasets[s], seed, self.knobs[d]) for d, a, s, seed in rows]

    def position(self, cell: Cell) -> tuple[int, int]:
        """Which of its data set's cells it is, from 1, and how many there are."""
        keys = [other.key for other in self.cells(cell.dataset.name)]
        return keys.index(cell.key) + 1, len(keys)

    def suite(self, name: str) -> Suite:
        """A suite as section `suites` has it, before a data set's own values.

        Raises:
            BadParams: params.yaml has no such suite.
        """
        return _named(self.suites, name)

    def dataset(self, name: str) -> Dataset:
        """A data set of the study.

        Raises:
            BadParams: it is not in study.datasets.
        """
        if name not in self.axes.datasets:
            raise BadParams(f"data set {unknown(name, self.axes.datasets)}")
        return self.datasets[name]


def _named(suites: dict[str, Suite], name: str) -> Suite:
    if name not in suites:
        raise BadParams(f"suite {unknown(name, suites)}")
    return suites[name]


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = YAML(typ="safe").load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise BadParams(f"{file}: not found in {Path.cwd()}; run from the repository") from None
    except (YAMLError, ValueError) as error:  # a date such as 2024-13-45 is a ValueError
        raise BadParams(f"{file.name}: is not readable as YAML: {error}") from None
    if not isinstance(raw, dict):
        raise BadParams(f"{file.name}: should hold sections, it holds {raw!r}")
    return raw


def _dataset(name: str, raw: dict[str, Any], params: Any, file: str) -> Dataset:
    settings: DatasetSettings = params.datasets[name]
    at = f"datasets.{name}"
    train = validate(
        TrainSettings, _replace(raw["train"], settings.train), file=file, at=f"{at}.train"
    )
    names = list(Suites.model_fields)
    for suite in settings.suites:
        if suite not in names:
            raise BadParams(f"{file}: {at}.suites: {unknown(suite, names)}")
    for suite in names:
        if suite not in settings.suites:
            raise BadParams(f"{file}: {at}.suites.{suite}: is missing; {{}} changes nothing in it")
    suites = {
        suite: _suite(suite, _replace(raw["suites"][suite], own), file, f"{at}.suites.{suite}")
        for suite, own in settings.suites.items()
    }
    return Dataset(
        name,
        settings.split,
        settings.models,
        settings.threat,
        settings.threads,
        settings.arithmetic,
        train,
        suites,
    )


def _check_finetuning(defense: str, chosen: Section, dataset: Dataset, file: str) -> None:
    """A defense that fine-tunes needs epochs before its own, or it trains from scratch unsaid."""
    own, epochs = getattr(chosen, "finetune_epochs", None), dataset.train.epochs
    if own is not None and own >= epochs:
        raise BadParams(
            f"{file}: {defense}.finetune_epochs: is {own}; it should be less than the epochs of "
            f"{dataset.name}, which are {epochs}, or null for {defense} in all of them"
        )


def _suite(name: str, raw: dict[str, Any], file: str, at: str) -> Suite:
    settings = validate(SuiteSettings, raw, file=file, at=at)
    attacks = []
    for attack, entry in settings.attacks.items():
        place = f"{at}.attacks.{attack}"
        module, own = entry.get("attack", attack), {k: v for k, v in entry.items() if k != "attack"}
        allowed = module_names("attacks", "Knobs")
        if module not in allowed:
            raise BadParams(f"{file}: {place}.attack: {unknown(str(module), allowed)}")
        checked = validate(knobs_class("attacks", module), own, file=file, at=place)
        attacks.append(Attack(attack, module, checked))
    _check_complete(name, settings.versions, attacks, f"{file}: {at}")
    return Suite(
        name,
        settings.images,
        settings.batch_size,
        list(settings.versions),
        settings.gradient_checks,
        tuple(attacks),
    )


def _check_complete(name: str, versions: list[Any], attacks: list[Attack], at: str) -> None:
    """Refuse what would be found missing only when all attacks are done."""
    needed = NEEDED_VERSIONS[name]
    if not set(needed) <= set(versions):
        raise BadParams(
            f"{at}.versions: is {', '.join(versions)}; the tables need {', '.join(needed)}"
        )
    rows = {"square" if attack.module == "autoattack" else attack.name for attack in attacks}
    for row in NEEDED_ROWS[name]:
        if row not in rows:
            kind = "autoattack, for its part square" if row == "square" else f"{row}, by this name"
            raise BadParams(
                f"{at}.attacks: is {', '.join(attack.name for attack in attacks)}; "
                f"the tables need {kind}"
            )


def _replace(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `own` in it, section by section."""
    merged = dict(base)
    for key, value in own.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[key] = _replace(inner, value) if both else value  # type: ignore[arg-type]
    return merged
