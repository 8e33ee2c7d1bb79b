"""Whether equal bytes are to be expected here: yes, no, or it cannot be told."""

from pathlib import Path

import pytest

from tradeoff.cluster.verify import NotComparable, same_processor

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
