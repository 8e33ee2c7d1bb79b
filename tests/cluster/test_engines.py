"""Which device a cell is given, and what is said where an engine cannot start."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys import Toy

from tradeoff.cluster import worker
from tradeoff.cluster.clone import CannotStart
from tradeoff.cluster.engines import Local, Ray, Submitit, gpus
from tradeoff.cluster.reproduce import reproduce
from tradeoff.core.files import BadInterval

ORDER = ("folder", [("train@cell", "python stages/train.py cell")], "log")


@pytest.fixture(autouse=True)
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two cards."""
    listed = "".join(f"GPU {n}: Some card (UUID: GPU-{n})\\n" for n in range(2))
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("CUDA_VISIBLE_DEVICES", "TRADEOFF_DEVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What cells get in their environment, on top of that of `tradeoff reproduce`."""
    environments: list[dict[str, str]] = []

    def start(order: Any, environment: dict[str, str]) -> Any:
        environments.append(environment)
        return SimpleNamespace(poll=lambda: None)

    monkeypatch.setattr(worker, "start", start)
    return environments


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("", None, ["0", "1"]),
        ("cuda", None, ["0", "1"]),
        ("cuda:1", None, ["1"]),
        ("", "3,5", ["3", "5"]),
        ("cuda:1", "3,5", ["5"]),
        ("cuda:0", "GPU-a,GPU-b", ["GPU-a"]),
        ("cpu", None, []),
        ("cpu", "0,1", []),
        ("cuda:1", "", []),  # the stages say what torch finds
    ],
)
def test_gpus_are_the_visible_ones_that_the_device_leaves(
    device: str, visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", device)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == expected


def test_a_gpu_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", "cuda:2")
    with pytest.raises(CannotStart, match=r"'cuda:2'; allowed here: cpu, cuda, cuda:0, cuda:1$"):
        gpus()


def test_a_cell_on_the_second_gpu_knows_it_as_its_only_one(
    given: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", "cuda:1")
    engine = Local(None, per_gpu=2)
    assert engine.slots == 2
    for cell in ("one", "another"):
        engine.start(cell, ORDER)
    assert given == [{"CUDA_VISIBLE_DEVICES": "1", "TRADEOFF_DEVICE": "cuda"}] * 2


@pytest.mark.parametrize(("device", "cards"), [("", ["0", "1"]), ("cpu", [])])
def test_cells_share_what_gpus_there_are(
    device: str, cards: list[str], given: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", device)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    engine = Local(None, per_gpu=1)
    assert engine.slots == (len(cards) or 3)
    for cell in range(engine.slots):
        engine.start(str(cell), ORDER)
    assert given == ([{"CUDA_VISIBLE_DEVICES": card} for card in cards] or [{}] * 3)


@pytest.fixture
def pretended_ray(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cluster of two GPUs and eight cores; what it was asked for."""
    asked: dict[str, Any] = {}

    def remote(**needs: Any) -> Any:
        asked["needs"] = needs
        return lambda task: task

    pretended = SimpleNamespace(
        init=lambda **options: asked.update(options),
        cluster_resources=lambda: {"GPU": 2.0, "CPU": 8.0},
        remote=remote,
    )
    monkeypatch.setitem(sys.modules, "ray", pretended)
    return asked


@pytest.mark.parametrize(
    ("device", "slots", "needs"), [("", 2, "num_gpus"), ("cpu", 8, "num_cpus")]
)
def test_ray_gives_cells_what_the_device_says(
    device: str,
    slots: int,
    needs: str,
    pretended_ray: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", device)
    assert Ray("auto", None, 1).slots == slots
    assert pretended_ray["needs"][needs] == 1
    passed_on = pretended_ray["runtime_env"]["env_vars"]
    assert passed_on.get("TRADEOFF_DEVICE", "") == device


@pytest.mark.parametrize("engine", [lambda: Ray(None, 1, 1), lambda: Submitit(Path(), [], 1)])
def test_a_gpus_number_is_refused_where_others_choose_gpus(
    engine: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRADEOFF_DEVICE", "cuda:1")
    with pytest.raises(CannotStart, match="'cuda:1': that is a GPU of this machine"):
        engine()


def test_a_wrong_interval_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else by each cell."""
    monkeypatch.setenv("TRADEOFF_SAVE_MINUTES", "often")
    with pytest.raises(BadInterval, match="'often'"):
        reproduce(tmp_path / "nowhere", [], lambda: Local(1, 1), print)


def test_an_address_without_a_cluster_is_told_before_any_work(toy: Callable[..., Toy]) -> None:
    pytest.importorskip("ray")
    study = toy(defenses=["at"], seeds=[0])
    said = study.tradeoff("reproduce", "--ray", "auto", ok=False)
    assert "tradeoff reproduce: no Ray at 'auto': Could not find any running Ray" in said
    assert "Traceback" not in said
    for target in ("digits", "at-resnet18-digits-0", "report@digits"):
        said = study.tradeoff("reproduce", "--ray", target, "prepare@digits", ok=False)
        assert f"tradeoff reproduce {target} prepare@digits --ray" in said
    assert not (study.folder / "data" / "digits.safetensors").exists()
