"""An eval-mode twin of a network, with each BatchNorm folded into the convolution before it.

In eval mode BatchNorm is a fixed affine map, so conv(x) W, then scale and shift, is one
convolution. The twin has half the layers, writes ReLUs over their inputs and has no parameter
gradients: an attack on it costs about two thirds of one on the model, and computes the same up to
rounding.
"""

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import TypeGuard

import torch
from torch import Tensor, nn

from tradeoff.networks.layouts import place
from tradeoff.networks.losses import CONSTANT_ROUNDING, competing_range

SAME = 1e-3  # of the range of logits that compete: another function differs by more

# A convolution and its BatchNorm in the model, and the convolution of the twin that is both.
Pair = tuple[nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]


class EvalTwin:
    """The twin of a model that is being trained: `module` is brought up to date by `refresh`.

    Args:
        layout: of the twin on a GPU; None: the model's.
    """

    def __init__(self, model: nn.Module, layout: torch.memory_format | None = None) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        _rectify_in_place(self.module)
        self._pairs = _fold_structure(model, self.module)
        place(self.module, next(model.parameters()).device, layout)
        state = model.state_dict(keep_vars=True)
        mine = self.module.state_dict(keep_vars=True)
        folded_tensors = {id(t) for _, _, folded in self._pairs for t in folded.parameters()}
        self._copied = [(mine[k], state[k]) for k in mine if id(mine[k]) not in folded_tensors]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the model's present weights and statistics."""
        for mine, theirs in self._copied:
            mine.copy_(theirs)
        for convolution, norm, folded in self._pairs:
            assert norm.running_var is not None and norm.running_mean is not None
            assert folded.bias is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            shift = norm.bias - norm.running_mean * scale
            if convolution.bias is not None:
                shift = shift + convolution.bias * scale
            folded.weight.copy_(convolution.weight * scale.view(-1, 1, 1, 1))
            folded.bias.copy_(shift)


def fold(model: nn.Module) -> nn.Module:
    """The folded twin of a finished model of this package."""
    return EvalTwin(model).module


def attacked_twin(model: nn.Module, images: Tensor) -> nn.Module:
    """What attacks differentiate in a model's place, while the model itself judges.

    That is the classifier's own `surrogate()` where it offers one, because its gradient leads
    nowhere; else the folded twin, or the model where folding would change it.
    """
    surrogate: Callable[[], nn.Module] | None = getattr(model, "surrogate", None)
    return fold_if_same(model, images) if surrogate is None else surrogate()


@torch.no_grad()
def fold_if_same(model: nn.Module, images: Tensor) -> nn.Module:
    """The folded twin of anybody's model in eval mode; the model itself where that is another.

    Whether children are applied in their order, no one can tell from outside, nor who reads what
    a ReLU writes over. So the twin must give the same logits for `images`, up to rounding, and
    have gradients. And what a model's class does when it is copied or changed is not known either:
    whatever goes wrong, there is the model.
    """
    try:
        twin = fold(model)
        expected, found = model(images), twin(images)
        with torch.enable_grad():
            point = images[:1].clone().requires_grad_()
            torch.autograd.grad(twin(point).sum(), point)
    except Exception:
        return model
    tolerance = SAME * competing_range(expected).amax() + CONSTANT_ROUNDING * expected.abs()
    same = (found == expected) | ((found - expected).abs() <= tolerance)  # false for NaN as well
    return twin if bool(same.all()) else model


def _fold_structure(model: nn.Module, twin: nn.Module) -> list[Pair]:
    """Take each BatchNorm that follows a convolution out of `twin`, a copy of `model`.

    The networks of this package apply a module's children in the order in which they define
    them, so that neighbours among the children are neighbours in the computation.
    """
    pairs = []
    for module, copied in zip(model.modules(), list(twin.modules()), strict=True):
        for (first, convolution), (second, norm) in pairwise(module.named_children()):
            if isinstance(convolution, nn.Conv2d) and _is_affine_map(norm):
                folded = copied.get_submodule(first)
                assert isinstance(folded, nn.Conv2d)
                if folded.bias is None:
                    zeros = folded.weight.new_zeros(len(folded.weight))
                    folded.bias = nn.Parameter(zeros, requires_grad=False)
                setattr(copied, second, nn.Identity().eval())
                pairs.append((convolution, norm, folded))
    return pairs


def _is_affine_map(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is a BatchNorm with weights and statistics; without, it is left as it is."""
    return isinstance(module, nn.BatchNorm2d) and module.affine and module.track_running_stats


def _rectify_in_place(twin: nn.Module) -> None:
    """Let each ReLU write over what the convolution or BatchNorm before it gives."""
    for module in twin.modules():
        for before, rectifier in pairwise(module.children()):
            if isinstance(rectifier, nn.ReLU) and isinstance(before, nn.Conv2d | nn.BatchNorm2d):
                rectifier.inplace = True
