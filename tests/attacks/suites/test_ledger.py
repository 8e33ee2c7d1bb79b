"""The ledger's file: read as written, the same bytes twice, and nothing else taken for one."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.ledgers import ledger
from tradeoff.attacks.suites.ledger import REJECTION, BadLedger, Ledger, load_ledger, save_ledger

CELL, SUITE = "trades-resnet18-digits-0", "bounded"


def written(folder: Path) -> Path:
    save_ledger(ledger(), folder / "ledger.npz")
    return folder / "ledger.npz"


def assert_equal(one: Ledger, other: Ledger) -> None:
    assert (one.versions, one.attacks, one.about) == (other.versions, other.attacks, other.about)
    assert one.columns.keys() == other.columns.keys()
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other[name])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = load_ledger(written(tmp_path), CELL, SUITE)
    assert_equal(found, ledger())
    assert found.version("last") == 1
    assert found["labels"].dtype == np.int16 and found["fooled"].dtype == bool
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.npz"]


def test_scores_of_rejection_are_read_where_there_are_any(tmp_path: Path) -> None:
    """A ledger without them has today's columns and no others."""
    clean, attacked = ledger()["clean_margin"] / 3, ledger()["margin"] / 3
    columns = ledger().columns | {"clean_rejection": clean, "rejection": attacked}
    save_ledger(replace(ledger(), columns=columns), tmp_path / "scored.npz")
    scored = load_ledger(tmp_path / "scored.npz", CELL, SUITE)
    np.testing.assert_array_equal(scored["clean_rejection"], clean.astype(np.float32))
    np.testing.assert_array_equal(scored["rejection"], attacked.astype(np.float32))
    assert not set(REJECTION) & set(load_ledger(written(tmp_path), CELL, SUITE).columns)


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    content = written(tmp_path).read_bytes()
    shuffled = replace(ledger(), about=dict(reversed(ledger().about.items())))
    save_ledger(shuffled, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content


def test_numpy_alone_reads_it(tmp_path: Path) -> None:
    code = (
        "import sys, json, numpy\n"
        "with numpy.load(sys.argv[1], allow_pickle=False) as file:\n"
        "    right = file['clean_prediction'][0] == file['labels']\n"
        "    held = right & ~file['fooled'][0].any(0)\n"
        "    about = json.loads(str(file['about']))\n"
        "    print(held.mean(), ','.join(file['attacks']), about['cell'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(written(tmp_path))],
        check=True,
        capture_output=True,
        text=True,
        env={},
    )
    assert done.stdout.split() == ["0.4", "pgd,fgsm", CELL]


def test_the_first_images_are_a_ledger_too() -> None:
    few = ledger().first(2)
    assert few["labels"].tolist() == [0, 0]
    assert few["fooled"].shape == (2, 2, 2) and few["clean_prediction"].shape == (2, 2)
    assert few["fooled"][0].tolist() == [[True, False], [False, False]]
    assert_equal(ledger().first(99), ledger())


def test_a_missing_ledger_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadLedger) as caught:
        load_ledger(tmp_path / "none.npz", CELL, SUITE)
    assert str(caught.value).endswith(f"not there; run: dvc repro attack@{CELL}-{SUITE}")


@pytest.mark.parametrize(("cell", "suite"), [("at-vgg16-digits-0", SUITE), (CELL, "autoattack")])
def test_another_runs_ledger_is_refused(cell: str, suite: str, tmp_path: Path) -> None:
    file = written(tmp_path)
    says = f"{file}: belongs to {CELL}, suite {SUITE}; delete it"
    with pytest.raises(BadLedger, match=re.escape(says)):
        load_ledger(file, cell, suite)


@pytest.mark.parametrize("content", [b"", b"PK", b"no zip file at all" * 10])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "ledger.npz"
    file.write_bytes(content)
    with pytest.raises(BadLedger, match="damaged or not a ledger"):
        load_ledger(file, CELL, SUITE)


def test_pickles_and_other_archives_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "ledger.npz"
    np.savez(file, versions=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(BadLedger, match="damaged or not a ledger"):
        load_ledger(file, CELL, SUITE)
    np.savez(file, labels=np.arange(3))
    with pytest.raises(BadLedger, match="damaged or not a ledger"):
        load_ledger(file, CELL, SUITE)
    arrays = dict(np.load(written(tmp_path)))
    np.savez(file, **arrays | {"about": np.array(json.dumps(["a", "list"]))})
    with pytest.raises(BadLedger):
        load_ledger(file, CELL, SUITE)


def test_damage_anywhere_is_refused_or_does_no_harm(tmp_path: Path) -> None:
    """A byte flipped here and there: never other numbers, never another exception."""
    file = written(tmp_path)
    content = file.read_bytes()
    refused = 0
    for place in range(0, len(content), 17):
        flipped = bytearray(content)
        flipped[place] ^= 0x55
        file.write_bytes(flipped)
        try:
            found = load_ledger(file, CELL, SUITE)
        except BadLedger:
            refused += 1
        else:
            assert_equal(found, ledger())
    assert refused > 50


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_ledgers_are_refused(share: float, tmp_path: Path) -> None:
    file = written(tmp_path)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(BadLedger, match=re.escape(f"{file}: damaged or not a ledger")):
        load_ledger(file, CELL, SUITE)
