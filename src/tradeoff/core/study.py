"""params.yaml as typed, validated objects: the study, its cells, their settings and paths.

No torch here: reading and checking the whole file takes a fraction of a second.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import create_model

from tradeoff.core import foundations
from tradeoff.core.plugins import constant, defines, knobs_class, module_names
from tradeoff.core.schema import BadParams, Section, read_yaml, unknown, validate
from tradeoff.core.settings import (
    Arithmetic,
    AscentSettings,
    Axes,
    CertificateSettings,
    DatasetSettings,
    ExamplesSettings,
    FineTuning,
    Limit,
    Live,
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
NEEDED_VERSIONS = {"bounded": ("best", "last"), "autoattack": ("best",), "minimal": ("best",),
                   "beyond": ("best",)}  # fmt: skip
NEEDED_ROWS = {"bounded": ("fgsm", "pgd"), "autoattack": ("square",), "minimal": (), "beyond": ()}

# Sections that are taken as they are, whatever the others have.
PLAIN_SECTIONS: dict[str, Any] = {
    "masking": MaskingSettings, "transfer": TransferSettings, "examples": ExamplesSettings,
    "statistics": StatisticsSettings, "report": ReportSettings,
}  # fmt: skip

# Every other table is one of `summarize`, in a folder that is its output.
TABLES_OF_OTHER_STAGES = ("transfer", "examples", "gradients", "sizes")


@dataclass(frozen=True)
class Attack:
    """An entry of a suite: `module` of tradeoff.attacks, run with `knobs` on the first `images`."""

    name: str
    module: str
    knobs: Section
    images: int | None = None

    @property
    def budget(self) -> dict[str, Any]:
        """Its knobs, and on how many images if not on all of the suite's."""
        images = {} if self.images is None else {"images": self.images}
        return images | self.knobs.model_dump()


@dataclass(frozen=True)
class Suite:
    name: str
    images: int | None
    batch_size: int
    versions: list[str]
    gradient_checks: AscentSettings | None
    attacks: tuple[Attack, ...]

    @property
    def budgets(self) -> dict[str, dict[str, Any]]:
        """What ledgers record of its attacks, by name."""
        return {attack.name: {"attack": attack.module} | attack.budget for attack in self.attacks}


@dataclass(frozen=True)
class Source:
    """Who reads a data set: `module` of tradeoff.datasets; with knobs where it is one's own."""

    module: str
    knobs: Section | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set with its settings, those of sections `train` and `suites` filled in."""

    name: str
    source: Source
    split: Split
    models: dict[str, ModelSettings]
    threat: ThreatSettings
    threads: int | None
    arithmetic: Arithmetic
    train: TrainSettings
    suites: dict[str, Suite]
    certificates: dict[str, Section]

    def suite(self, name: str) -> Suite:
        """A suite with this data set's budgets.

        Raises:
            BadParams: params.yaml has no such suite.
        """
        return _named(self.suites, name)

    def certificate(self, defense: str) -> Any:
        """The budget of a defense's certificate on this data set.

        Raises:
            BadParams: the defense has no certificate.
        """
        name = foundations.certificate(defense)
        if name is None:
            raise BadParams(f"{defense} has no certificate: its file names no CERTIFICATE")
        return self.certificates[name]

    def evaluation(self, suite: str) -> dict[str, Any]:
        """Threat and attacks of a suite, as its ledgers record them."""
        return {"threat": self.threat.model_dump(), "attacks": self.suite(suite).budgets}

    @property
    def own(self) -> Path:
        """Where images of one's own are."""
        return Path("data", "own", self.name)

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
    """One row of the study's table, or a model that rows stand on.

    Attributes:
        bases: the cells on whose models it stands, by role.
    """

    defense: str
    architecture: str
    dataset: Dataset
    seed: int
    knobs: Section
    bases: Mapping[str, "Cell"] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.defense}-{self.architecture}-{self.dataset.name}-{self.seed}"

    @property
    def settings(self) -> ModelSettings:
        return self.dataset.models[self.architecture]

    @property
    def stage(self) -> str:
        """The block of dvc.yaml that makes its model: train, train_on_robust, ..."""
        name = foundations.list_of(self.defense)
        return "train" if name == "alone" else f"train_{name}"

    @property
    def train(self) -> TrainSettings:
        """Section `train` for this cell, with the defense's own epochs where it fine-tunes."""
        settings, tuning = self.dataset.train, getattr(self.knobs, "fine_tuning", None)
        if tuning is None:
            return settings
        rate = tuning.rate * settings.learning_rate
        # The network that it starts from knows the whole epsilon already.
        own = {"epochs": tuning.epochs, "learning_rate": rate, "epsilon_warmup": 0.0}
        return settings.model_copy(update=own)

    @property
    def classifier(self) -> str:
        """The classifier that its networks make: a module of tradeoff.classifiers."""
        return foundations.classifier(self.defense)

    @property
    def network_count(self) -> int:
        return foundations.network_count(self.defense)

    @property
    def start(self) -> "Cell | None":
        """The cell with whose weights training begins; None: it begins with random ones."""
        if getattr(self.knobs, "fine_tuning", None) is None:
            return None
        return self.bases[constant("defenses", self.defense, "START")]

    def model(self, version: str) -> Path:
        return Path("models", self.dataset.name, self.key, f"{version}.safetensors")

    @property
    def history(self) -> Path:
        return Path("plots", "training", self.dataset.name, f"{self.key}.csv")

    def ledger(self, suite: str) -> Path:
        return Path("ledgers", self.dataset.name, f"{self.key}-{suite}.npz")

    @property
    def certificates(self) -> Path:
        return Path("ledgers", self.dataset.name, f"{self.key}-certificates.npz")


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
    live: Live = None

    @classmethod
    def load(cls, file: Path = Path(FILE)) -> "Study":
        """Read and check params.yaml in the current folder.

        Raises:
            BadParams: names the file, the key, the value given and what is allowed.
        """
        raw = _read(file)
        defenses = module_names("defenses", "Knobs")
        sections: dict[str, Any] = {
            name: (defense_section(name), ...) for name in defenses if name in raw
        }
        plain: dict[str, Any] = {name: (kind, ...) for name, kind in PLAIN_SECTIONS.items()}
        whole = create_model(
            "Params",
            __base__=Section,
            study=(Axes, ...),
            datasets=(dict[str, DatasetSettings], ...),
            train=(TrainSettings, ...),
            suites=(Suites, ...),
            certificates=(dict[str, dict[str, Any]], ...),
            live=(Live, None),
            **plain,
            **sections,
        )
        params = validate(whole, raw, file=file.name)
        for name in (*params.study.defenses, *params.study.listed):
            if name not in raw:
                raise BadParams(f"{file.name}: {name}: this section of study.defenses is missing")
        for name in params.study.datasets:
            if name not in params.datasets:
                raise BadParams(
                    f"{file.name}: study.datasets: {unknown(name, params.datasets)} (the sections "
                    "of datasets)"
                )
            models = params.datasets[name].models
            for architecture in params.study.architectures:
                if architecture not in models:
                    raise BadParams(
                        f"{file.name}: datasets.{name}.models.{architecture}: is missing, "
                        "study.architectures has it"
                    )
        threats = {name: params.datasets[name].threat for name in params.study.datasets}
        foundations.check(params.study, threats, file.name)
        knobs = {name: getattr(params, name) for name in sections}
        foundations.check_shared(params.study, knobs, file.name)
        for suite in params.study.suites:
            if suite not in raw["suites"]:
                raise BadParams(f"{file.name}: suites.{suite}: is missing, study.suites has it")
        suites = {
            suite: _suite(suite, entries, file.name, f"suites.{suite}")
            for suite, entries in raw["suites"].items()
        }
        _certificates(raw["certificates"], {}, file.name, "certificates")
        for defense in params.study.certified:
            proof = foundations.certificate(defense)
            if proof not in raw["certificates"]:
                raise BadParams(
                    f"{file.name}: certificates.{proof}: is missing, study.certified has {defense}"
                )
        datasets = {name: _dataset(name, raw, params, file.name) for name in params.datasets}
        plain = {name: getattr(params, name) for name in plain}
        return cls(params.study, datasets, knobs, suites=suites, live=params.live, **plain)

    def cell(self, key: str) -> Cell:
        """The cell of a key such as trades-resnet18-cifar10-0.

        Raises:
            BadParams: there is no such cell in the study.
        """
        cells = {cell.key: cell for cell in self.trained_cells()}
        if key in cells:
            return cells[key]
        near = difflib.get_close_matches(key, cells, 1)
        axes: dict[str, list[Any]] = {
            "DEFENSE": self._trained,
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
        """The rows of the table, or those of one data set, in the order of params.yaml."""
        return self._product(self.axes.defenses, dataset)

    def trained_cells(self, dataset: str | None = None) -> list[Cell]:
        """Everything that has a model: the rows, and the bases that are no rows."""
        return self._product(self._trained, dataset)

    @property
    def _trained(self) -> list[str]:
        rows = self.axes.defenses
        return [*rows, *(name for name in self.axes.listed if name not in rows)]

    def _product(self, defenses: list[str], dataset: str | None) -> list[Cell]:
        axes = self.axes
        names = axes.datasets if dataset is None else [self.dataset(dataset).name]
        axes_of_cells = product(defenses, axes.architectures, names, axes.seeds)
        return [self._cell(d, a, self.datasets[s], seed) for d, a, s, seed in axes_of_cells]

    def _cell(self, defense: str, architecture: str, dataset: Dataset, seed: int) -> Cell:
        bases = {
            role: self._cell(self.axes.bases[role], architecture, dataset, seed)
            for role in foundations.roles(defense)
        }
        return Cell(defense, architecture, dataset, seed, self.knobs[defense], bases)

    def position(self, cell: Cell) -> tuple[int, int]:
        """Which of its data set's models it is, from 1, and how many there are."""
        keys = [other.key for other in self.trained_cells(cell.dataset.name)]
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
    raw = read_yaml(file)
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
    suites = {}
    for suite in params.study.suites:
        if suite not in settings.suites:
            raise BadParams(f"{file}: {at}.suites.{suite}: is missing; {{}} changes nothing in it")
        own = _replace(raw["suites"][suite], settings.suites[suite])
        suites[suite] = _suite(suite, own, file, f"{at}.suites.{suite}")
    certificates = _certificates(
        raw["certificates"], settings.certificates, file, f"{at}.certificates"
    )
    return Dataset(
        name,
        _source(settings.source, file, f"{at}.source"),
        settings.split,
        settings.models,
        settings.threat,
        settings.threads,
        settings.arithmetic,
        train,
        suites,
        certificates,
    )


def _source(entry: str | dict[str, Any], file: str, at: str) -> Source:
    given = {"kind": entry} if isinstance(entry, str) else dict(entry)
    module = given.pop("kind", None)
    allowed = module_names("datasets", "read")
    if module not in allowed:
        raise BadParams(f"{file}: {at}: {unknown(str(module), allowed)}")
    if defines("datasets", module, "Knobs"):
        knobs = knobs_class("datasets", module)
        return Source(module, validate(knobs, given, file=file, at=at))
    if given:
        raise BadParams(f"{file}: {at}: {module} takes nothing else, it has {', '.join(given)}")
    return Source(module)


def defense_section(defense: str) -> type[Section]:
    """What a defense's section of params.yaml holds: its knobs, and those of its classifier and of
    its fine-tuning, where it has them."""
    fields: dict[str, Any] = {}
    if constant("defenses", defense, "START"):
        fields["fine_tuning"] = (FineTuning | None, ...)
    knobs = knobs_class("classifiers", foundations.classifier(defense))
    if knobs.model_fields:
        fields["classifier"] = (knobs, ...)
    base = knobs_class("defenses", defense)
    return create_model(base.__name__, __base__=base, **fields) if fields else base


def _certificates(raw: Any, own: dict[str, Any], file: str, at: str) -> dict[str, Section]:
    """The budgets of all certificates, some values replaced by a data set's own."""
    allowed = module_names("certificates", "certify")
    for name in {**raw, **own}:
        if name not in allowed:
            raise BadParams(f"{file}: {at}: {unknown(name, allowed)}")
    return {
        name: validate(
            create_model(
                "Certificate", __base__=(CertificateSettings, knobs_class("certificates", name))
            ),
            _replace(raw[name], own.get(name, {})),
            file=file,
            at=f"{at}.{name}",
        )
        for name in raw
    }


def _suite(name: str, raw: dict[str, Any], file: str, at: str) -> Suite:
    settings = validate(SuiteSettings, raw, file=file, at=at)
    attacks = []
    for attack, entry in settings.attacks.items():
        place = f"{at}.attacks.{attack}"
        own = dict(entry)
        module = own.pop("attack", attack)
        limit = validate(Limit, {"images": own.pop("images", None)}, file=file, at=place)
        allowed = module_names("attacks", "Knobs")
        if module not in allowed:
            raise BadParams(f"{file}: {place}.attack: {unknown(str(module), allowed)}")
        checked = validate(knobs_class("attacks", module), own, file=file, at=place)
        attacks.append(Attack(attack, module, checked, limit.images))
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
