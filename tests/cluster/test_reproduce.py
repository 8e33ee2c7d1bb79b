"""`tradeoff reproduce`: as `dvc repro`, but on many workers, and whatever happens to them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import SMALL, Toy, wait_for, working_in

from tradeoff.cluster import worktrees
from tradeoff.running.warm import VARIABLE

# Once, kill whoever works on the cell: DVC and the engine's process; and go on as an orphan.
KILL_WORKER = """
    mark = Path("checkpoints", "killed")
    if "trades" in names[0] and not mark.exists():
        mark.parent.mkdir(exist_ok=True)
        mark.write_text("")
        import psutil
        for parent in psutil.Process().parents():
            told = " ".join(parent.cmdline())
            if "dvc repro" in told or told.startswith("ray::") or "submitit.core" in told:
                parent.kill()
        time.sleep(60)
"""
KILL_ITSELF = """
    mark = Path("checkpoints", "killed")
    if "trades" in names[0] and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), 9)
"""


def left_over(study: Toy) -> list[Path]:
    return list((study.folder / ".dvc" / "tmp" / "cells").glob("*"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Toy, dict[str, bytes]]:
    """A toy in which a worker is killed once, and what plain `dvc repro` makes of it."""
    study = Toy(tmp_path_factory.mktemp("toy")).build({"train": ("", KILL_WORKER)}, **SMALL)
    plain = study.copy(tmp_path_factory.mktemp("plain") / "toy")
    (plain.folder / "checkpoints").mkdir()
    (plain.folder / "checkpoints" / "killed").write_text("")
    plain.run("dvc", "repro")
    return study, plain.results()


@pytest.mark.parametrize("engine", [(), ("--ray",), ("--slurm", "cluster=local")])
def test_workers_one_of_which_is_killed_make_what_dvc_repro_makes(
    killed: tuple[Toy, dict[str, bytes]],
    tmp_path: Path,
    engine: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A stage in a fork of a server is no child of DVC's to kill it.
    monkeypatch.setenv(VARIABLE, "")
    if engine:
        pytest.importorskip({"--ray": "ray", "--slurm": "submitit"}[engine[0]])
    study, expected = killed[0].copy(tmp_path / "toy"), killed[1]
    said = study.tradeoff("reproduce", "--jobs", "2", *engine)
    assert said.count("trades-resnet18-digits-0: its worker died") == 1
    assert "[2/2]" in said
    # What reads all cells is a worker's work too, and finds the same inputs as under `dvc repro`.
    assert all(f"{stage}@digits: done" in said for stage in ("transfer", "examples", "summarize"))
    assert study.results() == expected
    assert "up to date" in study.run("dvc", "status")
    assert not left_over(study)
    assert not working_in(study.folder)


def test_a_killed_trainer_is_run_again(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("", KILL_ITSELF)}, **SMALL)
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "its worker died" in said
    assert "[1/1] trades-resnet18-digits-0: done" in said


def test_a_failed_cell_is_told_and_the_others_are_kept(toy: Callable[..., Toy]) -> None:
    fail = 'if "at-" in names[0]: raise OSError("no space left on the device")'
    study = toy({"attack": ("", fail)}, **SMALL)
    said = study.tradeoff("reproduce", "--jobs", "2", ok=False)
    assert "at-resnet18-digits-0: OSError: no space left on the device" in said
    assert "checkpoints/logs/at-resnet18-digits-0.log" in said
    assert (study.folder / "models" / "digits" / "trades-resnet18-digits-0" / "best").exists()
    shown = study.tradeoff("status", ok=False)
    assert "2 cells, 1 done, 1 failed" in shown
    assert "failed: attack@at-resnet18-digits-0-" in shown
    assert ": OSError: no space left on the device" in shown


def test_an_interruption_stops_everything_and_the_next_run_goes_on(
    toy: Callable[..., Toy], own_server: None
) -> None:
    study = toy({"train": ("", 'if "trades" in names[0]: time.sleep(600)')}, **SMALL)
    process = study.start("reproduce", "--jobs", "2")
    done = study.folder / "ledgers" / "digits" / "at-resnet18-digits-0-minimal.npz"
    wait_for(done.exists)
    assert "1 done, 1 running" in study.tradeoff("status").replace("1 running, 1 done", "")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "run the same command again" in said
    assert not working_in(study.folder)
    assert not left_over(study)
    before = done.stat().st_mtime_ns

    train = study.folder / "stages" / "train.py"
    train.write_text(train.read_text().replace("sleep(600)", "sleep(0)"))
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "[1/1] trades-resnet18-digits-0: done" in said
    assert done.stat().st_mtime_ns == before


def test_what_a_killed_reproduce_left_running_is_ended_by_the_next(
    toy: Callable[..., Toy], own_server: None
) -> None:
    study = toy({"train": ("", "time.sleep(600)")}, **SMALL)
    process = study.start("reproduce", "--jobs", "2")
    states = study.folder / "checkpoints" / "state"
    wait_for(lambda: len(list(states.glob("train@*.json"))) == 2)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()  # the server that is left has it open too
    assert working_in(study.folder), "nothing was left: the test shows nothing"

    study.tradeoff("reproduce", "prepare@digits")
    assert not working_in(study.folder)
    assert not left_over(study)


def test_a_worktree_that_git_was_killed_while_making_is_made_anew(
    finished: Toy, tmp_path: Path
) -> None:
    study = finished.copy(tmp_path / "toy")
    cell = study.folder / ".dvc" / "tmp" / "cells" / "trades-resnet18-digits-0"
    study.run("git", "worktree", "add", "--quiet", "--detach", str(cell), "HEAD")
    study.run("git", "worktree", "lock", str(cell))  # as git does for the time of making it
    (cell / "dvc.yaml").unlink()
    assert worktrees.scratch(study.folder, "HEAD", cell.name, tmp_path / "cache") == cell
    assert (cell / "dvc.yaml").exists()
    worktrees.clean(study.folder)
    assert not left_over(study)


def test_uncommitted_changes_are_taken_along_and_untracked_code_is_refused(
    toy: Callable[..., Toy],
) -> None:
    study = toy(**SMALL)
    params = study.folder / "params.yaml"
    params.write_text(params.read_text().replace("beta: 6.0", "beta: 4.5"))
    extra = study.folder / "src" / "tradeoff" / "defenses" / "mine.py"
    extra.write_text("")
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0", ok=False)
    assert "src/tradeoff/defenses/mine.py" in said
    assert "git add" in said
    assert not (study.folder / "models").exists()

    extra.unlink()
    study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "beta: 4.5" in (study.folder / "dvc.lock").read_text()
    assert "beta: 4.5" in study.run("git", "diff", "params.yaml")  # and is still uncommitted


@pytest.mark.skipif(
    not os.environ.get("TRADEOFF_SLOW"), reason="needs an idle machine; TRADEOFF_SLOW=1 runs it"
)
def test_many_workers_take_their_share_of_the_time(toy: Callable[..., Toy], tmp_path: Path) -> None:
    sleeping = {"train": ("", "time.sleep(60)")}
    study = toy(sleeping, defenses=["at", "trades"], seeds=[0, 1])
    alone = study.copy(tmp_path / "alone")

    def seconds(run: Callable[[], object]) -> float:
        began = time.monotonic()
        run()
        return time.monotonic() - began

    sequential = seconds(lambda: alone.run("dvc", "repro"))
    together = seconds(lambda: study.tradeoff("reproduce", "--jobs", "2"))
    print(f"one after another {sequential:.0f} s, two workers {together:.0f} s")
    assert together <= 1.15 * sequential / 2
