"""`tradeoff reproduce`: as `dvc repro`, but on many workers, and whatever happens to them."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toys import SMALL, Toy, wait_for, working_in

# Once, kill whoever has started the worker that is to be: the engine's process. The head, which is
# that of workers of this machine, is spared: there the worker itself is killed.
KILL_WORKER = """
    mark = Path("checkpoints", "killed")
    if "trades" in names[0] and not mark.exists():
        mark.parent.mkdir(exist_ok=True)
        mark.write_text("")
        import psutil
        for parent in psutil.Process().parents():
            told = " ".join(parent.cmdline())
            if told.startswith("ray::") or "submitit.core" in told:
                parent.kill()
                time.sleep(60)  # as an orphan
        os.kill(os.getpid(), 9)
"""
KILL_ITSELF = """
    mark = Path("checkpoints", "killed")
    if "trades" in names[0] and not mark.exists():
        mark.write_text("")
        os.kill(os.getpid(), 9)
"""


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
) -> None:
    if engine:
        pytest.importorskip({"--ray": "ray", "--slurm": "submitit"}[engine[0]])
    study, expected = killed[0].copy(tmp_path / "toy"), killed[1]
    said = study.tradeoff("reproduce", "--jobs", "2", *engine)
    assert said.count("trades-resnet18-digits-0: its worker died") == 1
    assert "[9/9]" in said
    # What reads all cells is a worker's work too, and finds the same inputs as under `dvc repro`.
    assert all(f"{stage}@digits: done" in said for stage in ("transfer", "examples", "summarize"))
    assert study.results() == expected
    assert study.up_to_date()
    assert not working_in(study.folder)


def test_a_killed_trainer_is_run_again(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("", KILL_ITSELF)}, **SMALL)
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "its worker died" in said
    assert "trades-resnet18-digits-0: done" in said


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


def test_an_interruption_stops_everything_and_the_next_run_goes_on(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("", 'if "trades" in names[0]: time.sleep(600)')}, **SMALL)
    process = study.start("reproduce", "--jobs", "2")
    done = study.folder / "ledgers" / "digits" / "at-resnet18-digits-0-minimal.npz"
    lock = study.folder / "dvc.lock"
    wait_for(lambda: lock.exists() and "at-resnet18-digits-0-minimal:" in lock.read_text())
    assert "1 done, 1 running" in study.tradeoff("status").replace("1 running, 1 done", "")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=40)
    assert process.returncode == 1
    assert "run the same command again" in said
    assert not working_in(study.folder)
    before = done.stat().st_mtime_ns

    train = study.folder / "stages" / "train.py"
    train.write_text(train.read_text().replace("sleep(600)", "sleep(0)"))
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "trades-resnet18-digits-0: done" in said
    assert done.stat().st_mtime_ns == before


def test_workers_end_with_a_killed_reproduce(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("", "time.sleep(600)")}, **SMALL)
    process = study.start("reproduce", "--jobs", "2")
    states = study.folder / "checkpoints" / "state"
    wait_for(lambda: len(list(states.glob("train@*.json"))) == 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not working_in(study.folder), 10)
    about = json.loads(next(states.glob("train@*.json")).read_text())
    assert about["status"] == "interrupted"


def test_uncommitted_and_untracked_code_is_what_runs(toy: Callable[..., Toy]) -> None:
    study = toy({"train": ("from tradeoff.defenses import mine", "assert mine.HERE")}, **SMALL)
    params = study.folder / "params.yaml"
    params.write_text(params.read_text().replace("beta: 6.0", "beta: 4.5"))
    (study.folder / "src" / "tradeoff" / "defenses" / "mine.py").write_text("HERE = True\n")
    study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "beta: 4.5" in (study.folder / "dvc.lock").read_text()
    assert "beta: 4.5" in study.run("git", "diff", "params.yaml")  # and is still uncommitted


def test_what_was_edited_while_it_ran_is_run_again(toy: Callable[..., Toy]) -> None:
    """Once, the code of the defense changes while its cell is trained."""
    edit = """
    mark = Path("checkpoints", "edited")
    if not mark.exists():
        mark.write_text("")
        with Path("src/tradeoff/defenses/trades.py").open("a") as file:
            file.write("CHANGED = True\\n")
"""
    study = toy({"train": ("", edit)}, defenses=["trades"], seeds=[0])
    said = study.tradeoff("reproduce", "trades-resnet18-digits-0")
    assert "train@trades-resnet18-digits-0: not kept" in said
    assert "trades-resnet18-digits-0: done" in said
    log = study.folder / "checkpoints" / "logs" / "trades-resnet18-digits-0.log"
    ran = re.findall(r"^Running stage '(\w+)", log.read_text(), flags=re.MULTILINE)
    assert ran == ["train", "attack", "attack", "attack", "train"]
    assert study.up_to_date("train@trades-resnet18-digits-0")


def test_attacks_on_a_model_of_the_same_bytes_are_not_run_again(
    finished: Toy, tmp_path: Path
) -> None:
    """The code of a defense changes: it is trained again, with the result of before."""
    study = finished.copy(tmp_path / "toy")
    with (study.folder / "src" / "tradeoff" / "defenses" / "trades.py").open("a") as file:
        file.write("CHANGED = True\n")
    said = study.tradeoff("reproduce", "digits")
    log = study.folder / "checkpoints" / "logs" / "trades-resnet18-digits-0.log"
    assert log.read_text().count("Running stage") == 1
    assert log.read_text().count("didn't change, skipping") == 3
    assert "transfer@digits: unchanged" in said
    assert study.up_to_date("report@digits")


def test_what_the_cache_has_is_not_run_again(finished: Toy, tmp_path: Path) -> None:
    study = finished.copy(tmp_path / "toy")
    for folder in ("models", "ledgers"):
        shutil.rmtree(study.folder / folder)
    (study.folder / "data" / "digits.safetensors").unlink()
    params = study.folder / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("beta: 6.0", "beta: 4.5"))
    assert "trades-resnet18-digits-0: done" in study.tradeoff("reproduce", "digits")
    params.write_text(text)
    shutil.rmtree(study.folder / "checkpoints" / "logs")
    study.tradeoff("reproduce", "digits")
    assert list((study.folder / "checkpoints" / "logs").glob("t*.log")) == []
    assert study.results() == finished.results()


def test_dvc_lock_is_as_dvc_writes_it(toy: Callable[..., Toy], tmp_path: Path) -> None:
    study = toy(defenses=["at"], seeds=[0])
    alone = study.copy(tmp_path / "alone")
    alone.run("dvc", "repro", "report@digits")
    study.tradeoff("reproduce", "digits")
    read = [(toy.folder / "dvc.lock").read_text() for toy in (study, alone)]
    assert read[0] == read[1]


def test_a_background_job_of_a_shell_stops_too(toy: Callable[..., Toy]) -> None:
    """A shell has such a job ignore Ctrl-C, and its children with it: `nohup make test &`."""
    study = toy({"train": ("", "time.sleep(600)")}, **SMALL)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = study.start("reproduce", "--jobs", "2")
    finally:
        signal.signal(signal.SIGINT, before)
    states = study.folder / "checkpoints" / "state"
    wait_for(lambda: len(list(states.glob("train@*.json"))) == 2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=40)
    assert time.monotonic() - began < 10, "they were killed"
    assert not working_in(study.folder)


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
