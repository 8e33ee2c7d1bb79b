"""The verdict on a cell that was run again."""

import platform
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

from tradeoff.cluster import verify
from tradeoff.cluster.verify import NotComparable

AS_COMMITTED = "as committed"


def verdict(monkeypatch: pytest.MonkeyPatch, arithmetic: str, machine: str, now: str) -> int:
    """On a cell whose model was AS_COMMITTED and is `now`."""

    written = cache(lambda path: now if path == Path("models/cell") else "data")
    committed = {
        "prepare@digits": "  prepare@digits:\n    cmd: python stages/prepare.py digits\n",
        "train@cell": "  train@cell:\n    cmd: python stages/train.py cell\n",
    }
    outputs = {"prepare@digits": {"data/it": "data"}, "train@cell": {"models/cell": AS_COMMITTED}}
    cell = SimpleNamespace(
        key="cell", bases={}, dataset=SimpleNamespace(name="digits", arithmetic=arithmetic)
    )
    monkeypatch.setattr(verify.lockfile, "read", lambda folder: committed)
    monkeypatch.setattr(verify.lockfile, "sums", lambda entry: outputs[entry.split(":")[0].strip()])
    monkeypatch.setattr(verify, "digest", written)
    monkeypatch.setattr(verify, "altered", lambda folder, stages: [])
    monkeypatch.setattr(verify.subprocess, "run", lambda *_, **__: CompletedProcess([], 0))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    return verify._rerun_and_compare(Path(), cell, ["train@cell"])  # type: ignore[arg-type]


@pytest.mark.parametrize("arithmetic", ["portable", "native"])
def test_equal_bytes_confirm_a_cell(monkeypatch: pytest.MonkeyPatch, arithmetic: str) -> None:
    assert verdict(monkeypatch, arithmetic, "aarch64", AS_COMMITTED) == 0


def test_portable_bytes_that_differ_do_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(monkeypatch, "portable", "x86_64", "other") == 1
    assert "NOT confirmed" in capsys.readouterr().out


@pytest.mark.parametrize(("arithmetic", "machine"), [("native", "x86_64"), ("portable", "arm64")])
def test_elsewhere_there_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, arithmetic: str, machine: str
) -> None:
    with pytest.raises(NotComparable, match=f"{arithmetic}, on {machine}"):
        verdict(monkeypatch, arithmetic, machine, "other")
