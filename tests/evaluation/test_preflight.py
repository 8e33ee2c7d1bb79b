"""Anybody's model: right, or refused in one sentence; and as it was afterwards."""

import copy
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.attacks.trained import trained
from tradeoff.core.plugins import knobs_class
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Attack, Suite
from tradeoff.evaluation import evaluate
from tradeoff.evaluation.anymodel import suite_named
from tradeoff.evaluation.preflight import Unusable
from tradeoff.networks.threat import Threat

THREAT = Threat("linf", 0.1)


def suite(**entries: dict[str, Any]) -> Suite:
    entries = entries or {"fgsm": {}, "square": {"queries": 20, "restarts": 1,
                                                 "rescale_schedule": True}}  # fmt: skip
    attacks = tuple(
        Attack(
            name,
            values.get("attack", name),
            knobs_class("attacks", values.pop("attack", name))(**values),
        )
        for name, values in ((name, dict(values)) for name, values in entries.items())
    )
    return Suite("mine", None, 16, ["best"], None, attacks)


def data(count: int = 24) -> tuple[Tensor, Tensor]:
    _, images, labels, _ = trained().first(count)
    return images.clone(), labels.clone()


def network() -> nn.Module:
    return copy.deepcopy(trained().model)


class Around(nn.Module):
    """The trained network with something done to its images and logits."""

    def __init__(self, before: Callable[[Tensor], Tensor] = lambda images: images,
                 after: Callable[[Tensor], Any] = lambda logits: logits) -> None:  # fmt: skip
        super().__init__()
        self.network, self.before, self.after = network(), before, after

    def forward(self, images: Tensor) -> Any:
        return self.after(self.network(self.before(images)))


def noise(images: Tensor) -> Tensor:
    return images + 0.2 * torch.randn_like(images)


@torch.inference_mode()
def made_in_inference(tensor: Tensor) -> Tensor:
    return tensor.clone()


@torch.inference_mode()
def model_made_in_inference() -> nn.Module:
    return copy.deepcopy(trained().model)


def at_most_eight(images: Tensor) -> Tensor:
    assert len(images) <= 8, "eight at most"
    return images


REFUSED_DATA: list[tuple[str, Callable[[Tensor, Tensor], tuple[Any, Any]], str]] = [
    ("numpy", lambda x, y: (x.numpy(), y), r"images are ndarray; .*from_numpy"),
    ("float64", lambda x, y: (x.double(), y), r"float64 of shape .*images\.float\(\)"),
    ("half", lambda x, y: (x.half(), y), r"float16 .*images\.float\(\)"),
    ("bytes", lambda x, y: ((255 * x).byte(), y), r"uint8 .*/ 255"),
    ("complex", lambda x, y: (x.to(torch.complex64), y), "complex64"),
    ("channels last", lambda x, y: (x.permute(0, 2, 3, 1), y), r"permute\(0, 3, 1, 2\)"),
    ("to 255", lambda x, y: (255 * x, y), r"in \[0, 255\].* outside \[0, 1\].*divide them by 255"),
    ("normalised", lambda x, y: (4 * x - 2, y), r"in \[-2, 2\].*normalis"),
    ("NaN", lambda x, y: (x * torch.nan, y), "hold NaN"),
    ("gradients", lambda x, y: (x.requires_grad_(), y), r"images\.detach\(\)"),
    ("flat", lambda x, y: (x.flatten(1), y), r"\(N, C, H, W\)"),
    ("none", lambda x, y: (x[:0], y[:0]), r"\(N, C, H, W\)"),
    ("sparse", lambda x, y: (x.to_sparse(), y), r"images\.to_dense\(\)"),
    ("meta", lambda x, y: (x.to("meta"), y), "have no values"),
    ("quantized", lambda x, y: (torch.quantize_per_tensor(x, 0.1, 0, torch.quint8), y),
     r"images\.dequantize\(\)"),
    ("nested", lambda x, y: (torch.nested.as_nested_tensor([x[0], x[1]]), y), "nested"),
    ("inference", lambda x, y: (made_in_inference(x), y), r"images\.clone\(\)"),
    ("inference labels", lambda x, y: (x, made_in_inference(y)), r"labels\.clone\(\)"),
    ("one-hot", lambda x, y: (x, nn.functional.one_hot(y)), r"labels\.argmax\(1\)"),
    ("a column", lambda x, y: (x, y[:, None]), r"labels\.squeeze\(1\)"),
    ("int32", lambda x, y: (x, y.int()), r"int32 .*labels\.long\(\)"),
    ("floats", lambda x, y: (x, y + 0.7), "labels are float32"),
    ("booleans", lambda x, y: (x, y > 5), "labels are bool"),
    ("fewer", lambda x, y: (x, y[:-1]), r"of shape \(23,\); .*\(24,\)"),
    ("more", lambda x, y: (x[:-1], y), r"of shape \(24,\); .*\(23,\)"),
    ("negative", lambda x, y: (x, y - 1), r"labels span -1\.\."),
    ("too large", lambda x, y: (x, y + 10), r"classes 0\.\.9"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "message"), REFUSED_DATA, ids=[r[0] for r in REFUSED_DATA]
)
def test_images_and_labels_are_refused_by_name(name: str, change: Any, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        evaluate(network(), *change(*data()), THREAT, suite())


class TrainedBelow(nn.Module):
    """A model whose eval() does not reach its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.network = nn.BatchNorm2d(1), network()

    def forward(self, images: Tensor) -> Tensor:
        self.norm.train()
        return self.network(self.norm(images))


class OwnTrain(nn.Module):
    """A model whose train() is not torch's, so that eval() fails."""

    def train(self, loader: object, epochs: int) -> None:  # type: ignore[override]
        raise NotImplementedError


REFUSED_MODELS: list[tuple[str, Callable[[], Any], str]] = [
    ("a function", lambda: lambda images: images, r"a torch\.nn\.Module is needed"),
    ("half", lambda: network().half(), r"weights are float16; .*model\.float\(\)"),
    ("double", lambda: network().double(), r"weights are float64"),
    ("noise", lambda: Around(noise), "is random.*copies=32"),
    ("statistics of the batch", TrainedBelow, "other images of its batch"),
    ("other channels", lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "does not take"),
    ("no logits", lambda: Around(after=lambda logits: "cat"), "returns str; logits"),
    ("maps", lambda: Around(after=lambda logits: logits[:, :, None]), r"returns \(8, 10, 1\)"),
    ("one class", lambda: Around(after=lambda logits: logits[:, :1]), r"returns \(8, 1\)"),
    ("classes", lambda: Around(after=lambda logits: logits.argmax(1)), r"returns \(8,\)"),
    ("NaN", lambda: Around(after=lambda logits: logits * torch.nan), "NaN or infinite"),
    ("infinite", lambda: Around(after=lambda logits: logits + torch.inf), "NaN or infinite"),
    ("no gradient", lambda: Around(after=lambda logits: logits.detach()), "suite 'square'"),
    ("NumPy", lambda: Around(lambda x: torch.from_numpy(x.numpy())), "suite 'square'"),
    ("no weights yet", lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "call it on an"),
    ("inference", model_made_in_inference, "make it outside"),
    ("its own train()", OwnTrain, "eval mode"),
    ("squeezed", lambda: Around(after=lambda logits: logits.squeeze()), r"\(10,\) for 1 images"),
    ("eight at most", lambda: Around(at_most_eight), "24 images, 16 at a time: eight at most"),
    ("faint noise", lambda: Around(lambda x: x + 1e-3 * torch.randn_like(x)), "is random"),
    ("an error", lambda: Around(after=lambda logits: {}["x"]), "does not take"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "model", "message"), REFUSED_MODELS, ids=[r[0] for r in REFUSED_MODELS]
)
def test_models_are_refused_before_any_attack(name: str, model: Any, message: str) -> None:
    with pytest.raises(Unusable, match=message):
        evaluate(model(), *data(), THREAT, suite())


def changes_input(images: Tensor) -> Tensor:
    return images.mul_(1.0).add_(0.25).sub_(0.25).mul_(0.999)


REMARKED: list[tuple[str, Callable[[], nn.Module], str]] = [
    ("a tuple", lambda: Around(after=lambda logits: (logits, 1)), "returns tuple"),
    ("a dict", lambda: Around(after=lambda logits: {"logits": logits}), "returns dict"),
    ("an object", lambda: Around(after=lambda z: SimpleNamespace(logits=z)), "SimpleNamespace"),
    ("in place", lambda: Around(changes_input), "in place"),
    ("bfloat16", lambda: Around(after=lambda logits: logits.bfloat16()), "answers in bfloat16"),
    ("probabilities", lambda: Around(after=lambda z: (100 * z).softmax(1)), "probabilities"),
    ("percent", lambda: Around(after=lambda z: 100 * (9 * z).softmax(1)), "probabilities"),
    ("a sigmoid", lambda: Around(after=lambda z: (9 * z).sigmoid()), "as of a sigmoid"),
    ("float64", lambda: Around(after=lambda z: z.double()), "rounded to float32"),
    ("features", lambda: Around(after=lambda z: (z, z[:, :7])), r"not what else .*: \(N, 7\)"),
    ("maps first", lambda: Around(after=lambda z: (z[:, :, None], z)), r"first tensor \(N, 10\)"),
    ("another range", lambda: Around(lambda x: x / 255), "as of chance among 10 classes"),
    ("tiny", lambda: Around(after=lambda z: 1e-15 * z), "span about .*e-15"),
    ("huge", lambda: Around(after=lambda z: 1e15 * z), r"span about .*e\+15"),
    ("a constant", lambda: Around(after=lambda logits: logits + 1e6), "leave out what is added"),
    ("grey levels", lambda: Around(lambda x: (x * 15).round() / 15), "gradient is zero at each"),
    ("two classes", lambda: Around(after=lambda logits: logits[:, :2]), "2 classes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "remark"), REMARKED, ids=[r[0] for r in REMARKED])
def test_what_is_odd_is_told_in_the_result(name: str, model: Any, remark: str) -> None:
    images, labels = data()
    if name == "two classes":
        labels, entries = (
            labels % 2,
            {"autoattack": {"apgd_steps": 2, "fab_steps": 2, "square_queries": 3}},
        )
        chosen = suite(**entries)
    else:
        chosen = suite()
    before = images.clone()
    ledger, metrics = evaluate(model(), images, labels, THREAT, chosen)
    assert any(re.search(remark, told) for told in metrics["remarks"]), metrics["remarks"]
    assert ledger.about["remarks"] == metrics["remarks"]
    assert torch.equal(images, before)


def test_nothing_is_remarked_on_a_sound_model() -> None:
    _, metrics = evaluate(network(), *data(), THREAT, suite())
    assert metrics["remarks"] == []


def test_the_numbers_of_a_wrapped_model_are_those_of_the_model() -> None:
    plain, _ = evaluate(network(), *data(), THREAT, suite())
    for after in (lambda logits: (logits, 1), lambda logits: {"logits": logits}):
        wrapped, _ = evaluate(Around(after=after), *data(), THREAT, suite())
        assert np.array_equal(plain["fooled"], wrapped["fooled"])


def test_layers_left_in_train_mode_are_told_and_the_model_is_as_it_was() -> None:
    model = network()
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm2d)]
    norms[0].train()
    norms[0].register_forward_hook(lambda *_: None)
    next(model.parameters()).requires_grad_()
    state = copy.deepcopy(model.state_dict())
    modes = [layer.training for layer in model.modules()]
    gradients = [parameter.requires_grad for parameter in model.parameters()]
    expected, _ = evaluate(network(), *data(), THREAT, suite())
    ledger, metrics = evaluate(model, *data(), THREAT, suite())
    assert "1 layers below" in metrics["remarks"][0]
    assert np.array_equal(ledger["fooled"], expected["fooled"])
    assert [layer.training for layer in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == gradients
    assert len(norms[0]._forward_hooks) == 1
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


class Remembers(nn.Module):
    """Changes one buffer in each call and puts another tensor in the place of the other."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.register_buffer("last", torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.last = images.detach()
        return self.network(images)


def test_buffers_are_what_they_were() -> None:
    model = Remembers()
    calls, last = model.calls, model.last
    evaluate(model, *data(), THREAT, suite())
    assert model.calls is calls and model.last is last
    assert calls.tolist() == last.tolist() == [0.0]


@pytest.mark.parametrize(
    "mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_the_caller_has_switched_changes_nothing(mode: Any) -> None:
    expected, _ = evaluate(network(), *data(), THREAT, suite())
    images, labels = data()
    model = network()
    with mode():
        found, metrics = evaluate(model, images, labels, THREAT, suite())
    assert metrics["remarks"] == []
    for name, column in expected.columns.items():
        assert np.array_equal(column, found[name], equal_nan=True), name


@pytest.mark.parametrize(
    ("options", "message"),
    [({"suite": None}, "the suite is None"), ({"suite": ["pgd"]}, "the suite is"),
     ({"threat": 0.1}, r"the threat is 0\.1"), ({"copies": "4"}, "copies are '4'"),
     ({"threat": Threat("linf", 0.1, torch.full((24,), 0.1))}, "a radius for each image"),
     ({"copies": 2.0}, r"copies are 2\.0"), ({"copies": True}, "copies are True"),
     ({"checkpoints": 7}, "checkpoints cannot be kept"),
     ({"checkpoints": "/proc/nowhere"}, "checkpoints cannot be kept")],
)  # fmt: skip
def test_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Unusable, match=message):
        evaluate(network(), *data(), **({"threat": THREAT, "suite": suite()} | options))


def test_what_an_attack_meets_on_its_way_is_told() -> None:
    """NaN off the images that are given: no look at these finds it."""
    (images, labels), grid = data(), 16

    def broken(points: Tensor) -> Tensor:
        off = (points * grid - (points * grid).round()).abs().amax((1, 2, 3), keepdim=True)
        return torch.where(off > 1e-3, torch.nan, points)

    with pytest.raises(Unusable, match="NaN"):
        evaluate(Around(broken), images, labels, THREAT, suite())


def test_classes_that_tie_are_no_sign_of_a_batch() -> None:
    tied = Around(after=lambda logits: logits.repeat(1, 3))
    _, metrics = evaluate(tied, *data(), THREAT, suite())
    assert metrics["RA"] > 0.5


@pytest.mark.parametrize("after", [lambda z: (z, 1), lambda z: z.bfloat16()])
def test_a_random_model_may_answer_as_others_do(after: Any) -> None:
    _, metrics = evaluate(Around(noise, after), *data(), THREAT, suite(), copies=2)
    assert len(metrics["remarks"]) == 2


def test_a_random_model_can_be_evaluated_as_its_average() -> None:
    model = Around(noise)
    one = evaluate(model, *data(), THREAT, suite(), copies=8)
    torch.manual_seed(99)
    other = evaluate(model, *data(), THREAT, suite(), copies=8)
    assert "a random model: 8 calls vote" in one.metrics["remarks"][0]
    assert one.metrics["RA"] == other.metrics["RA"]
    assert np.array_equal(one.ledger["fooled"], other.ledger["fooled"])
    with pytest.raises(Unusable, match="copies are 0"):
        evaluate(model, *data(), THREAT, suite(), copies=0)


def test_hidden_gradients_raise_flags() -> None:
    grey = Around(lambda images: (images * 15).round() / 15)
    _, metrics = evaluate(grey, *data(), THREAT, suite(
        fgsm={}, square={"queries": 300, "restarts": 1, "rescale_schedule": True}))  # fmt: skip
    assert (
        metrics["flags"]["zero_gradients"]["raised"] and metrics["flags"]["square_alone"]["raised"]
    )
    _, sound = evaluate(network(), *data(), THREAT, suite())
    assert not sound["flags"]["zero_gradients"]["raised"]


def test_a_minimum_norm_suite_gives_accuracy_at_epsilon() -> None:
    fmn = {"fmn": {"norm": "linf", "steps": 40, "step_size": 1.0, "gamma": 0.3}}
    images, labels = data()
    ledger, metrics = evaluate(network(), images, labels, THREAT, suite(**fmn))
    assert ledger["fooled"].all()
    right = ledger["clean_prediction"][0] == ledger["labels"]
    assert metrics["RA"] == (right & (ledger["linf"][0, 0] > 0.1)).mean() > 0
    assert metrics["worst_class"]["RA"] == min(s for s in metrics["per_class"] if s is not None)
    assert metrics["passes"]["forward"] == ledger["queries"].sum()
    assert metrics["seconds"] > 0


def test_no_radius_judges_rotations_and_shifts() -> None:
    turned = suite(spatial={"degrees": 30.0, "shift": 0.2, "tries": 10})
    ledger, metrics = evaluate(network(), *data(), THREAT, turned)
    right = ledger["clean_prediction"][0] == ledger["labels"]
    assert metrics["RA"] == (right & ~ledger["fooled"][0, 0]).mean() < metrics["NA"]


def test_suites_come_with_the_package(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert suite_named("autoattack").attacks[0].knobs.square_queries == 5000
    assert [attack.module for attack in suite_named("square").attacks] == ["square"]
    with pytest.raises(BadParams, match="did you mean bounded"):
        suite_named("bonded")


KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64,
         torch.bool, torch.complex64]  # fmt: skip
shapes = st.lists(st.integers(0, 9), min_size=0, max_size=5).map(tuple) | st.just((6, 1, 8, 8))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=shapes,
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from([0.0, 1.0, -1.0, 255.0, 1e30, float("inf"), float("nan")]),
    label_shape=shapes | st.just((6,)),
    label_kind=st.sampled_from(KINDS),
    largest=st.integers(-1, 12),
)
def test_whatever_is_given_there_are_numbers_or_one_sentence(
    shape: Any, kind: Any, scale: float, label_shape: Any, label_kind: Any, largest: int
) -> None:
    images = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) * scale).to(kind)
    labels = torch.full(label_shape, largest).to(label_kind)
    try:
        _, metrics = evaluate(trained().model, images, labels, THREAT, suite(fgsm={}))
    except Unusable as error:
        told = str(error)
    else:
        told = ""
        assert 0 <= metrics["RA"] <= metrics["NA"] <= 1
    assert "\n" not in told and len(told) < 400
