"""Running a suite: its verdicts computed once more, in any batch, interrupted or not."""

import copy
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.attacks.calls import KNOBS
from tests.attacks.trained import LINF, trained
from tradeoff.attacks import autoattack, fgsm, fmn, pgd
from tradeoff.attacks.outcome import Adversarial
from tradeoff.attacks.suites.ledger import CHECKS, PER_ATTACK, PER_IMAGE, Ledger
from tradeoff.attacks.suites.run import run_suite
from tradeoff.core.plugins import knobs_class, module_names
from tradeoff.core.schema import PositiveInt, Section
from tradeoff.core.settings import AscentSettings
from tradeoff.core.study import Attack, Suite
from tradeoff.networks.device import MATRIX_BACKENDS, matrix_precision
from tradeoff.networks.randomness import sample_keys
from tradeoff.networks.threat import Threat, perturbation_norm
from tradeoff.running.attack_checkpoints import Checkpoints

IMAGES = 60
PGD = pgd.Knobs(loss="margin", steps=5, relative_step_size=0.3, restarts=2)
ENSEMBLE = autoattack.Knobs(
    version="standard", apgd_steps=8, fab_steps=5, targets=3, square_queries=40, plus_restarts=1
)
WHITE_BOX = [Attack("fgsm", "fgsm", fgsm.Knobs()), Attack("cw", "pgd", PGD)]


def suite(
    attacks: list[Attack], batch_size: int = 25, gradient_checks: AscentSettings | None = None
) -> Suite:
    return Suite("bounded", None, batch_size, ["best", "last"], gradient_checks, tuple(attacks))


@cache
def weaker() -> nn.Module:
    """Another version of the trained model: with its weights rounded."""
    model = copy.deepcopy(trained().model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 8).round() / 8)
    return model


def versions() -> dict[str, nn.Module]:
    return {"best": trained().model, "last": weaker()}


def run(chosen: Suite, models: dict[str, nn.Module] | None = None, **more: Any) -> Ledger:
    subject = trained().first(IMAGES)
    return run_suite(
        models or versions(),
        subject.images,
        subject.labels,
        LINF,
        chosen,
        about={"cell": "some-cell", "suite": chosen.name},
        **more,
    )


def test_verdicts_and_norms_are_those_of_the_attack_on_the_model_itself() -> None:
    subject = trained().first(IMAGES)
    found = run(suite(WHITE_BOX))
    assert (found.versions, found.attacks) == (("best", "last"), ("fgsm", "cw"))
    assert found.about == {"cell": "some-cell", "suite": "bounded"}
    for v, model in enumerate(versions().values()):
        logits = model(subject.images)
        assert np.array_equal(found["clean_prediction"][v], logits.argmax(1))
        np.testing.assert_allclose(
            found["clean_confidence"][v], logits.softmax(1).amax(1), rtol=1e-5
        )
        keys = sample_keys(torch.arange(IMAGES), "cw")
        adversarial = pgd.pgd(model, subject.images, subject.labels, PGD, LINF, keys)
        attacked = model(adversarial.images)
        fooled = (attacked.argmax(1) != subject.labels).numpy()
        assert np.array_equal(found["fooled"][v, 1], fooled)
        assert np.array_equal(found["queries"][v, 1], adversarial.queries)
        assert 0.2 < fooled.mean() < 1
        delta = adversarial.images - subject.images
        # The twin rounds differently: a sign may flip, and with it a pixel.
        for norm, place in (("l2", 1), ("linf", 1)):
            mine, theirs = found[norm][v, place], perturbation_norm(delta, norm).numpy()
            assert np.isclose(mine, theirs, rtol=1e-3).mean() > 0.95
    assert found["attempted"].all()
    assert np.array_equal(found["fooled"], found["prediction"] != found["labels"])
    assert (found["margin"][found["fooled"]] <= 0).all()
    assert (found["margin"][~found["fooled"]] >= 0).all()
    assert found["linf"].max() <= LINF.epsilon * (1 + 1e-5)
    assert (found["clean_margin"] < 0)[found["clean_prediction"] != found["labels"]].all()


def test_both_versions_are_attacked_for_themselves() -> None:
    found = run(suite(WHITE_BOX))
    assert (found["clean_margin"][0] != found["clean_margin"][1]).mean() > 0.9
    alone = run(suite(WHITE_BOX), {"last": weaker()})
    for name in PER_ATTACK:
        np.testing.assert_array_equal(alone[name][0], found[name][1])


@pytest.mark.parametrize("batch_size", [7, 60, 1000])
def test_verdicts_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    attacks = [*WHITE_BOX, Attack("autoattack", "autoattack", ENSEMBLE)]
    models = {"best": trained().model}
    reference, other = run(suite(attacks), models), run(suite(attacks, batch_size), models)
    for name in ("attempted", "fooled", "clean_prediction", "labels"):
        np.testing.assert_array_equal(reference[name], other[name])
    assert (reference["queries"] == other["queries"]).mean() > 0.97
    np.testing.assert_allclose(reference["clean_margin"], other["clean_margin"], atol=1e-4)


def test_the_same_suite_gives_the_same_ledger() -> None:
    one, other = run(suite(WHITE_BOX)), run(suite(WHITE_BOX))
    for name in (*PER_ATTACK, *PER_IMAGE, "labels"):
        np.testing.assert_array_equal(one[name], other[name])


def test_each_part_of_an_ensemble_attacks_what_is_still_robust() -> None:
    found = run(suite([Attack("autoattack", "autoattack", ENSEMBLE)]), {"best": trained().model})
    assert found.attacks == ("apgd-ce", "apgd-t", "fab-t", "square")
    left = found["clean_prediction"][0] == found["labels"]
    for attempted, fooled, prediction, queries in zip(
        *(found[name][0] for name in ("attempted", "fooled", "prediction", "queries")), strict=True
    ):
        np.testing.assert_array_equal(attempted, left)
        assert not (fooled & ~attempted).any()
        assert (prediction[~attempted] == -1).all() and (queries[~attempted] == 0).all()
        assert (queries[attempted] > 0).all()
        left &= ~fooled
    assert 0 < left.sum() < IMAGES
    assert found["fooled"][0, 0].any(), "else nothing is left out for later parts"
    np.testing.assert_array_equal(np.isnan(found["margin"]), ~found["attempted"])


def test_an_attack_may_be_tried_on_the_first_images_alone() -> None:
    """The others are as if it were not there, and what it does to the first stays the same."""
    everywhere = run(suite([*WHITE_BOX, Attack("auto", "autoattack", ENSEMBLE)]))
    first = run(suite([*WHITE_BOX, Attack("auto", "autoattack", ENSEMBLE, images=30)]))
    assert first.about["tried"] == dict.fromkeys(("apgd-ce", "apgd-t", "fab-t", "square"), 30)
    assert "tried" not in everywhere.about
    assert (first.tried("square"), first.tried("cw")) == (30, IMAGES)
    assert first.first(20).tried("square") == 20
    for name in PER_ATTACK:
        np.testing.assert_array_equal(first[name][:, :2], everywhere[name][:, :2])
    for name in ("attempted", "fooled"):
        np.testing.assert_array_equal(first[name][..., :30], everywhere[name][..., :30])
    assert not first["attempted"][:, 2:, 30:].any() and not first["fooled"][:, 2:, 30:].any()
    assert everywhere["fooled"][:, 2:, 30:].any(), "else nothing was left out"


def test_backward_passes_are_counted() -> None:
    chosen = suite([Attack("fgsm", "fgsm", fgsm.Knobs()), Attack("auto", "autoattack", ENSEMBLE)])
    found = run(chosen, {"best": trained().model})
    row = dict(zip(found.attacks, found["gradients"][0], strict=True))
    assert (row["fgsm"] == 1).all()
    assert (row["square"] == 0).all(), "it asks for no gradient"
    assert row["apgd-ce"].max() > 5


def test_minimum_norm_attacks_run_without_the_threat() -> None:
    knobs = fmn.Knobs(norm="linf", steps=30, step_size=1.0, gamma=0.05)
    found = run(suite([Attack("fmn_linf", "fmn", knobs)]), {"best": trained().model})
    assert found["fooled"].mean() > 0.95
    assert found["linf"].max() > LINF.epsilon, "else the threat bounds it"


class Strength(Section):
    strength: PositiveInt


@pytest.fixture
def calls() -> Iterator[list[dict[str, Any]]]:
    """An attack that uses its knobs alone, and notes what it is called with."""
    noted: list[dict[str, Any]] = []

    def simple(
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        knobs: Strength,
        threat: Threat,
        keys: Tensor,
    ) -> Adversarial:
        precisions = [backend.fp32_precision for backend in MATRIX_BACKENDS]
        noted.append({"strength": knobs.strength, "images": images, "training": model.training})
        noted[-1] |= {"precisions": precisions, "threat": threat, "keys": keys}
        return Adversarial(1 - images, torch.full_like(labels, knobs.strength))

    module = ModuleType("tradeoff.attacks.simple")
    module.simple = simple  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield noted
    del sys.modules[module.__name__]


def test_an_attack_gets_its_knobs_the_threat_and_the_keys_of_its_samples(
    calls: list[dict[str, Any]],
) -> None:
    found = run(suite([Attack("mine", "simple", Strength(strength=9))]), {"best": trained().model})
    assert [len(call["images"]) for call in calls] == [25, 25, 10]
    assert all(call["strength"] == 9 and not call["training"] for call in calls)
    assert all(call["threat"] == LINF for call in calls)
    keys = torch.cat([call["keys"] for call in calls])
    assert torch.equal(keys, sample_keys(torch.arange(IMAGES), "mine"))
    assert found.attacks == ("mine",)
    assert (found["queries"] == 9).all()
    subject = trained().first(IMAGES)
    expected = subject.model(1 - subject.images).argmax(1)
    np.testing.assert_array_equal(found["prediction"][0, 0], expected)


def test_gradient_checks_are_measured_where_asked_for() -> None:
    budget = AscentSettings(steps=4, relative_step_size=0.3)
    measured = run(suite(WHITE_BOX[:1], gradient_checks=budget))
    for name in CHECKS:
        assert measured[name].shape == (2, IMAGES) and not np.isnan(measured[name]).any()
    assert 0.2 < measured["check_fooled"].mean() <= 1
    without = run(suite(WHITE_BOX[:1]))
    assert all(np.isnan(without[name]).all() for name in CHECKS)


def test_progress_is_reported_after_each_batch() -> None:
    told: list[tuple[Any, ...]] = []
    run(suite(WHITE_BOX), report=lambda *now: told.append(now))
    assert told == [
        (version, attack, done, IMAGES)
        for version in ("best", "last")
        for attack in ("fgsm", "cw")
        for done in (25, 50, 60)
    ]


def test_an_attack_on_the_first_images_is_done_with_the_last_of_them() -> None:
    told: list[tuple[Any, ...]] = []
    first = Attack("fgsm", "fgsm", fgsm.Knobs(), images=30)
    run(suite([first]), report=lambda *now: told.append(now[1:]))
    assert told == 2 * [("fgsm", 25, 30), ("fgsm", 30, 30)]


def test_a_model_in_train_mode_and_one_of_nan_are_refused() -> None:
    with pytest.raises(ValueError, match="train mode"):
        run(suite(WHITE_BOX), {"best": nn.Sequential(nn.Flatten(), nn.Linear(64, 10))})
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
    broken[1].weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="NaN or infinite logits"):
        run(suite(WHITE_BOX), {"best": broken})


def test_gpus_multiply_in_float32_whatever_was_set(calls: list[dict[str, Any]]) -> None:
    attacks = [Attack("mine", "simple", Strength(strength=1))]
    with matrix_precision("tf32"):
        run(suite(attacks), {"best": trained().model})
        assert [backend.fp32_precision for backend in MATRIX_BACKENDS] == ["tf32", "tf32"]
    assert all(call["precisions"] == ["ieee", "ieee"] for call in calls)


class Interrupted(Exception):
    """As a lost machine would."""


def test_an_interrupted_suite_goes_on_where_it_stopped(
    tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    attacks = [Attack("mine", "simple", Strength(strength=2)), WHITE_BOX[1]]
    expected = run(suite(attacks))
    calls.clear()

    def stop(version: str, attack: str, done: int, images: int) -> None:
        if (version, attack, done) == ("best", "mine", 50):
            raise Interrupted

    with pytest.raises(Interrupted):
        run(suite(attacks), checkpoints=Checkpoints(tmp_path), report=stop)
    assert len(calls) == 2
    found = run(suite(attacks), checkpoints=Checkpoints(tmp_path))
    assert len(calls) == 2 + 1 + 3  # what was left of "best", and all of "last"
    for name in (*PER_ATTACK, *PER_IMAGE):
        np.testing.assert_array_equal(found[name], expected[name])
    assert list(tmp_path.iterdir()) == [], "a finished suite leaves nothing behind"


def test_what_a_crash_left_empty_is_computed_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    expected = {"row": {"column": np.arange(3)}}
    checkpoints.get("part", lambda: expected)
    for content in (b"", b"PK\x03\x04", b"words"):
        (tmp_path / "part.npz").write_bytes(content)
        found = checkpoints.get("part", lambda: expected)
        np.testing.assert_array_equal(found["row"]["column"], np.arange(3))


def test_another_model_or_budget_does_not_take_up_what_was_left(
    tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    attacks = [Attack("mine", "simple", Strength(strength=2))]

    def stop(*told: Any) -> None:
        raise Interrupted

    def interrupted(models: dict[str, nn.Module], about: dict[str, Any]) -> None:
        subject = trained().first(IMAGES)
        with pytest.raises(Interrupted):
            run_suite(
                models,
                subject.images,
                subject.labels,
                LINF,
                suite(attacks),
                about=about,
                checkpoints=Checkpoints(tmp_path),
                report=stop,
            )

    interrupted({"best": trained().model}, {"strength": 2})
    interrupted({"best": weaker()}, {"strength": 2})
    interrupted({"best": trained().model}, {"strength": 3})
    assert len(calls) == 3
    interrupted({"best": trained().model}, {"strength": 2})
    assert len(calls) == 3


class Quantised(nn.Module):
    """A model behind an input filter: the same weights by the same names, other logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        self._register_state_dict_hook(self._as_the_network)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 4).round() / 4)

    @staticmethod
    def _as_the_network(module: nn.Module, state: dict[str, Any], *_: Any) -> dict[str, Any]:
        return {name.removeprefix("network."): tensor for name, tensor in state.items()}


def stop_after_two(version: str, attack: str, done: int, images: int) -> None:
    if done == 50:
        raise Interrupted


def test_the_same_weights_in_another_function_are_another_model(tmp_path: Path) -> None:
    model, other = trained().model, Quantised(trained().model)
    assert model.state_dict().keys() == other.state_dict().keys()
    attacks, kept = suite(WHITE_BOX), Checkpoints(tmp_path)
    expected = run(attacks, {"best": other})
    with pytest.raises(Interrupted):
        run(attacks, {"best": model}, checkpoints=kept, report=stop_after_two)
    found = run(attacks, {"best": other}, checkpoints=kept)
    both = run(attacks, {"best": model, "last": other})
    for name in (*PER_ATTACK, *PER_IMAGE):
        np.testing.assert_array_equal(found[name], expected[name])
        np.testing.assert_array_equal(both[name][1], expected[name][0])


def test_after_an_interruption_the_batch_size_may_be_another(tmp_path: Path) -> None:
    models, kept = {"best": trained().model}, Checkpoints(tmp_path)
    with pytest.raises(Interrupted):
        run(suite(WHITE_BOX, 25), models, checkpoints=kept, report=stop_after_two)
    expected = run(suite(WHITE_BOX, 10), models)
    found = run(suite(WHITE_BOX, 10), models, checkpoints=kept)
    for name in (*PER_ATTACK, *PER_IMAGE):
        np.testing.assert_array_equal(found[name], expected[name])


class Filtered(nn.Module):
    """A model behind a filter that lets no gradient through and changes no clean digit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        self.eval()

    def filter(self, images: Tensor) -> Tensor:
        return (images * 64).round() / 64

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.filter(images))


class Detector(Filtered):
    """The same, attacked through its network; it suspects what the filter changes."""

    def surrogate(self) -> nn.Module:
        return self.network

    def rejection_score(self, images: Tensor) -> Tensor:
        return (images - self.filter(images)).abs().flatten(1).mean(1)


def test_a_surrogate_is_attacked_and_the_model_judges() -> None:
    subject, model = trained().first(IMAGES), Detector(trained().model)
    ledger = run(suite([WHITE_BOX[1]]), {"best": model})
    keys = sample_keys(torch.arange(IMAGES), "cw")
    adversarial = pgd.pgd(subject.model, subject.images, subject.labels, PGD, LINF, keys)
    fooled = model(adversarial.images).argmax(1) != subject.labels
    np.testing.assert_array_equal(ledger["fooled"][0, 0], fooled)
    unaided = run(suite([WHITE_BOX[1]]), {"best": Filtered(trained().model)})
    assert unaided["fooled"].mean() < 0.8 * ledger["fooled"].mean() < 0.8


def test_the_ledger_of_a_classifier_that_rejects_has_its_scores() -> None:
    subject, model = trained().first(IMAGES), Detector(trained().model)
    chosen = suite([WHITE_BOX[0], Attack("autoattack", "autoattack", ENSEMBLE)])
    ledger = run(chosen, {"best": model, "last": trained().model})
    clean, attacked = ledger["clean_rejection"], ledger["rejection"]
    np.testing.assert_allclose(clean[0], model.rejection_score(subject.images), atol=1e-7)
    assert (attacked[0, 0] > clean[0]).mean() > 0.9, "the filter changes no clean digit"
    np.testing.assert_array_equal(np.isnan(attacked[0]), ~ledger["attempted"][0])
    assert np.isnan(clean[1]).all() and np.isnan(attacked[1]).all(), "the other cannot reject"
    assert not {"clean_rejection", "rejection"} & set(run(chosen, versions()).columns)


def test_inputs_are_checked_once_a_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check is a forward pass of one image; attacks of a suite and its parts do without."""
    sizes: list[int] = []
    model = copy.deepcopy(trained().model)
    model.register_forward_hook(lambda _model, inputs, _logits: sizes.append(len(inputs[0])))
    everything = [*WHITE_BOX, Attack("autoattack", "autoattack", ENSEMBLE)]
    run(suite(everything, 30, AscentSettings(steps=2, relative_step_size=0.3)), {"best": model})
    assert sizes[0] == 1 and len(sizes) > 100
    assert sizes[1:5] == [30, 30, 30, 30]


@pytest.mark.parametrize("name", module_names("attacks", "Knobs"))
def test_every_attack_of_params_is_called_alike(name: str) -> None:
    """The convention of `outcome`: each may be an entry of a suite."""
    knobs = KNOBS[name] | ({"norm": "l2"} if name in ("fmn", "deepfool", "fab") else {})
    knobs |= {"start_radius": 1.0} if name == "fab" else {}
    few = {"steps": 3, "queries": 5, "binary_search_steps": 2, "restarts": 1}
    knobs |= {key: few[key] for key in few if key in knobs}
    chosen = ENSEMBLE if name == "autoattack" else knobs_class("attacks", name)(**knobs)
    ledger = run(suite([Attack("entry", name, chosen)], 60), {"best": trained().model})
    assert ledger["fooled"][0].any()


class SuspiciousDetector(Detector):
    """One whose own gradient is of use, and that an attack must know to evade."""

    def surrogate(self) -> nn.Module:
        return self

    def filter(self, images: Tensor) -> Tensor:
        return images

    def undefended(self) -> nn.Module:
        return self.network

    def rejection_score(self, images: Tensor) -> Tensor:
        """Large where the image has grown brighter between its strokes."""
        return images.flatten(1).mean(1)


def test_a_suite_attacks_a_detector_once_more_and_evades_it() -> None:
    """Beside PGD: PGD by who does not know it, and PGD that the detector accepts."""
    subject, model = trained().first(IMAGES), SuspiciousDetector(trained().model)
    scores = model.rejection_score(subject.images)
    limit = float(scores.quantile(0.5))
    chosen = suite([Attack("pgd", "pgd", WHITE_BOX[1].knobs)])
    ledger = run(chosen, {"best": model}, thresholds={"best": limit})
    assert ledger.attacks == ("pgd", "pgd_unaware", "pgd_evading")
    accepted = ledger["rejection"][0] <= limit
    evaded = (ledger["fooled"][0] & accepted).mean(1)
    assert evaded[2] > 1.5 * evaded[0] > 0, "who knows the detector evades it more often"
    assert (ledger["linf"][0] <= LINF.epsilon + 1e-6).all()
    assert run(chosen, versions()).attacks == ("pgd",), "a plain network is attacked as ever"
