"""`tradeoff status`: the matrix at a glance, without asking DVC, which takes seconds.

A stage is done if its entry in dvc.lock belongs to today's parameters, code and inputs, unless it
failed since; what it does or why it failed it has said itself (see `running.state`).
"""

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tradeoff.cluster import lockfile
from tradeoff.cluster.plan import cell_stages, upstream
from tradeoff.cluster.states import State, read_states, script_name
from tradeoff.core import code
from tradeoff.core.schema import read_yaml
from tradeoff.core.study import Cell, Study
from tradeoff.running.words import duration

WORDS = ("running", "failed", "interrupted", "missing", "stale", "done")  # the first one tells
NOT_THERE = object()
UNFINISHED = re.compile(r"\.partial$|^\..*\.tmp$")  # as .dvcignore has it


def show(root: Path, datasets: list[str]) -> int:
    """Print the matrix of each data set; 1 if a cell has failed, else 0.

    Raises:
        BadCode, BadParams, DamagedLock: what there is cannot be read.
    """
    study = Study.load(root / "params.yaml")
    names = datasets or study.axes.datasets
    cells = [cell for name in names for cell in study.trained_cells(name)]
    states = read_states(root)
    judged = judge(root, study, cells, states)
    for name in names:
        own = [(cell, judged[cell.key]) for cell in cells if cell.dataset.name == name]
        print("\n".join(matrix(study, name, own)))
    for word in ("running", "failed", "interrupted"):
        for cell in cells:
            for stage in cell_stages(study, cell):
                state = states.get(script_name(stage))
                if judged[cell.key] == word and state and state.status == word:
                    print(f"{word}: {stage}: {sentence(state)}")
    return int("failed" in judged.values())


def matrix(study: Study, dataset: str, judged: list[tuple[Cell, str]]) -> list[str]:
    """The lines of one data set: a head with counts, then a row for each model."""
    words = [word for _, word in judged]
    counts = ", ".join(f"{words.count(word)} {word}" for word in reversed(WORDS) if word in words)
    seeds = study.axes.seeds
    lines = [f"{dataset}: {len(words)} cells, {counts}"]
    if len(set(words)) == 1:
        return lines
    lines.append(f"  {'seed':<22}" + "".join(f"{seed:<13}" for seed in seeds).rstrip())
    for architecture in study.axes.architectures:
        for defense in dict.fromkeys(cell.defense for cell, _ in judged):
            row = [
                word
                for cell, word in judged
                if (cell.architecture, cell.defense) == (architecture, defense)
            ]
            title = f"{defense} {architecture}"
            lines.append(f"  {title:<22}" + "".join(f"{word:<13}" for word in row).rstrip())
    return lines


def sentence(state: State) -> str:
    """What to say of a stage that is not done."""
    if state.status == "failed":
        return state.error.splitlines()[0] if state.error else "no word of why"
    if state.status == "interrupted":
        return f"{state.doing or 'at its start'}; `tradeoff reproduce` goes on from there"
    left = f", about {duration(state.left)} left" if state.left is not None else ""
    return f"{state.doing or 'starts'}, for {duration(state.seconds)}{left}"


def judge(root: Path, study: Study, cells: list[Cell], states: dict[str, State]) -> dict[str, str]:
    """A word for each cell: that of its stage which is farthest from done."""
    names = {name for cell in cells for name in (*cell_stages(study, cell), *upstream(cell))}
    lock = _entries(root, names)
    params = read_yaml(root / "params.yaml")
    outputs = {out["path"]: out["md5"] for entry in lock.values() for out in entry.get("outs", [])}
    for path, text in code.texts(root, study).items():  # those in the folder may be of before
        outputs[path.as_posix()] = hashlib.md5(text.encode()).hexdigest()
    judged = {}
    for cell in cells:
        words = []
        for stage in cell_stages(study, cell):
            state, entry = states.get(script_name(stage)), lock.get(stage)
            if state and state.running:
                words.append("running")
            elif entry and _belongs(entry, params, outputs, root) and not _lost(entry, state, root):
                words.append("done")
            elif state and state.status in ("failed", "interrupted"):
                words.append(state.status)
            else:
                words.append("stale" if entry else "missing")
        judged[cell.key] = min(words, key=WORDS.index)
    return judged


def up_to_date(root: Path, stage: str) -> bool:
    """Whether a stage's results are those of today's parameters, code and inputs."""
    digest.cache_clear()
    try:
        entry = _entries(root, {stage}).get(stage)
    except lockfile.DamagedLock:  # or DVC is writing it
        return False
    return (
        entry is not None
        and _belongs(entry, read_yaml(root / "params.yaml"), {}, root)
        and all(digest(root / out["path"]) == out["md5"] for out in entry.get("outs", []))
    )


def _entries(root: Path, wanted: set[str]) -> dict[str, Any]:
    """Some entries of dvc.lock: parsing all of it takes a second."""
    blocks = lockfile.read(root).items()
    text = lockfile.HEADER + "".join(block for name, block in blocks if name in wanted)
    return YAML(typ="safe").load(text)["stages"] or {}


def _lost(entry: dict[str, Any], state: State | None, root: Path) -> bool:
    """Whether the stage was run anew, ended badly, and has left nothing of what the entry names.

    Outputs alone tell nothing: a clone has entries of results that it has not fetched.
    """
    if state is None or state.status not in ("failed", "interrupted"):
        return False
    return not all((root / out["path"]).exists() for out in entry.get("outs", []))


def _belongs(
    entry: dict[str, Any], params: dict[str, Any], outputs: dict[str, str], root: Path
) -> bool:
    """Whether an entry of dvc.lock has today's parameters and inputs."""
    for name, value in entry.get("params", {}).get("params.yaml", {}).items():
        today: Any = params
        for key in name.split("."):
            today = today.get(key, NOT_THERE) if isinstance(today, dict) else NOT_THERE
        if today != value:
            return False
    return all(
        dep["md5"] == (outputs.get(dep["path"]) or digest(root / dep["path"]))
        for dep in entry.get("deps", [])
    )


def altered(root: Path, entries: lockfile.Entries) -> dict[str, str]:
    """Outputs that are there and do not have the checksum of dvc.lock, and their stages."""
    return {
        out: stage
        for stage, block in entries.items()
        for out, value in lockfile.sums(block).items()
        if (root / out).exists() and digest(root / out) != value
    }


@cache
def digest(path: Path) -> str | None:
    """DVC's checksum of a file or folder; None if it is not there."""
    if path.is_dir():
        listing = [
            {"md5": digest(file), "relpath": file.relative_to(path).as_posix()}
            for file in path.rglob("*")
            if file.is_file()
            and "__pycache__" not in file.parts
            and not UNFINISHED.search(file.name)
        ]
        listing.sort(key=lambda item: tuple(str(item["relpath"]).split("/")))
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    return hashlib.md5(path.read_bytes()).hexdigest() if path.exists() else None
