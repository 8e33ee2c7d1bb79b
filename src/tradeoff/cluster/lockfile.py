"""dvc.lock as blocks of text, one a stage.

DVC parses and writes the whole file for each stage that it runs: six seconds a stage once the
study has some hundred. Here entries are put in as they are, which takes milliseconds, leaves DVC's
own formatting, and never leaves half a file.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tradeoff.core.files import atomic_write

FILE = "dvc.lock"
HEADER = "schema: '2.0'\nstages:\n"
# A stage's name, its command, and lines that end with the size of its last output.
ENTRY = re.compile(r"\S+:\n    cmd: .*\n(?:    .*\n)*      (?:size|nfiles): \d+\n")

Entries = dict[str, str]


class DamagedLock(Exception):
    """dvc.lock cannot be read; the message says what to do."""


def parse(text: str) -> Entries:
    """The entries of a dvc.lock: stage name to its lines.

    Raises:
        DamagedLock: empty, cut off, with a merge conflict, or not what DVC writes.
    """
    blocks = re.split(r"^  (?=\S)", text.removeprefix(HEADER), flags=re.MULTILINE)[1:]
    entries = {block.split(":\n", 1)[0]: f"  {block}" for block in blocks if ENTRY.fullmatch(block)}
    if not entries or text != HEADER + "".join(entries.values()):
        raise DamagedLock(f"{FILE} is empty or damaged; `tradeoff doctor --fix` repairs it")
    return entries


def read(folder: Path) -> Entries:
    """The entries of a folder's dvc.lock, none if there is no such file.

    Raises:
        DamagedLock: see `parse`.
    """
    path = folder / FILE
    return parse(path.read_text("utf-8", "replace")) if path.exists() else {}


def write(entries: Entries, folder: Path) -> None:
    """Write a folder's dvc.lock, whole or not at all."""
    with atomic_write(folder / FILE) as partial:
        partial.write_text(HEADER + "".join(entries.values()), "utf-8")


def sums(block: str) -> dict[str, str]:
    """The outputs of a stage and their checksums, from its entry.

    Raises:
        DamagedLock: an output has no path or no checksum.
    """
    # As YAML: DVC folds paths from 69 characters on, and quotes checksums that look like numbers.
    try:
        outs = YAML(typ="safe").load(block.partition("    outs:\n")[2]) or []
        return {out["path"]: out["md5"] for out in outs}
    except (YAMLError, KeyError, TypeError):
        name = block.partition(":\n")[0].strip()
        raise DamagedLock(f"{FILE}: the outputs of {name} cannot be read") from None


def arranged(entries: Entries, first: Iterable[str], order: Iterable[str]) -> Entries:
    """The entries in the order that one `dvc repro` leaves: those that were there `first` keep
    their places, new ones follow in the `order` in which they run."""
    names = dict.fromkeys([*first, *order, *entries])
    return {name: entries[name] for name in names if name in entries}
