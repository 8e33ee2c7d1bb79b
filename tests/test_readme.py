"""The README's defense is one that the contract can hold, and runs as it is printed."""

import re
import textwrap
from pathlib import Path
from types import ModuleType

import torch

from tests import tiny
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan

ROOT = Path(__file__).resolve().parents[1]


def test_the_defense_of_the_readme_trains_as_printed() -> None:
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(   \"\"\"FGSM.*?)\n   ```", text, re.DOTALL)
    module = ModuleType("fast")
    exec(textwrap.dedent(code), vars(module))
    knobs = module.Knobs(relative_step_size=1.25)
    images, labels = tiny.batch()
    step = tiny.step(tiny.network())
    start = tiny.step(tiny.network()).random_start(images)
    module.training_loss(tiny.network(), images, labels, step, knobs)
    assert torch.equal(step.generator.get_state(), step.generator.get_state())
    assert (start - images).abs().max() <= tiny.THREAT.epsilon + 1e-6
    plan = Plan(module, knobs, tiny.settings(epochs=6), tiny.THREAT, seed=0)
    history = fit(tiny.network(), tiny.made_up(), plan, lambda *told: None).history
    assert history[-1]["loss_cross_entropy"] < history[0]["loss_cross_entropy"]
    assert history[-1]["forward_passes"] == 2 * 64  # one step of the attack, one of training
