"""`tradeoff doctor` and `tradeoff status`: what they see in a small study, and what they mend."""

import json
from pathlib import Path

import pytest
from toys import Toy

from tradeoff.cluster import lockfile
from tradeoff.cluster.status import digest

SMALL = {"defenses": ["at", "trades"], "seeds": [0]}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Everything done, and committed."""
    study = Toy(tmp_path_factory.mktemp("toy")).build({}, **SMALL)
    study.tradeoff("reproduce")
    study.commit()
    return study


@pytest.fixture
def study(finished: Toy, tmp_path: Path) -> Toy:
    return finished.copy(tmp_path / "toy")


# --- status ------------------------------------------------------------------------------------


def test_status_sees_what_a_change_touches(study: Toy) -> None:
    assert "digits: 2 cells, 2 done" in study.tradeoff("status")
    params = study.folder / "params.yaml"
    params.write_text(params.read_text().replace("beta: 6.0", "beta: 4.5"))
    said = study.tradeoff("status")
    assert "1 done, 1 stale" in said
    row = next(line for line in said.splitlines() if line.startswith("  trades"))
    assert row.split()[-1] == "stale"


def test_status_reads_running_and_cut_stages(study: Toy) -> None:
    (study.folder / "src" / "tradeoff" / "defenses" / "at.py").open("a").write("\n# changed\n")
    state = study.folder / "checkpoints" / "state" / "train@at-resnet18-digits-0.json"
    about = json.loads(state.read_text())
    state.write_text(json.dumps(about | {"status": "running", "doing": "epoch 5/12", "pid": 1}))
    # Process 1 is at work, and older than the stage says it is.
    assert "running: train@at-resnet18-digits-0: epoch 5/12" in study.tradeoff("status")
    state.write_text(json.dumps(about | {"status": "running", "doing": "epoch 5/12", "pid": 2**22}))
    said = study.tradeoff("status")
    assert "interrupted: train@at-resnet18-digits-0: epoch 5/12; `tradeoff reproduce` goes" in said


def test_checksums_are_those_of_dvc() -> None:
    entries = lockfile.read(ROOT)
    block = next(block for name, block in entries.items() if name.startswith("prepare@"))
    lines = block.splitlines()
    at = lines.index("    - path: src/tradeoff/datasets/digits.py")
    assert digest(ROOT / "src/tradeoff/datasets/digits.py") == lines[at + 2].split()[-1]


# --- doctor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 0.3, 0.7])
def test_a_damaged_lock_is_mended_and_nothing_is_computed_again(study: Toy, left: float) -> None:
    lock = study.folder / "dvc.lock"
    text = lock.read_text()
    lock.write_text(text[: int(len(text) * left)])
    assert "`tradeoff doctor --fix` repairs it" in study.tradeoff("status", ok=False)
    assert "damaged" in study.tradeoff("doctor", ok=False)
    said = study.tradeoff("doctor", "--fix")
    assert "come from the last commit; 0 stages of cells are not in it" in said
    assert lock.read_text() == text
    assert "up to date" in study.run("dvc", "repro", "report@digits")


def test_without_a_commit_the_run_cache_has_what_was_computed(study: Toy) -> None:
    study.run("git", "rm", "-q", "--cached", "dvc.lock")
    identity = ("-c", "user.name=toy", "-c", "user.email=toy@localhost")
    study.run("git", *identity, "commit", "-qm", "no lock")
    (study.folder / "dvc.lock").write_text("")
    before = study.folder / "checkpoints" / "state" / "train@at-resnet18-digits-0.json"
    ran = before.stat().st_mtime_ns
    assert "0 come from the last commit" in study.tradeoff("doctor", "--fix")
    study.tradeoff("reproduce", "at-resnet18-digits-0")
    assert "at-resnet18-digits-0-minimal" in (study.folder / "dvc.lock").read_text()
    assert before.stat().st_mtime_ns == ran, "it was trained again"


def test_doctor_names_what_is_wrong_and_the_way_out(study: Toy) -> None:
    (study.folder / "data" / "digits.safetensors").write_text("another file")
    (study.folder / "src" / "extra.py").write_text("")
    said = study.tradeoff("doctor", ok=False)
    assert "BAD data       digits.safetensors is not the file of dvc.lock" in said
    assert "dvc repro prepare@digits" in said
    assert "src/extra.py" in said


def test_a_lock_with_a_merge_conflict_is_damaged() -> None:
    text = (ROOT / "dvc.lock").read_text()
    assert lockfile.salvage(text)[1]
    middle = text.index("\n  attack@") + 1
    conflict = text[:middle] + "<<<<<<< HEAD\n" + text[middle:]
    entries, intact = lockfile.salvage(conflict)
    assert not intact
    assert len(entries) >= len(lockfile.parse(text)) - 1
    with pytest.raises(lockfile.DamagedLock, match="doctor --fix"):
        lockfile.parse(conflict)


# --- verify ------------------------------------------------------------------------------------


def test_verify_confirms_the_same_bytes(study: Toy) -> None:
    said = study.tradeoff("verify", "trades-resnet18-digits-0")
    assert "every output is the same, byte for byte" in said
    assert study.run("git", "status", "--porcelain") == ""


def test_verify_sees_a_result_edited_by_hand(study: Toy) -> None:
    name = "metrics/digits/trades-resnet18-digits-0-bounded.json"
    (study.folder / name).write_text('{"value": "better"}\n')
    study.commit()
    said = study.tradeoff("verify", "trades-resnet18-digits-0", ok=False)
    assert name in said


def test_verify_asks_for_results_of_the_committed_code(study: Toy) -> None:
    params = study.folder / "params.yaml"
    params.write_text(params.read_text().replace("beta: 6.0", "beta: 4.5"))
    study.commit()
    said = study.tradeoff("verify", "trades-resnet18-digits-0", ok=False)
    assert "is stale in the last commit: run `tradeoff reproduce trades-resnet18-digits-0`" in said
