"""`tradeoff doctor` and `tradeoff status`: what they see in a small study, and what they mend."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML
from toys import Toy

from tradeoff.cluster import doctor, lockfile, repair
from tradeoff.cluster.clone import CannotStart, git
from tradeoff.cluster.status import digest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def study(finished: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Which torch there is, a process of its own would take seconds to say."""
    monkeypatch.setattr(doctor, "ASK_TORCH", "print('2.14.1+cpu', False)")
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
    (study.folder / "src" / "tradeoff" / "defenses" / "at.py").open("a").write("\nCHANGED = True\n")
    state = study.folder / "checkpoints" / "state" / "train@at-resnet18-digits-0.json"
    about = json.loads(state.read_text())
    state.write_text(json.dumps(about | {"status": "running", "doing": "epoch 5/12", "pid": 1}))
    # Process 1 is at work, and older than the stage says it is.
    assert "running: train@at-resnet18-digits-0: epoch 5/12" in study.tradeoff("status")
    state.write_text(json.dumps(about | {"status": "running", "doing": "epoch 5/12", "pid": 2**22}))
    said = study.tradeoff("status")
    assert "interrupted: train@at-resnet18-digits-0: epoch 5/12; `tradeoff reproduce` goes" in said


def test_status_lists_code_anew_and_changes_nothing(study: Toy) -> None:
    """Of the code as it is, not as it was when the folder `code` was written."""
    defense = study.folder / "src" / "tradeoff" / "defenses" / "trades.py"
    defense.open("a").write("\n# a comment\n")
    assert "digits: 2 cells, 2 done" in study.tradeoff("status")
    defense.open("a").write("\nCHANGED = True\n")
    assert "1 done, 1 stale" in study.tradeoff("status")
    assert study.run("git", "status", "--porcelain", "code") == ""
    (study.folder / "src" / "tradeoff" / "networks" / "threat.py").open("a").write("\nelse\n")
    said = study.tradeoff("status", ok=False)
    assert re.search(r"^tradeoff status: .*networks/threat.py:\d+: invalid syntax$", said.strip())


def test_checksums_are_those_of_dvc(study: Toy) -> None:
    lock = YAML(typ="safe").load((study.folder / "dvc.lock").read_text())["stages"]
    known = {dep["path"]: dep["md5"] for stage in lock.values() for dep in stage["deps"]}
    assert known == {path: digest(study.folder / path) for path in known}
    assert {"src/tradeoff", "code/report", "models/digits/trades-resnet18-digits-0"} <= {*known}


# --- doctor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [0, 0.3, 0.7])
def test_a_damaged_lock_is_mended_and_nothing_is_computed_again(study: Toy, left: float) -> None:
    lock = study.folder / "dvc.lock"
    text = lock.read_text()
    lock.write_text(text[: int(len(text) * left)])
    assert "`tradeoff doctor --fix` repairs it" in study.tradeoff("status", ok=False)
    assert "damaged" in study.tradeoff("doctor", ok=False)
    assert "it is that of the last commit again" in study.tradeoff("doctor", "--fix")
    assert lock.read_text() == text
    assert study.up_to_date()


def test_what_dvc_is_writing_is_not_mended(study: Toy) -> None:
    lock = study.folder / "dvc.lock"
    half = lock.read_text()[:3000]
    lock.write_text(half)
    at_work = pytest.raises(CannotStart, match="DVC is at work here")
    with Repo(str(study.folder)) as repo, repo.lock, at_work:
        list(repair.after_a_kill(study.folder))
    assert lock.read_text() == half


def test_without_a_commit_the_run_cache_has_what_was_computed(study: Toy) -> None:
    study.run("git", "rm", "-q", "--cached", "dvc.lock")
    identity = ("-c", "user.name=toy", "-c", "user.email=toy@localhost")
    study.run("git", *identity, "commit", "-qm", "no lock")
    (study.folder / "dvc.lock").write_text("")
    before = study.folder / "checkpoints" / "state" / "train@at-resnet18-digits-0.json"
    ran = before.stat().st_mtime_ns
    assert "it is gone, as the last commit has none" in study.tradeoff("doctor", "--fix")
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


@pytest.mark.parametrize(("free", "good"), [(0.4e9, False), (2.4e9, None), (16e9, True)])
def test_a_disk_is_full_only_where_digits_does_not_fit(
    free: float, good: bool | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (finding,) = doctor.disk(tmp_path)
    assert finding.good is good
    assert ("make room" in finding.way_out) is (good is not True)


@pytest.mark.parametrize(
    ("asked", "good"), [("print('2.9.1+cu126', False)", False), (doctor.ASK_TORCH, True)]
)
def test_a_torch_older_than_the_study_needs_is_told(
    asked: str, good: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ASK_TORCH", asked)
    finding, *_ = doctor.torch(ROOT)
    assert finding.good is good
    assert ("the study needs >=2." in finding.says) is ("pip" in finding.way_out) is not good


IN_USE = Path(".dvc", "tmp", "rwlock")
HALF = '{"write": {"/some/where/models/digits/at-resnet18-digits-0": {"pid": 12'
STALE = "trades-resnet18-digits-0"


def make_stale(study: Toy) -> None:
    """A change that touches this cell only."""
    params = study.folder / "params.yaml"
    params.write_text(params.read_text().replace("beta: 6.0", "beta: 4.5"))


def busy(study: Toy, pid: int, command: str = "/usr/bin/dvc repro") -> str:
    """DVC's list of files in use if a process trains all cells."""
    return json.dumps({"write": {str(study.folder / "models"): {"pid": pid, "cmd": command}}})


@contextmanager
def at_work(study: Toy) -> Iterator[tuple[int, str]]:
    """A process that looks as DVC does, and the command that DVC notes of itself."""
    script = study.folder / "dvc"
    script.write_text("import time\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, str(script), "repro"], cwd=study.folder)
    try:
        yield process.pid, f"{script} repro"
    finally:
        process.kill()
        process.wait()


def test_a_broken_list_of_files_in_use_stops_dvc_until_it_is_mended(study: Toy) -> None:
    (study.folder / IN_USE).write_text(HALF)
    said = study.run("dvc", "repro", "prepare@digits", ok=False)
    assert "Unable to read RWLock-file" in said
    (finding,) = doctor.in_use(study.folder)
    assert f"{IN_USE}, its list of files in use, is damaged" in finding.says
    assert "is damaged; mended" in study.tradeoff("doctor", "--fix", ok=None)
    study.run("dvc", "repro", "prepare@digits")


@pytest.mark.parametrize(
    ("left", "fault"),
    [
        ("", "is damaged"),
        (HALF, "is damaged"),
        ("[1, 2]", "is damaged"),
        ('{"write": {"models": {"pid": "x"}}}', "names files, and no DVC is at work here"),
    ],
)
def test_a_list_that_no_dvc_uses_is_a_fault(left: str, fault: str, tmp_path: Path) -> None:
    assert repair.in_use_fault(tmp_path) == ""
    (tmp_path / IN_USE).parent.mkdir(parents=True)
    (tmp_path / IN_USE).write_text(left)
    assert repair.in_use_fault(tmp_path) == fault


def test_reproduce_mends_what_a_killed_dvc_left(study: Toy) -> None:
    make_stale(study)
    (study.folder / IN_USE).write_text(HALF)
    lock = study.folder / "dvc.lock"
    entries = lockfile.read(study.folder)
    lock.write_text(lock.read_text()[:5000])
    said = study.tradeoff("reproduce", STALE)
    assert f"{IN_USE}: it is damaged; mended" in said
    assert "it is that of the last commit again" in said
    assert f"[1/1] {STALE}: done" in said
    mended = lockfile.read(study.folder)
    assert mended.keys() == entries.keys()
    changed = {name for name in mended if mended[name] != entries[name]}
    assert all(STALE in name for name in changed - {"code"})  # which reads params.yaml


def test_a_conflict_in_the_lock_is_left_to_people(study: Toy) -> None:
    lock = study.folder / "dvc.lock"
    conflict = "<<<<<<< HEAD\n" + lock.read_text()
    lock.write_text(conflict)
    assert "`tradeoff doctor --fix` repairs it" in study.tradeoff("reproduce", ok=False)
    assert lock.read_text() == conflict


def test_a_process_that_has_the_number_of_a_killed_dvc_does_not_block(study: Toy) -> None:
    """As after a restart of the machine, when numbers are given out anew."""
    make_stale(study)
    file = study.folder / IN_USE
    file.write_text(busy(study, os.getpid()))
    assert "is busy" in study.run("dvc", "repro", "train@trades-resnet18-digits-0", ok=False)
    (finding,) = doctor.in_use(study.folder)
    assert "names files, and no DVC is at work here" in finding.says
    said = study.tradeoff("reproduce", STALE)
    assert f"[1/1] {STALE}: done" in said


def test_a_killed_dvc_that_nobody_has_waited_for_does_not_block(study: Toy) -> None:
    """As in a container whose first process does not care for orphans: the number stays taken."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    (study.folder / IN_USE).write_text(busy(study, process.pid))
    assert "mended" in repair.mend_in_use(study.folder)
    assert not (study.folder / IN_USE).exists()
    process.wait()


def test_a_dvc_at_work_keeps_its_files(study: Toy) -> None:
    file = study.folder / IN_USE
    with at_work(study) as (pid, command):
        file.write_text(busy(study, pid, command))
        assert repair.in_use_fault(study.folder) == ""
        assert "it is intact" in repair.mend_in_use(study.folder)
        assert file.read_text() == busy(study, pid, command)

        file.write_text(HALF)
        with pytest.raises(CannotStart, match=f"process {pid}"):
            repair.mend_in_use(study.folder)
        assert file.read_text() == HALF


def test_what_was_half_copied_is_no_part_of_a_result(study: Toy) -> None:
    """Killed while it copies, DVC leaves a file with a name of its own in a folder of results."""
    for folder in ("ledgers/digits", "models/digits/at-resnet18-digits-0", "plots/summary"):
        (study.folder / folder / ".Jb5mGx2sV8qk0Q.tmp").write_text("half")
        (study.folder / folder / ".table.csv.partial").write_text("half")
    assert study.up_to_date()
    assert study.run("git", "status", "--porcelain") == ""
    assert list(doctor.results(study.folder)) == []


def test_results_changed_by_hand_or_mixed_up_are_named(study: Toy) -> None:
    edited = "plots/training/digits/trades-resnet18-digits-0.csv"
    (study.folder / edited).write_text('{"value": "better"}\n')
    models = study.folder / "models" / "digits"
    shutil.rmtree(models / "trades-resnet18-digits-0")
    shutil.copytree(models / "at-resnet18-digits-0", models / "trades-resnet18-digits-0")
    ledgers = study.folder / "ledgers" / "digits"
    shutil.copy(
        ledgers / "at-resnet18-digits-0-minimal.npz", ledgers / "at-resnet18-digits-0-bounded.npz"
    )
    said = study.tradeoff("doctor", ok=False)
    for out, stage in {
        edited: "train@trades-resnet18-digits-0",
        "models/digits/trades-resnet18-digits-0": "train@trades-resnet18-digits-0",
        "ledgers/digits/at-resnet18-digits-0-bounded.npz": "attack@at-resnet18-digits-0-bounded",
    }.items():
        assert f"BAD results    {out} is not what its stage wrote by dvc.lock" in said
        assert f"dvc repro -s {stage} restores it" in said
    assert said.count("BAD results") == 3
    before = (study.folder / edited).read_text()
    study.run("dvc", "repro", "report@digits")
    digest.cache_clear()  # `doctor` ran in this process and has read the files before
    assert (study.folder / edited).read_text() != before
    assert list(doctor.results(study.folder)) == []


def test_no_checkout_changes_line_endings() -> None:
    """Whatever core.autocrlf says."""
    names = ("dvc.lock", "params.yaml", "metrics/means/digits/at-vgg16.json", "src/tradeoff/cli.py")
    said = git(ROOT, "check-attr", "text", "--", *names)
    assert said.splitlines() == [f"{name}: text: unset" for name in names]


def test_changed_line_endings_are_called_so(study: Toy) -> None:
    """As a clone has them whose git is told to."""
    file = study.folder / "plots" / "training" / "digits" / "trades-resnet18-digits-0.csv"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    (finding,) = doctor.results(study.folder)
    assert finding.says.endswith("csv has other line endings than its stage wrote")
    assert finding.way_out.startswith("git config core.autocrlf false")


def test_a_lock_with_a_merge_conflict_is_damaged() -> None:
    text = (ROOT / "dvc.lock").read_text()
    middle = text.index("\n  attack@") + 1
    with pytest.raises(lockfile.DamagedLock, match="doctor --fix"):
        lockfile.parse(text[:middle] + "<<<<<<< HEAD\n" + text[middle:])


# --- verify ------------------------------------------------------------------------------------


def test_verify_confirms_the_same_bytes(study: Toy) -> None:
    said = study.tradeoff("verify", "trades-resnet18-digits-0")
    assert "every output is the same, byte for byte" in said
    assert study.run("git", "status", "--porcelain") == ""


def test_verify_sees_a_result_edited_by_hand(study: Toy) -> None:
    name = "plots/training/digits/trades-resnet18-digits-0.csv"
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
