"""params.yaml: what is read from it, and what is said where it is wrong."""

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tradeoff.core.schema import BadParams
from tradeoff.core.study import Study

ROOT = Path(__file__).parents[2]
OWN = ROOT / "params.yaml"

# A small valid file that does not change when the study does.
PARAMS: dict[str, Any] = YAML(typ="safe").load(
    """
study: {defenses: [standard, trades], architectures: [resnet18, vgg16],
        datasets: [digits, cifar10], seeds: [0, 5], certified: [],
        bases: {natural: standard, robust: trades, noisy: gaussian},
        trained: {alone: [standard, trades], on_robust: []}}
standard: {}
trades: {beta: 6.0}
dtrades: {alpha: 1.0, beta: 1.0, differentiable: false}
faal: {radius: 0.5, fine_tuning: {epochs: 2, rate: 0.1}}
at: {}
gaussian: {sigma: 0.25}
smoothing: {classifier: {sigma: 0.25, copies: 8}}
mixing: {classifier: {alpha: 0.5}}
train:
  epochs: 10
  batch_size: 32
  optimizer: adam
  learning_rate: 0.001
  momentum: 0.9
  weight_decay: 0.0
  schedule: step
  milestones: [0.5, 3/4]
  decay: 0.1
  warmup: 0.25
  augment: null
  clip_gradient: null
  ema_decay: null
  swa: null
  weight_perturbation: null
  label_smoothing: 0.0
  precision: float32
  compile: off
  micro_batch: null
  attack: {steps: 10, relative_step_size: 1/4}
  selection: {steps: 20, relative_step_size: 0.1}
suites:
  bounded:
    images: null
    batch_size: 64
    versions: [best, last]
    gradient_checks: {steps: 5, relative_step_size: 0.1}
    attacks:
      fgsm: {}
      margin: {attack: pgd, loss: margin, steps: 20, relative_step_size: 0.1, restarts: 2}
      pgd: {loss: cross_entropy, steps: 20, relative_step_size: 0.1, restarts: 2}
  autoattack: &one
    images: 10
    batch_size: 64
    versions: [best]
    gradient_checks: null
    attacks: {all: {attack: autoattack}}
  minimal: *one
certificates:
  smoothing: {images: 10, batch_size: 100, selection: 10, samples: 100, failure: 0.001}
transfer: {images: 50, batch_size: 50, steps: 20, relative_step_size: 0.1}
masking:
  pgd_minus_autoattack: 0.1
  square_alone: 0.02
  fosc: 0.2
  gradient_cosine: 0.3
  zero_gradients: 0.01
  large_epsilon_accuracy: 0.01
  single_step_stronger: 0.01
examples: {images: 4, measured: 10, steps: 20, relative_step_size: 0.1}
report: {languages: [es, en]}
statistics: {level: 0.95, alpha: 0.05, power: 0.8}
datasets:
  digits:
    source: digits
    split: {validation: 100, test: 200, limit: null}
    models: {resnet18: {width: 0.5, pretrained: null}, vgg16: {width: 1.0, pretrained: imagenet}}
    threat: {norm: linf, epsilon: 0.1}
    threads: 1
    train: {epochs: 2, attack: {steps: 3}}
    suites: {bounded: {images: 50, attacks: {margin: {steps: 5}}}, autoattack: {}, minimal: {}}
    certificates: {smoothing: {samples: 50}}
  cifar10:
    source: cifar10
    split: {validation: 5000, test: null, limit: 5400}
    models: {resnet18: {width: 1, pretrained: null}, vgg16: {width: 1.0, pretrained: null}}
    threat: {norm: l2, epsilon: 8/255}
    threads: null
    train: {}
    suites: {bounded: {}, autoattack: {}, minimal: {}}
    certificates: {}
"""
)

Place = tuple[Any, ...]
MISSING = object()


def changed(place: Sequence[str], value: Any) -> dict[str, Any]:
    """PARAMS with one value replaced, or with one key less."""
    params = copy.deepcopy(PARAMS)
    inner: Any = params
    for key in place[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return params


def load(params: Any, folder: Path) -> Study:
    file = folder / "params.yaml"
    with file.open("w") as stream:
        YAML(typ="safe").dump(params, stream)
    return Study.load(file)


def complaint(params: Any, folder: Path) -> str:
    with pytest.raises(BadParams) as caught:
        load(params, folder)
    return str(caught.value)


def test_the_studys_own_file_is_valid() -> None:
    study = Study.load(OWN)
    axes = study.axes
    assert len(study.cells()) == (
        len(axes.defenses) * len(axes.architectures) * len(axes.datasets) * len(axes.seeds)
    )


def test_cells_are_the_product_in_the_files_order(tmp_path: Path) -> None:
    study = load(PARAMS, tmp_path)
    keys = [cell.key for cell in study.cells()]
    assert len(keys) == len(set(keys)) == 16
    assert keys[:3] == [
        "standard-resnet18-digits-0",
        "standard-resnet18-digits-5",
        "standard-resnet18-cifar10-0",
    ]
    assert [cell.key for cell in study.cells("digits")] == [key for key in keys if "digits" in key]
    for key in keys:
        assert study.cell(key).key == key
    assert study.position(study.cell("standard-resnet18-digits-5")) == (2, 8)
    assert study.position(study.cell("trades-vgg16-cifar10-5")) == (8, 8)


def test_values_reach_the_cell(tmp_path: Path) -> None:
    cell = load(PARAMS, tmp_path).cell("trades-vgg16-cifar10-5")
    assert cell.knobs.model_dump() == {"beta": 6.0}
    assert cell.dataset.threat.epsilon == pytest.approx(8 / 255)
    assert cell.dataset.split.limit == 5400
    assert cell.settings.width == 1.0 and cell.settings.pretrained is None
    assert cell.dataset.train.milestones == [0.5, 0.75]
    assert cell.dataset.train.attack.relative_step_size == 0.25


def test_a_data_sets_own_values_replace_those_for_all_and_nothing_else(tmp_path: Path) -> None:
    study = load(PARAMS, tmp_path)
    digits, cifar10 = study.datasets["digits"], study.datasets["cifar10"]
    assert (digits.train.epochs, cifar10.train.epochs) == (2, 10)
    assert (digits.train.attack.steps, digits.train.attack.relative_step_size) == (3, 0.25)
    assert digits.train.selection == cifar10.train.selection
    assert (digits.suite("bounded").images, cifar10.suite("bounded").images) == (50, None)
    own, others = (dataset.suite("bounded").attacks for dataset in (digits, cifar10))
    assert [attack.name for attack in own] == ["fgsm", "margin", "pgd"]
    assert [attack.module for attack in own] == ["fgsm", "pgd", "pgd"]
    assert own[1].knobs.model_dump() == others[1].knobs.model_dump() | {"steps": 5}


def test_files_of_a_cell_are_its_own(tmp_path: Path) -> None:
    cells = load(PARAMS, tmp_path).cells()
    files = [
        path
        for cell in cells
        for path in (
            cell.model("best"),
            cell.model("last"),
            cell.history,
            cell.ledger("bounded"),
        )
    ]
    assert len(files) == len(set(files))


WRONG: list[tuple[Any, ...]] = [
    # dotted key, its value, what the message must say, and the key it names if that is another
    ("trdes", {}, "did you mean trades?", "(top level)"),
    ("study.defences", [], "did you mean defenses?", "study"),
    ("study.defenses", ["tradse"], "did you mean trades?", "study.defenses.0"),
    ("study.proposal", "tradse", "did you mean trades?"),
    ("study.control", 3, "valid string"),
    ("study.defenses", ["__init__"], "'__init__' is not known; allowed: ", "study.defenses.0"),
    ("study.defenses", ["at", "at"], "each thing once"),
    ("study.defenses", [], "at least 1 item"),
    ("study.defenses", "trades", "valid list"),
    ("study.defenses", [3], "valid string", "study.defenses.0"),
    ("study.trained.alone", ["mart"], "this section of study.defenses is missing", "mart"),
    ("study.architectures", ["resnet"], "did you mean resnet18?", "study.architectures.0"),
    ("study.architectures", ["preprocess"], "resnet18, smallcnn", "study.architectures.0"),
    ("study.datasets", ["cifar100"], "did you mean cifar10?"),
    ("study.datasets", ["mnist"], "allowed: cifar10, digits"),
    ("study.datasets", ["my-data"], "a-z0-9_", "study.datasets.0"),
    ("datasets.digits.source", MISSING, "is missing"),
    ("datasets.digits.source", "digit", "did you mean digits?"),
    ("datasets.digits.source", {"kind": "folder", "sise": 3}, "size?"),
    ("datasets.digits.source", {"kind": "mnist", "a": 3}, "a"),
    ("study.datasets", ["digits", "digits"], "each thing once"),
    ("study.seeds", [0, 0], "each thing once"),
    ("study.seeds", [-1], "greater than or equal to 0", "study.seeds.0"),
    ("study.seeds", [2**31], "less than", "study.seeds.0"),
    ("study.seeds", [True], "valid integer", "study.seeds.0"),
    ("study.seeds", [1.0], "valid integer", "study.seeds.0"),
    ("study.seeds", MISSING, "is missing"),
    ("study.suites", ["bounded"], "should have bounded, autoattack and minimal"),
    (
        "study.suites",
        ["bounded", "autoattack", "minimal", "beyond"],
        "is missing, study.suites has it",
        "suites.beyond",
    ),
    ("study", MISSING, "is missing"),
    ("train", MISSING, "is missing"),
    ("suites", MISSING, "is missing"),
    ("datasets", MISSING, "is missing"),
    ("trades", MISSING, "this section of study.defenses is missing"),
    ("trades.beta", MISSING, "is missing"),
    ("trades.beta", -1.0, "greater than or equal to 0"),
    ("trades.beta", True, "valid number"),
    ("trades.beta", "6,0", "a number or a quotient"),
    ("trades.beta", float("nan"), "finite"),
    ("trades.beta", float("inf"), "finite"),
    ("trades.gamma", 1.0, "'gamma' is not known; allowed: beta", "trades"),
    ("trades", None, "section with keys beta"),
    ("dtrades.differentiable", 1, "valid boolean"),
    ("faal.fine_tuning.epochs", 0, "greater than 0"),
    ("faal.fine_tuning.rate", 0, "greater than 0"),
    ("faal.fine_tuning", MISSING, "is missing"),
    ("mixing.classifier.alpha", 2, "less than or equal to 1"),
    ("mixing.classifier", MISSING, "is missing"),
    ("certificates.smoothing.samples", 0, "greater than 0"),
    ("certificates.polytope", {}, "'polytope' is not known", "certificates"),
    ("study.bases.robust", "madry", "'madry' is not known"),
    ("standard.beta", 1.0, "'beta' is not known; allowed: (nothing)", "standard"),
    ("train.epochs", 0, "greater than 0"),
    ("train.epochs", 2.5, "valid integer"),
    ("train.batch_size", 1, "greater than or equal to 2"),
    ("train.optimizer", "adamw", "'adam' or 'sgd'"),
    ("train.momentum", 1.0, "less than 1"),
    ("train.schedule", "linear", "'onecycle'"),
    ("train.milestones", [0.5, 1.5], "less than or equal to 1", "train.milestones.1"),
    ("train.warmup", 0, "greater than 0"),
    ("train.warmup", 1, "less than 1"),
    ("train.ema_decay", 1.0, "less than 1"),
    ("train.swa", {"begins": 1.5}, "less than or equal to 1", "train.swa.begins"),
    (
        "datasets.digits.train",
        {"ema_decay": 0.9, "swa": {"begins": 0.5}},
        "one average is kept",
        "datasets.digits.train.swa",
    ),
    (
        "train.weight_perturbation",
        {"gamma": 0, "begins": 0},
        "greater than 0",
        "train.weight_perturbation.gamma",
    ),
    (
        "datasets.digits.train",
        {"weight_perturbation": {"gamma": 0.005, "begins": 0}, "precision": "fp16"},
        "with weight_perturbation",
        "datasets.digits.train.precision",
    ),
    ("train.label_smoothing", 1, "less than 1"),
    ("train.attack.steps", 0, "greater than 0"),
    ("train.attack", 7, "section with keys steps, relative_step_size"),
    ("train.atack", {}, "did you mean attack?", "train"),
    ("datasets.cifar10.threat.epsilon", "8/0", "8/2"),
    ("datasets.cifar10.threat.epsilon", -0.1, "0"),
    ("datasets.digits.threat.epsilon", 0, "than 0"),
    ("datasets.digits.threat.epsilon", 8, "images are in [0, 1], write 8/255 for 8"),
    ("datasets.cifar10.threat.norm", "l1", "'l2'"),
    ("datasets.cifar10.split.test", 0, "greater than 0"),
    ("datasets.cifar10.split.limit", 5001, "is 5001; it should be 5002 or more"),
    ("datasets.digits.models.resnet18.pretrained", "imagenet", "should be null, or the width 1"),
    ("datasets.cifar10.threads", 0, "greater than 0"),
    ("datasets.digits.models.vgg16.width", 5, "less than or equal to 4"),
    ("datasets.digits.models.vgg16.pretrained", "cifar", "'imagenet'"),
    ("datasets.digits.models.vgg16", MISSING, "is missing"),
    # what a data set replaces is checked like what it replaces
    ("datasets.digits.train.epochs", 0, "than 0"),
    ("datasets.digits.train.epoch", 3, "did you mean epochs?", "datasets.digits.train"),
    ("datasets.digits.train.attack.steps", "many", "valid integer"),
    ("datasets.digits.train.attack", None, "section"),
    ("datasets.digits.train", [1], "valid dictionary"),
    ("datasets.digits.suites.minimal", MISSING, "is missing; {} changes nothing"),
    ("datasets.digits.suites.full", {}, "'full' is not known", "datasets.digits.suites"),
    ("datasets.digits.suites.bounded.images", 0, "greater than 0"),
    ("datasets.digits.suites.bounded.attacks.margin.steps", -3, "greater than 0"),
    (
        "datasets.digits.suites.bounded.attacks.pdg",
        {},
        "did you mean pgd?",
        "datasets.digits.suites.bounded.attacks.pdg.attack",
    ),
    # the suites themselves
    ("suites.bounded.attacks.fgsm", {"no": 3}, "'no'"),
    ("suites.bounded.attacks.fgsm", None, "dictionary"),
    ("suites.bounded.attacks", {}, "at least 1 item"),
    ("suites.bounded.attacks.margin.loss", "cw", "'cross_entropy' or 'margin'"),
    ("suites.bounded.attacks.margin.attack", "madry", "'madry' is not known; allowed: "),
    ("suites.bounded.attacks.margin.attack", ["pgd"], "is not known"),
    ("suites.minimal", MISSING, "is missing"),
    ("suites.bounded.versions", ["first"], "'last'", "suites.bounded.versions.0"),
    ("suites.bounded.versions", ["last"] * 2, "each thing once"),
    ("suites.bounded.batch_size", 0, "greater than 0"),
    # what the tables need
    ("suites.bounded.versions", ["best"], "need best, last"),
    ("datasets.digits.suites.bounded.versions", ["last"], "is last; the tables need best, last"),
    ("suites.autoattack.versions", ["last"], "need best"),
    (
        "suites.bounded.attacks",
        {"fgsm": {}, "pgd20": PARAMS["suites"]["bounded"]["attacks"]["pgd"] | {"attack": "pgd"}},
        "is fgsm, pgd20; the tables need pgd, by this name",
    ),
    (
        "suites.autoattack.attacks",
        {"autoattack": {"attack": "fgsm"}},
        "the tables need autoattack, for its part square",
    ),
    ("masking.gradient_cosine", -2, "greater than or equal to -1"),
    ("statistics.power", 0.4, "greater than or equal to 0.5"),
    ("transfer", MISSING, "is missing"),
    ("report.languages", [], "is []; it should have at least 1 item"),
    ("train.augment", "none", "should be 'crop_flip' or null"),
    ("suites.bounded.image", 3, "did you mean images?", "suites.bounded"),
]


@pytest.mark.parametrize(("place", "value", "says", "key"), [(row + row[:1])[:4] for row in WRONG])
def test_wrong_values_are_told_in_one_line(
    place: str, value: Any, says: str, key: str, tmp_path: Path
) -> None:
    (line,) = complaint(changed(place.split("."), value), tmp_path).splitlines()
    assert line.startswith(f"params.yaml: {key}")
    assert says in line
    assert "; it " not in line or "; it should " in line
    assert "after validation" not in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("study: [1, 2", "is not readable as YAML"),
        ("study: {a: 1}\nstudy: {a: 2}", "is not readable as YAML"),
        ("a: b: c", "is not readable as YAML"),
        ("\tstudy: 1", "is not readable as YAML"),
        ("when: 2024-13-45", "is not readable as YAML"),
        ("study: *nowhere", "is not readable as YAML"),
        ("study: !!python/object:os.system {}", "is not readable as YAML"),
        ("- a\n- b", "should hold sections"),
        ("", "should hold sections, it holds None"),
        ("just words", "should hold sections, it holds 'just words'"),
    ],
)
def test_what_is_no_yaml_mapping_is_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(BadParams) as caught:
        Study.load(file)
    assert str(caught.value).startswith("params.yaml: ")
    assert says in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_bytes(b"study: \xff\xfe")
    with pytest.raises(BadParams, match=r"params\.yaml, line 1: is not in UTF-8"):
        Study.load(file)


def test_a_missing_file_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadParams) as caught:
        Study.load()
    assert "params.yaml" in str(caught.value) and str(tmp_path) in str(caught.value)


ASKED: list[tuple[Callable[[Study], Any], str]] = [
    (lambda study: study.cell("trades-resnet18-digit-0"), "Did you mean trades-resnet18-digits-0?"),
    (lambda study: study.cell("trades-resnet18-digits-7"), "SEED 0 | 5"),
    (lambda study: study.cell(""), "DEFENSE-ARCHITECTURE-DATASET-SEED"),
    (lambda study: study.dataset("digit"), "did you mean digits?"),
    (lambda study: study.cells("mnist"), "data set 'mnist' is not known"),
    (lambda study: study.dataset("digits").suite("bonded"), "did you mean bounded?"),
]


@pytest.mark.parametrize(("ask", "says"), ASKED)
def test_what_is_not_in_the_study_is_refused(
    ask: Callable[[Study], Any], says: str, tmp_path: Path
) -> None:
    study = load(PARAMS, tmp_path)
    with pytest.raises(BadParams) as caught:
        ask(study)
    assert says in str(caught.value)


def places(value: Any, here: Place = ()) -> list[Place]:
    """The way to every value of nested mappings and lists."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((*here, key))
        if isinstance(value[key], dict | list):
            found += places(value[key], (*here, key))
    return found


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**400, max_value=10**401),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["8/255", "1/0", "trades", "at", "pgd", "bounded", "imagenet", "{message}"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=6,
)


def assert_read_or_refused(file: Path) -> None:
    """Any other exception than BadParams fails the test."""
    message = None
    try:
        cells = Study.load(file).cells()
    except BadParams as error:
        message = str(error)
    assert cells if message is None else message.startswith("params.yaml: ")


SYNTAX = ["\n", ": ", "- ", "&a ", "*a ", "[", "!!", "{"]


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mutations=st.lists(st.tuples(st.sampled_from(places(PARAMS)), anything), min_size=1))
def test_a_mutated_file_is_read_or_refused_with_a_message(
    mutations: list[tuple[Place, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = copy.deepcopy(PARAMS)
    for place, value in mutations:
        inner: Any = params
        try:
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier mutation replaced what is around this place
    monkeypatch.setattr("tradeoff.core.schema.YAML.load", lambda self, text: params)
    assert_read_or_refused(OWN)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_garbled_file_is_read_or_refused_with_a_message(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = OWN.read_text("utf-8")
    place = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 20))
    garbage = data.draw(st.text(max_size=6) | st.sampled_from(SYNTAX))
    file = tmp_path_factory.getbasetemp() / "params.yaml"
    file.write_text(text[:place] + garbage + text[place + length :], "utf-8")
    assert_read_or_refused(file)


def test_reading_takes_no_torch_and_little_time() -> None:
    code = (
        "import sys, time; began = time.process_time()\n"
        "from pathlib import Path\n"
        "from tradeoff.core.study import Study\n"
        f"Study.load(Path({str(OWN)!r}))\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "took = time.process_time() - began\n"
        "assert took < 2, took"
    )
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT / "src")}, check=True)
    assert time.perf_counter() - began < 20
