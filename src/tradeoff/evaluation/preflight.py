"""What is looked at before any attack, on a handful of images: what would make numbers wrong.

Each finding is an error with a remedy (`Unusable`), or a remark that is part of the result. The
user's model and images are left as they were.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from tradeoff.attacks.apgd import LOSSES
from tradeoff.attacks.suites.gradients import zero_gradients
from tradeoff.core.plugins import constant
from tradeoff.core.study import Suite
from tradeoff.evaluation.averaged import Averaged
from tradeoff.networks.device import DEVICE_FAULTS
from tradeoff.networks.losses import competing_range, margin
from tradeoff.networks.passes import in_training

HANDFUL = 8  # images that are looked at
ALONE = 3  # of these, how many go through the model by themselves
SAME = 1e-3  # of the range of logits that compete: two calls that differ by more are two functions
LARGE = 1e4  # times this range: logits whose constant takes the digits of their differences
USUAL = (1e-3, 1e6)  # between these the range of logits that compete changes no norm
CHANCE = 20  # images from which on natural accuracy can be told from chance


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
    _check_storage(images, "images")
    given = f"images are {_name(images)} of shape {tuple(images.shape)}"
    if images.dtype != torch.float32:
        real = images.is_floating_point() or images.is_complex()
        way = "images.float()" if real else "images.float() / 255, if they are 0..255"
        raise Unusable(f"{given}; {needed}: {'no complex ones' if images.is_complex() else way}")
    if images.dim() != 4 or images.numel() == 0:
        raise Unusable(f"{given}; {needed}")
    if images.shape[3] in (1, 3) and images.shape[1] == images.shape[2] > 3:
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


def _check_storage(tensor: Tensor, what: str) -> None:
    """Refuse tensors of which nothing can be asked, or that autograd does not take."""
    if tensor.is_nested:
        raise Unusable(f"{what} are a nested tensor; one of one shape is needed")
    if tensor.layout != torch.strided:
        raise Unusable(f"{what} are {tensor.layout}; {what}.to_dense() is needed")
    if tensor.is_meta:
        raise Unusable(f"{what} are on the device 'meta' and have no values")
    if tensor.is_quantized:
        raise Unusable(f"{what} are {_name(tensor)}; {what}.dequantize() is needed")
    if tensor.is_inference():
        raise Unusable(f"{what} were made in torch.inference_mode; {what}.clone() is needed")


def _check_labels(labels: object, images: Tensor) -> None:
    needed = f"an int64 tensor of shape ({len(images)},) is needed, one class for each image"
    if not isinstance(labels, Tensor):
        raise Unusable(f"labels are {type(labels).__name__}; {needed}: see torch.from_numpy")
    _check_storage(labels, "labels")
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


def check_model(model: object, images: Tensor) -> None:
    """Refuse what is no module in float32 on the images' device.

    Raises:
        Unusable: says what it is, and the way out.
    """
    if not isinstance(model, nn.Module):
        raise Unusable(f"the model is {type(model).__name__}; a torch.nn.Module is needed")
    for tensor in (*model.parameters(), *model.buffers()):
        if is_lazy(tensor):
            raise Unusable("layers of the model have no weights yet: call it on an image first")
        if tensor.is_inference():
            raise Unusable("the model was made in torch.inference_mode: make it outside")
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


@contextmanager
def usual_modes(device: torch.device) -> Iterator[None]:
    """Gradients on, autocast and inference mode off, whatever the caller has switched."""
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield


@contextmanager
def as_it_was(model: nn.Module) -> Iterator[list[str]]:
    """The model in eval mode, all of its layers; afterwards in its own modes and state again.

    Yields:
        A remark on layers in train mode below a model in eval mode, if there are any.

    Raises:
        Unusable: it cannot be put into eval mode.
    """
    remarks = _odd_modes(model)
    modes = [(module, in_training(module)) for module in model.modules()]
    # Buffers by their place, as a model may put another tensor there.
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    weights = [(weight, weight.detach().clone()) for weight in model.parameters()]
    try:
        if any(mode for _, mode in modes) and not _is_graph(model):
            _to_eval(model)
        yield remarks
    finally:
        for module, mode in modes:
            if in_training(module) != mode:
                module.training = mode
        with torch.no_grad():
            for module, name, buffer, kept in buffers:
                if not isinstance(module, torch.jit.ScriptModule):
                    module._buffers[name] = buffer
                _restore(buffer, kept)
            for weight, kept in weights:
                _restore(weight, kept)


def _to_eval(model: nn.Module) -> None:
    try:
        model.eval()
    except Exception as error:
        raise Unusable(
            f"the model cannot be put into eval mode: {reason_of(error)}. Do that before"
        ) from error


def _restore(tensor: Tensor, kept: Tensor) -> None:
    if not torch.equal(tensor, kept):
        tensor.copy_(kept)


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
    model: nn.Module, images: Tensor, labels: Tensor, suite: Suite, copies: int | None = None
) -> tuple[nn.Module, list[str]]:
    """Look at a checked model in eval mode, with checked images and labels.

    Args:
        copies: of a random model, so many calls vote; None: it should not be random.

    Returns:
        What is attacked in its place, `Adapted` or `Averaged` where needed; and remarks.

    Raises:
        Unusable: it cannot be evaluated, or its numbers would mean nothing.
    """
    rows = torch.arange(0, len(images), max(len(images) // HANDFUL, 1))[:HANDFUL].to(images.device)
    few, few_labels = images[rows], labels[rows]
    remarks: list[str] = []
    given = few.clone()
    answer = _call(model, given)
    logits = _logits(answer)
    if logits is None:
        raise Unusable(f"the model returns {type(answer).__name__}; logits (N, classes) are needed")
    if not torch.equal(given, few):
        remarks.append("the model changes its input in place; it was given copies")
    if not isinstance(answer, Tensor):
        remarks.append(_choice(answer, logits))
    if logits.dtype != torch.float32:
        exact = logits.dtype == torch.float64
        what = "rounded to float32" if exact else "verdicts are only as fine as that"
        remarks.append(f"the model answers in {_name(logits)}; {what}")
    precision = torch.finfo(logits.dtype).eps if logits.is_floating_point() else 0.0
    if remarks:
        model = Adapted(model)
    _check_logits(logits, len(few))
    _check_classes(logits, labels)
    logits = logits.float()
    remarks += _remarks_on(logits)
    if copies is None:
        _check_function(model, few, logits, precision)
    else:
        model = Averaged(model, copies)
        remarks.insert(
            0, f"a random model: {copies} calls vote, and attacks follow the average of {copies} "
            "others; other random numbers, and another batch size, give other verdicts on some "
            "images",
        )  # fmt: skip
    remarks += _gradients(model, few, few_labels, suite)
    return model, remarks + _classes(suite, logits.shape[1])


def share_of_zero_gradients(
    model: nn.Module, images: Tensor, labels: Tensor, batch_size: int
) -> float:
    """The share of images at which the loss has a zero gradient.

    No call before it is on all images, so a model that fails on some is refused here, before any
    attack.

    Raises:
        Unusable: the model fails on a batch of that size, or gives an image NaN.
    """
    try:
        return zero_gradients(model, images, labels, batch_size)
    except DEVICE_FAULTS:
        raise
    except Exception as error:
        size = min(batch_size, len(images))
        raise Unusable(f"of {len(images)} images, {size} at a time: {reason_of(error)}") from error


def chance(accuracy: float, images: int, classes: int) -> list[str]:
    """A remark where natural accuracy is no more than chance would give."""
    share = 1 / classes
    if images < CHANCE or accuracy > share + 2 * math.sqrt(share * (1 - share) / images):
        return []
    return [
        f"natural accuracy is {accuracy:.2f}, as of chance among {classes} classes: see whether "
        "the model was trained with another range of images or another order of classes"
    ]


def _check_function(model: nn.Module, few: Tensor, logits: Tensor, precision: float) -> None:
    """Refuse a model that gives an image other logits in another call or in another batch."""
    again = _logits_of(model, few)
    if _apart(logits, again, precision):
        raise Unusable(
            "the model is random: on the same images its logits differ by up to "
            f"{_difference(logits, again):.2g}. Switch off what draws random numbers (noise, "
            "dropout), or evaluate its average: evaluate(..., copies=32), --copies 32"
        )
    for row in range(min(ALONE, len(few))):
        one = slice(row, row + 1)
        alone = _logits_of(model, few[one])
        if _apart(logits[one], alone, precision):
            raise Unusable(
                "the model's logits of an image depend on the other images of its batch: alone "
                f"they differ by up to {_difference(logits[one], alone):.2g}. Something in it "
                "takes statistics of the batch, which it should not in eval mode"
            )


def _call(model: nn.Module, images: Tensor) -> object:
    try:
        with torch.no_grad():
            return model(images)
    except DEVICE_FAULTS:
        raise
    except Exception as error:
        way = ". Export it with a free batch size" if _is_graph(model) else ""
        if images.shape[3] in (1, 3) and images.shape[1] > 3:
            way = ". If channels are last: images.permute(0, 3, 1, 2)"
        raise Unusable(
            f"the model does not take {len(images)} float32 images of shape "
            f"{tuple(images.shape[1:])}: {reason_of(error)}{way}"
        ) from error


def _logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits in float32 of another call.

    Raises:
        Unusable: the answer has another form than that to the handful.
    """
    logits = _logits(_call(model, images))
    if logits is None:
        raise Unusable(f"the model returns no tensor for {len(images)} images")
    _check_logits(logits, len(images))
    return logits.float()


def _logits(answer: object) -> Tensor | None:
    """A tensor, the `logits` of an answer, or its first tensor (N, classes); None if there is
    none."""
    if isinstance(answer, Tensor):
        return answer
    if isinstance(getattr(answer, "logits", None), Tensor):
        return answer.logits  # type: ignore[attr-defined]
    if isinstance(answer, Mapping) and isinstance(answer.get("logits"), Tensor):
        return answer["logits"]
    tensors = _tensors(answer)
    return next((part for part in tensors if _is_table(part)), tensors[0] if tensors else None)


def _tensors(answer: object) -> list[Tensor]:
    parts = answer.values() if isinstance(answer, Mapping) else answer
    if not isinstance(answer, list | tuple | Mapping):
        return []
    return [part for part in parts if isinstance(part, Tensor)]  # type: ignore[attr-defined]


def _is_table(part: Tensor) -> bool:
    return part.dim() == 2 and part.shape[1] > 1 and part.is_floating_point()


def _choice(answer: object, logits: Tensor) -> str:
    """A remark on which part of an answer is taken for logits, and which ones might be too."""
    others = [part for part in _tensors(answer) if _is_table(part) and part is not logits]
    shapes = ", ".join(f"(N, {part.shape[1]})" for part in others)
    more = f", not what else has the form of logits: {shapes}" if others else ""
    remark = f"the model returns {type(answer).__name__}; its logits are its "
    named = hasattr(answer, "logits") or (isinstance(answer, Mapping) and "logits" in answer)
    return remark + ("'logits'" if named else f"first tensor (N, {logits.shape[-1]})") + more


def _check_logits(logits: Tensor, count: int) -> None:
    if logits.dim() != 2 or len(logits) != count or logits.shape[1] < 2:
        raise Unusable(
            f"the model returns {tuple(logits.shape)} for {count} images; "
            "logits (N, classes) with two classes or more are needed"
        )
    if not logits.is_floating_point():
        raise Unusable(f"the model returns {_name(logits)}; logits are floating-point numbers")
    if not bool((logits < torch.inf).all()) or bool((logits == -torch.inf).all(1).any()):
        raise Unusable("the model returns NaN or infinite logits: it cannot be evaluated")


def _check_classes(logits: Tensor, labels: Tensor) -> None:
    if int(labels.max()) >= logits.shape[1]:
        raise Unusable(
            f"labels span {int(labels.min())}..{int(labels.max())}; "
            f"the model has classes 0..{logits.shape[1] - 1}"
        )


def _remarks_on(logits: Tensor) -> list[str]:
    sums, low, high = logits.sum(1), float(logits.min()), float(logits.max())
    whole = any(bool(((sums / total - 1).abs() < 1e-3).all()) for total in (1, 100))
    if low >= 0 and (whole or 0 < high <= 1):
        what = "probabilities" if whole else "numbers in [0, 1], as of a sigmoid"
        return [
            f"the model returns {what}: where they are rounded to their bounds gradients vanish, "
            "and robust accuracy comes out too large. Leave its last function out"
        ]
    size, scale = float(logits.amax(1).abs().max()), float(competing_range(logits).median())
    if logits.shape[1] > 2 and 0 < LARGE * scale < size:
        least = size * torch.finfo(torch.float32).eps
        return [f"the logits are about {size:.3g}, of which float32 holds differences down to "
                f"{least:.1g}: leave out what is added to all of them"]  # fmt: skip
    if scale > 0 and not USUAL[0] < scale < USUAL[1]:
        return [
            f"the logits that compete span about {scale:.1g}: attacks have constants made for "
            "logits of about 1, and norms may come out too large. Multiply the logits by a number"
        ]
    return []


def _apart(logits: Tensor, others: Tensor, precision: float) -> bool:
    if logits.shape != others.shape:
        return True
    scale = competing_range(logits)[:, None] if logits.shape[1] > 2 else logits.abs()
    size = logits.abs().maximum(logits.amax(1, keepdim=True).abs())
    allowed = SAME * scale + 4 * precision * size
    return not bool(((logits == others) | ((logits - others).abs() <= allowed)).all())


def _difference(logits: Tensor, others: Tensor) -> float:
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
