"""Real stages write their declared outputs and nothing else, and connect to nobody."""

import re
from pathlib import Path

from real import Done

from tradeoff.cluster import lockfile

ALLOWED = ("checkpoints", "timings", ".dvc")
OWN = ("dvc.lock",)
FONTS = re.compile(r"\.cache/matplotlib/fontlist-\S+\.json")  # matplotlib's, for all programs


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Each file's time and size; compiled Python left aside, which Python keeps for itself."""
    return {
        path.relative_to(folder).as_posix(): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
        if not path.is_dir() and "__pycache__" not in path.parts
    }


def declared(name: str, outputs: list[Path]) -> bool:
    path = Path(name)
    return (
        name in OWN
        or path.parts[0] in ALLOWED
        or any(path == out or out in path.parents for out in outputs)
    )


def test_only_declared_outputs_change(done: Done) -> None:
    before, after = files(done.before.folder), files(done.study.folder)
    changed = {name for name in after if after[name] != before.get(name)}
    entries = lockfile.read(done.study.folder)
    outputs = [Path(out) for block in entries.values() for out in lockfile.sums(block)]
    # Of code, prepare, 2 trainings, 6 attacks, transfer, examples, summarize, report, chapter and
    # index.
    assert len(outputs) == 2 + 2 * 2 + 6 + 2 + 5 + 2 + 1 + 3 + 1
    assert {name for name in changed if not declared(name, outputs)} == set()
    assert before.keys() <= after.keys()
    assert list(files(done.around.folder / "tmp")) == []
    assert [name for name in files(done.around.folder / "home") if not FONTS.match(name)] == []


def test_nothing_is_written_elsewhere_and_taken_away_again(done: Done) -> None:
    inside = (done.study.folder, done.around.folder, Path("/dev"))
    paths = {Path(where) for event, where in done.around.noted if not event.startswith("socket")}
    assert any(path.suffix == ".safetensors" for path in paths), "nothing was noted"
    strange = {
        str(path)
        for path in paths
        if not any(path.is_relative_to(folder) for folder in inside)
        and "__pycache__" not in path.parts
    }
    assert strange == set()


def test_no_stage_and_no_dvc_connects_to_anybody(done: Done) -> None:
    assert [item for item in done.around.noted if item[0].startswith("socket")] == []
