"""The README's defense runs as it is printed, and docs/defenses.md tells of every defense."""

import re
import textwrap
from pathlib import Path
from types import ModuleType

import torch

from tests import tiny
from tradeoff.core import foundations
from tradeoff.core.plugins import module_names
from tradeoff.core.study import Study
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


def test_each_defense_stands_on_the_page_with_its_bases_and_its_certificate() -> None:
    page = (ROOT / "docs" / "defenses.md").read_text("utf-8").split("# What a defense can be")[0]
    rows = [row.split("|")[1:-1] for row in page.splitlines() if row.startswith("| `")]
    told = {name: row for row in rows for name in names_in(row[0])}
    bases = Study.load().axes.bases
    for name, (_, _, _, stands_on, certificate) in told.items():
        for role in foundations.roles(name):
            assert f"{role}: `{bases[role]}`" in stands_on, name
        proof = {" ": "interval", " none ": None}.get(certificate, certificate.strip(" `"))
        assert foundations.certificate(name) == proof, name
    everything = set(module_names("defenses", "Knobs"))
    assert set(told) <= everything
    assert everything == {*told, *(base for row in rows for base in names_in(row[3]))}


def names_in(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)
