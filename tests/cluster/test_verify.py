"""Whether equal bytes are to be expected here: yes, no, or it cannot be told."""

import subprocess
from pathlib import Path

import pytest

from tests.evaluation.ledgers import write_ledger
from tradeoff.cluster.verify import NotComparable, _largest_gap, same_processor
from tradeoff.core.study import Study
from tradeoff.evaluation.summary import cell_table, load_cell_ledgers

ROOT = Path(__file__).resolve().parents[2]

RESULTS = """
from pathlib import Path
PROCESSOR = Path(".ci/processor.json")
def processor():
    {body}
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone that notes "this" processor; `python` is another that lacks everything."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "processor.json").write_text('"this"')
    other = tmp_path / "bin" / "python"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    return tmp_path


@pytest.mark.parametrize(("name", "same"), [("this", True), ("that", False)])
def test_the_python_that_runs_says_which_processor_it_is(
    clone: Path, name: str, same: bool
) -> None:
    (clone / ".ci" / "results.py").write_text(RESULTS.format(body=f"return {name!r}"))
    assert same_processor(clone) is same


def test_a_failure_is_no_other_processor(clone: Path) -> None:
    with pytest.raises(NotComparable, match="No module named 'results'"):
        same_processor(clone)
    (clone / ".ci" / "results.py").write_text(RESULTS.format(body="raise OSError('no cpuinfo')"))
    with pytest.raises(NotComparable, match="no cpuinfo"):
        same_processor(clone)


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_accuracies_elsewhere_are_those_of_the_ledgers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: float
) -> None:
    """Of a cell with nothing fooled, against a table that says something else."""
    cell = Study.load(ROOT / "params.yaml").cells("digits")[0]
    monkeypatch.chdir(tmp_path)
    for suite in cell.dataset.suites:
        write_ledger(cell, suite)
    table = cell.dataset.table("cells")
    table.parent.mkdir(parents=True)
    row = f"{cell.defense},{cell.architecture},{cell.seed}"
    now = cell_table([load_cell_ledgers(cell)]).iloc[0]
    values = f"{now['NA'] - gap},{now['RA']}"
    table.write_text(f"defense,architecture,seed,NA,RA\n{row},{values}\n")
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *command], check=True)
    monkeypatch.chdir("/")
    assert _largest_gap(tmp_path, cell) == pytest.approx(gap)
