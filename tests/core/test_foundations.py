"""Cells that stand on other cells' models, and studies in which something stands on nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.core.test_study import changed, complaint, load
from tradeoff.core import foundations, plugins
from tradeoff.core.schema import BadParams

BASES = {"natural": "standard", "robust": "at", "noisy": "gaussian"}


def params(
    defenses: list[str],
    bases: dict[str, str] = BASES,
    certified: tuple[str, ...] = (),
    **trained: Any,
) -> Any:
    """A valid params.yaml with another section `study`."""
    whole = changed(("study", "defenses"), defenses)
    whole["study"] |= {"bases": bases, "trained": trained, "certified": list(certified)}
    return whole


def test_a_cell_has_the_cells_of_its_bases(tmp_path: Path) -> None:
    study = load(params(["faal"], alone=["at"], on_robust=["faal"]), tmp_path)
    cell = study.cell("faal-vgg16-digits-5")
    assert {role: base.key for role, base in cell.bases.items()} == {"robust": "at-vgg16-digits-5"}
    assert cell.start is cell.bases["robust"] and cell.stage == "train_on_robust"
    assert cell.bases["robust"].stage == "train" and cell.bases["robust"].start is None
    assert {each.defense for each in study.cells()} == {"faal"}
    assert {each.defense for each in study.trained_cells()} == {"faal", "at"}
    assert study.cell("at-vgg16-digits-5").bases == {}


def test_any_plain_network_has_a_certificate_if_its_budget_is_given(tmp_path: Path) -> None:
    given = params(["at"], certified=("at",), alone=["at"])
    assert complaint(given, tmp_path) == (
        "params.yaml: certificates.interval: is missing, study.certified has at"
    )
    given["certificates"]["interval"] = {"images": 5, "batch_size": 5, "fractions": [1.0]}
    assert load(given, tmp_path).datasets["digits"].certificate("at").fractions == [1.0]


def test_fine_tuning_replaces_epochs_and_rate_and_null_does_not(tmp_path: Path) -> None:
    given = params(["faal"], alone=["at"], on_robust=["faal"])
    tuned = load(given, tmp_path).cell("faal-vgg16-digits-0")
    assert tuned.dataset.train.epochs == 2
    given["faal"]["fine_tuning"] = {"epochs": 7, "rate": 0.1}
    tuned = load(given, tmp_path).cell("faal-vgg16-digits-0")
    assert tuned.train.epochs == 7
    assert tuned.train.learning_rate == pytest.approx(0.1 * tuned.dataset.train.learning_rate)
    given["faal"]["fine_tuning"] = None
    fresh = load(given, tmp_path).cell("faal-vgg16-digits-0")
    assert fresh.train == fresh.dataset.train and fresh.start is None


def test_a_mixture_has_two_networks_and_its_classifiers_knobs(tmp_path: Path) -> None:
    given = params(["mixing"], alone=["standard", "at"], on_natural_and_robust=["mixing"])
    cell = load(given, tmp_path).cell("mixing-resnet18-digits-0")
    assert cell.stage == "train_on_natural_and_robust"
    assert (cell.classifier, cell.network_count) == ("mixed", 2)
    assert cell.knobs.model_dump() == {"classifier": {"alpha": 0.5}}
    assert cell.bases["natural"].network_count == 1


WRONG: dict[str, tuple[Any, str]] = {
    "in no list": (
        params(["faal"], alone=["at"], on_robust=[]),
        "trained.on_robust: lacks faal, which study.defenses has",
    ),
    "in the wrong list": (
        params(["faal"], alone=["at", "faal"]),
        "trained.alone: has faal, which belongs in on_robust: it stands on robust",
    ),
    "in a list of roles that it does not need": (
        params(["at"], alone=[], on_robust=["at"]),
        "trained.on_robust: has at, which belongs in alone: it stands on no other model",
    ),
    "a base that is not trained": (
        params(["faal"], alone=[], on_robust=["faal"]),
        "trained.alone: lacks at, the robust base of faal",
    ),
    "a missing role": (
        params(["faal"], {"natural": "standard"}, alone=["at"], on_robust=["faal"]),
        "bases: lacks the role robust, on which faal stands",
    ),
    "a base that names itself": (
        params(["faal"], {"robust": "faal"}, on_robust=["faal"]),
        "bases.robust: is faal, which stands on robust itself",
    ),
    "a base whose classifier is no network": (
        params(
            ["faal"],
            BASES | {"robust": "smoothing"},
            alone=["gaussian"],
            on_noisy=["smoothing"],
            on_robust=["faal"],
        ),
        "bases.robust: is smoothing, whose classifier is smoothed; faal needs a base of one plain "
        "network",
    ),
    "a certificate for a defense without one": (
        params(
            ["mixing"],
            certified=("mixing",),
            alone=["standard", "at"],
            on_natural_and_robust=["mixing"],
        ),
        "certified: has mixing, whose file names no CERTIFICATE",
    ),
    "a certificate for a classifier that it does not know": (
        params(["gaussian"], certified=("gaussian",), alone=["gaussian"]),
        "certified: has gaussian; smoothing certifies no plain classifier",
    ),
    "a certificate for what is no row": (
        params(["at"], certified=("smoothing",), alone=["at", "gaussian"], on_noisy=["smoothing"]),
        "certified: has smoothing, which study.defenses lacks",
    ),
    "bounds of a network with BatchNorm": (
        params(["crown_ibp"], alone=["crown_ibp"]) | {"crown_ibp": {"ramp": 0.5}},
        "architectures: has resnet18, for which crown_ibp knows no bounds in train mode; it can "
        "train mlp, wonglarge, wongresnet, wongsmall, whose files say TRAINS_ON_BOUNDS",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_stands_on_nothing_is_told_in_a_sentence(fault: str, tmp_path: Path) -> None:
    given, says = WRONG[fault]
    assert complaint(given, tmp_path) == f"params.yaml: study.{says}"


CACHED = (plugins.module_names, plugins.knobs_class, plugins.constant, plugins._definition)
FOLDERS = ("archs", "attacks", "certificates", "classifiers", "datasets", "defenses")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A copy of the folders of plug-ins, from which names and knobs are read."""
    copied = tmp_path / "package"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(plugins.PACKAGE / folder, copied / folder, ignore=ignored)
    monkeypatch.setattr(plugins, "PACKAGE", copied)
    for function in CACHED:
        function.cache_clear()
    yield copied
    for function in CACHED:
        function.cache_clear()


def test_a_classifier_without_networks_is_refused(package: Path, tmp_path: Path) -> None:
    text = 'CLASSIFIER = "mixed"\nclass Knobs(Section):\n    pass\n'
    (package / "defenses" / "empty.py").write_text(text)
    given = params(["empty"], alone=["empty"]) | {"empty": {"classifier": {"alpha": 0.5}}}
    assert complaint(given, tmp_path) == (
        "params.yaml: study.trained.alone: has empty, which trains nothing and has no base's "
        "networks"
    )


def test_a_certificate_for_a_norm_that_it_does_not_know_is_refused(
    package: Path, tmp_path: Path
) -> None:
    smoothing = package / "certificates" / "smoothing.py"
    smoothing.write_text(smoothing.read_text().replace('("l2", "linf")', '("l2",)'))
    given = params(
        ["smoothing"], certified=("smoothing",), alone=["gaussian"], on_noisy=["smoothing"]
    )
    assert complaint(given, tmp_path) == (
        "params.yaml: datasets.digits.threat.norm: is linf; the certificate smoothing of smoothing "
        "knows l2"
    )


def test_a_variant_takes_over_what_it_does_not_define(package: Path, tmp_path: Path) -> None:
    text = "from tradeoff.defenses.distillation import *\n"
    (package / "defenses" / "hotter.py").write_text(text)
    given = params(
        ["hotter"],
        BASES | {"teacher": "standard"},
        alone=["standard"],
        on_teacher=["hotter"],
    ) | {"hotter": {"temperature": 200.0}}
    cell = load(given, tmp_path).cell("hotter-vgg16-digits-0")
    assert cell.knobs.model_dump() == {"temperature": 200.0}
    assert cell.stage == "train_on_teacher"


def test_what_a_variant_defines_itself_it_does_not_take_over() -> None:
    """As in Python, whichever stands first in the file."""
    assert foundations.list_of("distillation_1") == "on_natural"
    assert foundations.list_of("distillation_10") == "on_teacher_10"


def test_a_file_that_cannot_be_parsed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "PACKAGE", tmp_path)
    (tmp_path / "defenses").mkdir()
    (tmp_path / "defenses" / "half_written.py").write_text("ONE = 1\ndef training_loss(:\n")
    with pytest.raises(BadParams, match=r"half_written\.py:2: invalid syntax"):
        plugins.defines("defenses", "half_written", "Knobs")
