"""Every benchmark still runs, with trivial sizes; what it prints is not judged."""

import importlib
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests import tiny
from tradeoff.networks.randomness import generator

ROOT = Path(__file__).resolve().parents[2]
BARE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"pydantic", "pydantic_core", "ruamel", "safetensors", "sklearn",
                                  "pandas", "scipy", "tqdm", "dvc", "pyautoattack"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import importlib.util
found = importlib.util.find_spec
def find_spec(name, *rest):
    try:
        return found(name, *rest)
    except ModuleNotFoundError:
        return None
importlib.util.find_spec = find_spec
"""


def run(script: str, *arguments: str, before: str = "") -> str:
    """Run a benchmark as a person does; its output."""
    path = ROOT / "benchmarks" / script
    start = f"{before}\nimport runpy, sys\nsys.path.insert(0, {str(path.parent)!r})\n"
    start += f"sys.argv = {[str(path), *arguments]!r}\n"
    start += f"runpy.run_path({str(path)!r}, run_name='__main__')"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRADEOFF_DATA": "nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", start], capture_output=True, text=True, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_cpu_table() -> None:
    printed = run("cpu.py", "--quick", "--threads=1")
    assert "| what | target | result | |" in printed
    for what in ("trades step", "an epoch", "first step", "AutoAttack"):
        assert any(line.startswith("|") and what in line for line in printed.splitlines()), what
    assert "convolution" in printed  # the profile beside the table


def test_gpu_part_runs_with_torch_and_numpy_alone() -> None:
    bare = run(
        "step.py", "--size=8", "--width=0.125", "--batch=4", "--steps=1", "--rounds=1",
        "--threads=1", before=BARE,
    )  # fmt: skip
    assert "dtrades over trades" in bare


def test_bounds() -> None:
    printed = run("bounds.py", "--batch=2", "--sides", "8")
    assert "forward, all vectors" in printed and "hidden units" in printed


def test_packing() -> None:
    sizes = ["--size=8", "--width=0.125", "--batch=4", "--steps=1", "--seconds=0.1", "--threads=1"]
    assert "best packing" in run("packing.py", *sizes, "--cells", "2")


def test_operators_are_hashed_alike_twice() -> None:
    first, second = (run("operators.py", "at-vgg16-digits-0").splitlines() for _ in range(2))
    assert first == second
    assert {"native_batch_norm", "max_pool2d_with_indices"} <= {line.split()[0] for line in first}


@pytest.mark.parametrize("option", ["--version=standard", "--version=plus", "--evaluate"])
def test_autoattack(option: str) -> None:
    printed = run(
        "autoattack.py", "--scale=0.01", "--samples=4", "--batches=2", "--threads=1",
        "--device=cpu", option,
    )  # fmt: skip
    assert "pyautoattack" in printed
    assert ("evaluate" if option == "--evaluate" else "ours") in printed
    assert "same verdict" in printed


@pytest.mark.parametrize("short", [torch.bfloat16, torch.float16])
def test_rounded_products_are_those_of_short_floats(
    short: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One product at a time: in a deep network the last bits of both part."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    rounded = importlib.import_module("precision").RoundedProducts
    images, weights = tiny.batch(8)[0], generator("weights")
    kernel = torch.randn(4, 1, 3, 3, generator=weights, requires_grad=True)
    matrix = torch.randn(5, 64, generator=weights, requires_grad=True)
    for product, weight in ((F.conv2d, kernel), (F.linear, matrix)):
        given = images if product is F.conv2d else images.flatten(1)
        plain = product(given, weight)
        results = []
        for mode in (rounded, nullcontext):
            with mode(), torch.autocast("cpu", short):
                found = product(given, weight)
            assert found.dtype == short
            gradient = torch.autograd.grad(found.float().square().sum(), weight)[0]
            results.append((found.float(), gradient))
            assert not torch.equal(found.float(), plain)
        for ours, torchs in zip(*results, strict=True):
            torch.testing.assert_close(
                ours, torchs, rtol=2e-2, atol=2e-2 * float(torchs.detach().std())
            )
        with rounded():
            assert torch.equal(product(given, weight), plain)
