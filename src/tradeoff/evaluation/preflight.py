"""What is looked at before any attack, on a handful of images: what would make numbers wrong.

Each finding is an error with a remedy (`Unusable`), or a remark that is part of the result. The
user's model and images are left as they were.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from tradeoff.attacks.apgd import LOSSES
from tradeoff.core.plugins import constant
from tradeoff.core.study import Suite
from tradeoff.networks.device import DEVICE_FAULTS
from tradeoff.networks.losses import competing_range, margin
from tradeoff.networks.passes import in_training

HANDFUL = 8  # images that are looked at
ALONE = 3  # of these, how many go through the model by themselves
SAME = 1e-3  # of the range of logits that compete: two calls that differ by more are two functions
LARGE = 1e4  # times this range: logits whose constant takes the digits of their differences


class Unusable(ValueError):
    """A model, images, labels or a file cannot be evaluated; the message says what is needed."""


def check_data(images: object, labels: object) -> None:
    """Refuse images that are no float32 tensor (N, C, H, W) in [0, 1], and labels that are no int64
    tensor (N,): nothing is converted.

    Raises:
        Unusable: the message names what was given, what is needed, and the way there.
    """
    needed = "a float32 tensor (N, C, H, W) in [0, 1] is needed"
    if not isinstance(images, Tensor):
        raise Unusable(f"images are {type(images).__name__}; {needed}: see torch.from_numpy")
    given = f"images are {_name(images)} of shape {tuple(images.shape)}"
    if images.dtype != torch.float32:
        real = images.is_floating_point() or images.is_complex()
        way = "images.float()" if real else "images.float() / 255, if they are 0..255"
        raise Unusable(f"{given}; {needed}: {'no complex ones' if images.is_complex() else way}")
    if images.dim() != 4 or images.numel() == 0:
        raise Unusable(f"{given}; {needed}")
    if images.shape[3] in (1, 3) and images.shape[1] not in (1, 3):
        raise Unusable(f"{given}, channels last; {needed}: images.permute(0, 3, 1, 2)")
    if images.requires_grad:
        raise Unusable(f"{given} and require gradients; {needed}: images.detach()")
    low, high = (float(value) for value in images.aminmax())
    if not (low >= 0 and high <= 1):  # true for NaN as well
        ways = "divide them by 255" if low >= 0 and high <= 255 else (
            "undo their normalisation, and let the model's first layer normalise"
        )  # fmt: skip
        if low != low or high != high:
            raise Unusable(f"{given} and hold NaN; {needed}")
        raise Unusable(f"{given} in [{low:.4g}, {high:.4g}], outside [0, 1]; {needed}: {ways}")
    _check_labels(labels, images)


def _check_labels(labels: object, images: Tensor) -> None:
    needed = f"an int64 tensor of shape ({len(images)},) is needed, one class for each image"
    if not isinstance(labels, Tensor):
        raise Unusable(f"labels are {type(labels).__name__}; {needed}: see torch.from_numpy")
    given = f"labels are {_name(labels)} of shape {tuple(labels.shape)}"
    if labels.dim() == 2 and len(labels) == len(images):
        way = "labels.squeeze(1)" if labels.shape[1] == 1 else "of one-hot rows labels.argmax(1)"
        raise Unusable(f"{given}; {needed}: {way}")
    if labels.shape != (len(images),):
        raise Unusable(f"{given}; {needed}")
    if labels.dtype != torch.long:
        whole = not labels.dtype.is_floating_point and labels.dtype != torch.bool
        way = ": labels.long()" if whole and not labels.is_complex() else ""
        raise Unusable(f"{given}; {needed}{way}")
    if labels.device != images.device:
        raise Unusable(f"labels are on {labels.device} and images on {images.device}")
    if int(labels.min()) < 0:
        raise Unusable(f"labels span {int(labels.min())}..{int(labels.max())}; classes begin at 0")


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[list[str]]:
    """The model in eval mode, all of its layers; afterwards in its own modes and state again.

    Yields:
        A remark on layers in train mode below a model in eval mode, if there are any.

    Raises:
        Unusable: it is no module.
    """
    if not isinstance(model, nn.Module):
        raise Unusable(f"the model is {type(model).__name__}; a torch.nn.Module is needed")
    remarks = _odd_modes(model)
    modes = [(module, in_training(module)) for module in model.modules()]
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()
             if isinstance(tensor, Tensor)}  # fmt: skip
    try:
        if any(mode for _, mode in modes) and not _is_graph(model):
            model.eval()
        yield remarks
    finally:
        for module, mode in modes:
            if in_training(module) != mode:
                module.training = mode
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if name in state and not torch.equal(tensor, state[name]):
                    tensor.copy_(state[name])


def _is_graph(model: nn.Module) -> bool:
    """Whether its mode is frozen, as that of an exported program is: it refuses eval()."""
    return isinstance(model, torch.fx.GraphModule) and not in_training(model)


def _odd_modes(model: nn.Module) -> list[str]:
    layers = [name for name, layer in model.named_modules() if name and in_training(layer)]
    if in_training(model) or not layers or _is_graph(model):
        return []
    few = ", ".join(layers[:3]) + (", ..." if len(layers) > 3 else "")
    return [f"{len(layers)} layers below a model in eval mode are in train mode ({few}); "
            "they were evaluated in eval mode"]  # fmt: skip


class Adapted(nn.Module):
    """A model that is given a copy of the images, and of whose answer the logits are taken."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        logits = _logits(self.model(images.clone()))
        assert logits is not None
        return logits.float()


def examine(
    model: nn.Module, images: Tensor, labels: Tensor, suite: Suite, *, random: bool = False
) -> tuple[nn.Module, list[str]]:
    """Look at a model in eval mode, with checked images and labels.

    Args:
        random: whether it is a random model made a function, which depends on the batch.

    Returns:
        The model, `Adapted` where attacks could not use it as it is; and remarks.

    Raises:
        Unusable: it cannot be evaluated, or its numbers would mean nothing.
    """
    _check_weights(model, images)
    rows = torch.arange(0, len(images), max(len(images) // HANDFUL, 1))[:HANDFUL].to(images.device)
    few, few_labels = images[rows], labels[rows]
    remarks: list[str] = []
    shown = few.clone()
    answer = _call(model, shown)
    logits = _logits(answer)
    if logits is None:
        raise Unusable(f"the model returns {type(answer).__name__}; logits (N, classes) are needed")
    if not torch.equal(shown, few):
        remarks.append("the model changes its input in place; it was given copies")
    if not isinstance(answer, Tensor):
        remarks.append(
            f"the model returns {type(answer).__name__}; its logits are its first tensor"
        )
    if logits.dtype != torch.float32:
        remarks.append(f"the model answers in {_name(logits)}; verdicts are only as fine as that")
    precision = torch.finfo(logits.dtype).eps if logits.is_floating_point() else 0.0
    if remarks:
        model = Adapted(model)
    _check_logits(logits, few, few_labels, labels)
    logits = logits.float()
    remarks += _remarks_on(logits)
    if not random:
        _check_function(model, few, logits, precision)
    remarks += _gradients(model, few, few_labels, suite)
    return model, remarks + _classes(suite, logits.shape[1])


def _check_function(model: nn.Module, few: Tensor, logits: Tensor, precision: float) -> None:
    """Refuse a model that gives an image other logits in another call or in another batch."""
    again = _call(model, few)
    if _apart(logits, again, precision):
        raise Unusable(
            "the model is random: on the same images its logits differ by up to "
            f"{_difference(logits, again):.2g}. Switch off what draws random numbers (noise, "
            "dropout), or evaluate its average: evaluate(..., copies=32), --copies 32"
        )
    for row in range(min(ALONE, len(few))):
        one = slice(row, row + 1)
        alone = _call(model, few[one])
        if _apart(logits[one], alone, precision):
            raise Unusable(
                "the model's logits of an image depend on the other images of its batch: alone "
                f"they differ by up to {_difference(logits[one], alone):.2g}. Something in it "
                "takes statistics of the batch, which it should not in eval mode"
            )


def _check_weights(model: nn.Module, images: Tensor) -> None:
    for tensor in model.parameters():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise Unusable(
                f"the model's weights are {_name(tensor)}; evaluation is in float32: model.float()"
            )
        if tensor.device != images.device:
            raise Unusable(
                f"the model is on {tensor.device} and images on {images.device}: "
                f"model.to({str(images.device)!r})"
            )


def _call(model: nn.Module, images: Tensor) -> object:
    try:
        with torch.no_grad():
            return model(images)
    except DEVICE_FAULTS:
        raise
    except Exception as error:
        way = ". Export it with a free batch size" if _is_graph(model) else ""
        raise Unusable(
            f"the model does not take {len(images)} float32 images of shape "
            f"{tuple(images.shape[1:])}: {reason_of(error)}{way}"
        ) from error


def _logits(answer: object) -> Tensor | None:
    """A tensor, the `logits` of an answer, or its first tensor; None if there is none."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(getattr(answer, "logits", None), Tensor):
        return answer.logits  # type: ignore[attr-defined]
    if isinstance(answer, Mapping):
        answer = [answer["logits"]] if "logits" in answer else list(answer.values())
    if isinstance(answer, list | tuple):
        return next((part for part in answer if isinstance(part, Tensor)), None)
    return None


def _check_logits(logits: Tensor, few: Tensor, few_labels: Tensor, labels: Tensor) -> None:
    if logits.dim() != 2 or len(logits) != len(few) or logits.shape[1] < 2:
        raise Unusable(
            f"the model returns {tuple(logits.shape)} for {len(few)} images; "
            "logits (N, classes) with two classes or more are needed"
        )
    if not logits.is_floating_point():
        raise Unusable(f"the model returns {_name(logits)}; logits are floating-point numbers")
    if not bool((logits < torch.inf).all()) or bool((logits == -torch.inf).all(1).any()):
        raise Unusable("the model returns NaN or infinite logits: it cannot be evaluated")
    if int(labels.max()) >= logits.shape[1]:
        raise Unusable(
            f"labels span {int(labels.min())}..{int(labels.max())}; "
            f"the model has classes 0..{logits.shape[1] - 1}"
        )


def _remarks_on(logits: Tensor) -> list[str]:
    sums = logits.sum(1)
    if bool((logits >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        return [
            "the model returns probabilities: where they are rounded to 0 and 1 gradients vanish, "
            "and robust accuracy comes out too large. Leave its softmax out"
        ]
    size, scale = float(logits.amax(1).abs().max()), float(competing_range(logits).median())
    if logits.shape[1] > 2 and size > LARGE * scale:
        least = size * torch.finfo(torch.float32).eps
        return [f"the logits are about {size:.3g}, of which float32 holds differences down to "
                f"{least:.1g}: leave out what is added to all of them"]  # fmt: skip
    return []


def _apart(logits: Tensor, others: object, precision: float) -> bool:
    assert isinstance(others, Tensor)
    scale = competing_range(logits)[:, None] if logits.shape[1] > 2 else logits.abs()
    allowed = SAME * scale + 4 * precision * logits.abs()
    return not bool(((logits == others) | ((logits - others).abs() <= allowed)).all())


def _difference(logits: Tensor, others: object) -> float:
    assert isinstance(others, Tensor)
    return float((logits - others).abs().nan_to_num().max())


def _gradients(model: nn.Module, few: Tensor, labels: Tensor, suite: Suite) -> list[str]:
    """A remark where the margin's gradient is zero at every image.

    Raises:
        Unusable: no gradient reaches the images, and the suite's attacks need one.
    """
    if not any(constant("attacks", a.module, "USES_GRADIENTS", True) for a in suite.attacks):
        return []
    point = few.clone().requires_grad_()
    try:
        with torch.enable_grad():
            total = margin(model(point), labels).sum()
            gradient = torch.autograd.grad(total, point)[0]
    except DEVICE_FAULTS:
        raise
    except Exception as error:
        raise Unusable(
            "no gradient of the logits reaches the images (no_grad, detach, NumPy or integers in "
            f"the model): {reason_of(error)}. The suite 'square' attacks without gradients"
        ) from None
    if bool((gradient == 0).all()):
        return [f"the gradient is zero at each of {len(few)} images: attacks that follow it find "
                "nothing. Look at what Square, which needs none, fools"]  # fmt: skip
    return []


def _classes(suite: Suite, classes: int) -> list[str]:
    """A remark where there are too few classes for all of AutoAttack.

    Raises:
        Unusable: an attack's loss needs more classes.
    """
    remarks = []
    for attack in suite.attacks:
        if attack.module == "autoattack" and classes < LOSSES["targeted_dlr"].classes:
            remarks.append(
                f"AutoAttack without the parts whose loss is not defined for {classes} classes"
            )
        loss = getattr(attack.knobs, "loss", None)
        if attack.module == "apgd" and loss in LOSSES and classes < LOSSES[loss].classes:
            raise Unusable(
                f"{attack.name}: its {LOSSES[loss].name} needs {LOSSES[loss].classes} classes or "
                f"more; the model has {classes}"
            )
    return remarks


def reason_of(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
