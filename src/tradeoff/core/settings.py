"""The sections of params.yaml: which keys each has and what values they may take."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from tradeoff.core.plugins import module_names
from tradeoff.core.schema import (
    Fraction,
    NonNegative,
    Number,
    Positive,
    PositiveInt,
    Section,
    unknown,
)

LEAST_TRAINING_IMAGES = 2  # BatchNorm cannot train on one


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("distinct", "should name each thing once")
    return values


def _module(folder: str, attribute: str) -> AfterValidator:
    """A check that a name is that of a module in a package folder."""

    def known(name: str) -> str:
        allowed = module_names(folder, attribute)
        if name not in allowed:
            raise PydanticCustomError(
                "unknown_name", "{message}", {"message": unknown(name, allowed)}
            )
        return name

    return AfterValidator(known)


Defense = Annotated[str, _module("defenses", "Knobs")]
Architecture = Annotated[str, _module("archs", "build")]
# A part of cells' names and of paths. Whether there is such a section, `core.study` checks.
DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

_SOME = Field(min_length=1)
_DISTINCT = AfterValidator(_distinct)


SuiteName = Literal["bounded", "autoattack", "minimal", "beyond"]
NEEDED_SUITES: tuple[SuiteName, ...] = ("bounded", "autoattack", "minimal")


def _needed_suites(names: list[SuiteName]) -> list[SuiteName]:
    if not set(NEEDED_SUITES) <= set(names):
        raise PydanticCustomError("suites", "should have bounded, autoattack and minimal")
    return names


class Axes(Section):
    """Section `study`: the matrix, and which defenses stand on which others' models.

    Attributes:
        proposal: the defense that is compared with every other, if there is one.
        baseline: the proposal's objective with one weight for all images.
        control: what is trained without any defense.
        controls_of_proposal: what differs from the proposal in one thing, that its weight does not
            depend on the image.
        bases: the defense whose model each role is.
        trained: every defense of the matrix and every base that one of them needs, in the list of
            the roles that it stands on: `alone`, `on_robust`, `on_natural_and_robust`. Each list
            is one block of `train` in dvc.yaml, which knows a cell's dependencies from it.
        certified: the defenses whose certificates are computed.
        suites: what every cell is attacked with. `bounded`, `autoattack` and `minimal` make the
            tables; `beyond` has attacks that RA does not count.
    """

    defenses: Annotated[list[Defense], _SOME, _DISTINCT]
    architectures: Annotated[list[Architecture], _SOME, _DISTINCT]
    datasets: Annotated[list[DatasetName], _SOME, _DISTINCT]
    seeds: Annotated[list[Seed], _SOME, _DISTINCT]
    proposal: Defense | None = None
    baseline: Defense | None = None
    control: Defense | None = None
    controls_of_proposal: Annotated[list[Defense], _DISTINCT] = Field(default_factory=list)
    bases: dict[str, Defense]
    trained: dict[str, Annotated[list[Defense], _DISTINCT]]
    certified: Annotated[list[Defense], _DISTINCT]
    suites: Annotated[list[SuiteName], _DISTINCT, AfterValidator(_needed_suites)] = Field(
        default_factory=lambda: [*NEEDED_SUITES]
    )

    @property
    def listed(self) -> list[str]:
        """The defenses of all lists of `trained`."""
        return [defense for defenses in self.trained.values() for defense in defenses]


class Split(Section):
    """How a data set is divided; `test` is null where the authors publish a test split."""

    validation: PositiveInt
    test: PositiveInt | None
    limit: PositiveInt | None

    @field_validator("limit")
    @classmethod
    def _leaves_images_to_train_on(cls, value: int | None, info: ValidationInfo) -> int | None:
        """Check a limited data set, whose size is known; `prepared.split` checks the others."""
        least = info.data.get("validation", 0) + LEAST_TRAINING_IMAGES
        if value is not None and value < least:
            raise PydanticCustomError(
                "limit",
                "should be {least} or more: some for validation, the rest to train on",
                {"least": least},
            )
        return value


class ModelSettings(Section):
    """One architecture on one data set: `width` multiplies its channels."""

    width: Annotated[Positive, Field(le=4)]
    pretrained: Literal["imagenet"] | None

    @field_validator("pretrained")
    @classmethod
    def _fits(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Elsewhere than at width 1 no weight has torchvision's shape, and none would be loaded."""
        if value is not None and info.data.get("width", 1.0) != 1.0:
            raise PydanticCustomError("width", "should be null, or the width 1: it fits no other")
        return value


class ThreatSettings(Section):
    norm: Literal["linf", "l2"]
    epsilon: Positive

    @field_validator("epsilon")
    @classmethod
    def _within_images(cls, value: float, info: ValidationInfo) -> float:
        """A linf ball of more than 1 holds every image: 8 is meant as 8/255."""
        if info.data.get("norm") == "linf" and value > 1:
            raise PydanticCustomError(
                "epsilon", "should be 1 or less for linf: images are in [0, 1], write 8/255 for 8"
            )
        return value


class AscentSettings(Section):
    """PGD of training, of the selection of the epoch, or of the gradient checks.

    Its step is relative_step_size * epsilon.
    """

    steps: PositiveInt
    relative_step_size: Positive


class WeightPerturbation(Section):
    """Adversarial weight perturbation: by which share of each weight's norm, and from which share
    of the epochs on."""

    gamma: Positive
    begins: Fraction


class WeightAveraging(Section):
    """Stochastic weight averaging, from which share of the epochs on."""

    begins: Fraction


class TrainSettings(Section):
    """Section `train`, after a data set's own values have replaced some of it.

    Attributes:
        epsilon_warmup: the share of training over which the inner attack's epsilon grows to that of
            the threat; where that is large, training on it from the first step may never leave the
            prediction of one class for all images.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["adam", "sgd"]
    learning_rate: Positive
    momentum: Annotated[NonNegative, Field(lt=1)]
    weight_decay: NonNegative
    schedule: Literal["constant", "cosine", "step", "onecycle"]
    milestones: list[Fraction]
    decay: Positive
    warmup: Annotated[Fraction, Field(gt=0, lt=1)]
    augment: Literal["crop_flip"] | None
    clip_gradient: Positive | None
    ema_decay: Annotated[Positive, Field(lt=1)] | None
    swa: WeightAveraging | None
    weight_perturbation: WeightPerturbation | None
    label_smoothing: Annotated[Fraction, Field(lt=1)]
    precision: Literal["float32", "tf32", "bf16", "fp16"]
    compile: Literal["auto", "on", "off"]
    micro_batch: Annotated[int, Field(ge=2)] | None
    attack: AscentSettings
    epsilon_warmup: Annotated[Fraction, Field(lt=1)] = 0.0
    selection: AscentSettings

    @field_validator("swa")
    @classmethod
    def _one_average(
        cls, value: WeightAveraging | None, info: ValidationInfo
    ) -> WeightAveraging | None:
        if value is not None and info.data.get("ema_decay") is not None:
            raise PydanticCustomError(
                "average", "should be null, or ema_decay: one average is kept"
            )
        return value

    @field_validator("precision")
    @classmethod
    def _moves_weights_by_numbers(cls, value: str, info: ValidationInfo) -> str:
        """Of fp16 the first gradients may overflow, which is how torch finds its scale: the step
        is skipped, but weights that such a gradient has moved stay NaN."""
        if value == "fp16" and info.data.get("weight_perturbation") is not None:
            raise PydanticCustomError(
                "fp16",
                "should be float32, tf32 or bf16 with weight_perturbation: a gradient that "
                "overflows, as the first ones of fp16 may, would move weights to NaN",
            )
        return value


class FineTuning(Section):
    """How a defense goes on from its base's weights: the key `fine_tuning` of its section.

    Attributes:
        epochs: in place of train.epochs.
        rate: the peak learning rate, as a share of train.learning_rate.
    """

    epochs: PositiveInt
    rate: Positive


class CertificateSettings(Section):
    """Part of an entry of section `certificates`: what is certified, for every certificate."""

    images: PositiveInt | None
    batch_size: PositiveInt


Arithmetic = Literal["portable", "native"]


class DatasetSettings(Section):
    """One data set.

    Attributes:
        source: the module of tradeoff.datasets that reads it; with knobs {kind: MODULE, ...}.
        arithmetic: portable: the same bytes on every x86-64 processor (`networks.arithmetic`);
            native: as fast as the processor can.
    """

    source: str | dict[str, Any]
    split: Split
    models: dict[str, ModelSettings]
    threat: ThreatSettings
    threads: PositiveInt | None
    arithmetic: Arithmetic = "native"
    train: dict[str, Any]
    suites: dict[str, dict[str, Any]]
    certificates: dict[str, dict[str, Any]]


class Limit(Section):
    """On how many of a suite's images, the first ones, an attack is tried; null: on all."""

    images: PositiveInt | None


class SuiteSettings(Section):
    """A suite: which attacks with which budgets, on which model versions and how many images."""

    images: PositiveInt | None
    batch_size: PositiveInt
    versions: Annotated[list[Literal["best", "last"]], _SOME, _DISTINCT]
    gradient_checks: AscentSettings | None
    attacks: Annotated[dict[str, dict[str, Any]], _SOME]


class Suites(Section):
    """Section `suites`. What the tables need of each: NEEDED_VERSIONS, NEEDED_ROWS."""

    bounded: SuiteSettings
    autoattack: SuiteSettings
    minimal: SuiteSettings
    beyond: SuiteSettings | None = None


Live = Literal["tensorboard", "dvclive"] | None  # what curves are written for; see running/live.py


class MaskingSettings(Section):
    """Section `masking`: beyond which number a model is suspected of hiding its gradients."""

    pgd_minus_autoattack: Fraction
    square_alone: Fraction
    fosc: NonNegative
    gradient_cosine: Annotated[Number, Field(ge=-1, le=1)]
    zero_gradients: Fraction
    large_epsilon_accuracy: Fraction
    single_step_stronger: Fraction


class ExtractionSettings(Section):
    """A substitute that is trained on a model's answers to queries.

    Attributes:
        images: those of the validation split that are the first queries, without their labels.
        augmentations: how often new queries are made from all so far, which doubles them.
        step_size: how far a new query is from the one that it is made from, in units of the range.
        epochs: of the substitute before each augmentation, and after the last.
    """

    architecture: Architecture
    images: Annotated[int, Field(ge=2)]
    augmentations: Annotated[int, Field(ge=0, le=16)]
    step_size: Annotated[Positive, Field(le=1)]
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive


class TransferSettings(Section):
    """Section `transfer`: examples made on one model and tried on the others."""

    images: PositiveInt
    batch_size: PositiveInt
    steps: PositiveInt
    relative_step_size: Positive
    extraction: ExtractionSettings | None = None


class ExamplesSettings(Section):
    """Section `examples`: adversarial examples that the report shows.

    Attributes:
        measured: how many images input gradients are measured on.
    """

    images: PositiveInt
    measured: PositiveInt
    steps: PositiveInt
    relative_step_size: Positive


class ReportSettings(Section):
    """Section `report`."""

    languages: Annotated[list[Literal["en", "es"]], _SOME, _DISTINCT]


class StatisticsSettings(Section):
    """Section `statistics`: intervals and tests of differences, and what is detectable."""

    level: Annotated[Fraction, Field(gt=0, lt=1)]
    alpha: Annotated[Fraction, Field(gt=0, lt=1)]
    power: Annotated[Fraction, Field(ge=0.5, lt=1)]
