"""A hash of what each operator of a training step takes and gives, to compare two machines.

    python benchmarks/operators.py [trades-resnet18-digits-0] > here.txt    # there.txt on the other
    diff here.txt there.txt | head

In the first line that differs, an operator whose inputs are alike and whose outputs are not rounds
by the processor. If the inputs differ already, it was what lies between two operators: a product
that NumPy has made. A machine is emulated with `qemu-x86_64 -cpu Haswell-v1 $(which python) ...`.
"""

import hashlib
import importlib
import sys
from collections.abc import Iterable
from typing import Any

from tradeoff.networks.arithmetic import switch

switch("portable")

import harness  # noqa: E402
import torch  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from tradeoff.core.study import Study  # noqa: E402
from tradeoff.datasets.prepared import Prepared, Subset  # noqa: E402
from tradeoff.networks.device import pick_device  # noqa: E402
from tradeoff.networks.layouts import place  # noqa: E402
from tradeoff.networks.models import Blueprint, build_network  # noqa: E402
from tradeoff.networks.threat import Threat  # noqa: E402
from tradeoff.training.loop import fit  # noqa: E402
from tradeoff.training.plan import Plan  # noqa: E402

# What lies in the memory of their first argument is no input.
OVERWRITING = ("copy_", "fill_", "normal_", "random_", "set_", "uniform_", "zero_")


class Hashed(TorchDispatchMode):
    """Prints each operator with the hashes of its inputs and outputs."""

    def __torch_dispatch__(self, operator: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        name = operator.overloadpacket.__name__
        inputs = digest(tree_leaves((given[name in OVERWRITING :], named)))
        outputs = operator(*given, **(named or {}))
        if not (operator.is_view or name == "set_" or "empty" in name):
            print(name, inputs, digest(tree_leaves(outputs)))
        return outputs


def digest(values: Iterable[object]) -> str:
    """The hash of the tensors among values."""
    total = hashlib.sha256()
    for value in values:
        if isinstance(value, torch.Tensor) and value.device.type == "cpu":
            total.update(value.detach().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]


def main(key: str = "trades-resnet18-digits-0") -> None:
    cell = Study.load(harness.ROOT / "params.yaml").cell(key)
    device = pick_device(1, "portable")
    settings = cell.train.model_copy(update={"epochs": 1, "batch_size": 16})
    pixels, labels = harness.made_up(48, 1, 8)
    splits = map(Subset, pixels.split(16), labels.split(16), [255] * 3)
    data = Prepared(cell.dataset.name, *splits, classes=tuple("0123456789"), mean=[0.3], std=[0.35])
    blueprint = Blueprint.of(cell.architecture, cell.settings.width, data)
    model = place(build_network(blueprint, data.mean, data.std, 0), device)
    defense = importlib.import_module(f"tradeoff.defenses.{cell.defense}")
    threat = Threat(cell.dataset.threat.norm, cell.dataset.threat.epsilon)
    with Hashed():
        fit(model, data, Plan(defense, cell.knobs, settings, threat, 0), lambda *_: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
