"""Stages that run in a fork of a process with torch imported: nobody should notice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tradeoff.running.warm import VARIABLE

ROOT = Path(__file__).parents[2]

# A stage in small; `own` is a module beside it, as a study's code is.
SCRIPT = f"""
import os, signal, sys, threading, time
sys.path.insert(0, {str(ROOT / "src")!r})
from tradeoff.running.warm import VARIABLE, ask
if VARIABLE in os.environ and sys.argv[1] == "deaf":
    # The system's call of the main thread does not notice a signal that another one takes.
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
if VARIABLE in os.environ and (status := ask(os.environ[VARIABLE])) is not None:
    sys.exit(status)
import own
from pathlib import Path
print(own.VALUE, os.environ.get("COLOUR"), sys.argv[1:], os.getcwd(), flush=True)
print("torch" in sys.modules, file=sys.stderr)
if sys.argv[1] in ("wait", "deaf"):
    try:
        Path("pid").write_text(str(os.getpid()))
        for _ in range(600):  # in one call a signal could come too early to end it
            time.sleep(0.05)
    except KeyboardInterrupt:
        sys.exit("interrupted")
if sys.argv[1] == "raise":
    raise ValueError("no good")
sys.exit({{"three": 3, "words": "bad news"}}.get(sys.argv[1]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(VARIABLE, raising=False)  # tests of tests/cluster leave theirs
    (tmp_path / "own.py").write_text("VALUE = 'one'\n")
    (tmp_path / "stage.py").write_text(SCRIPT)
    return tmp_path


def start(folder: Path, word: str, server: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "stage.py", word],
        cwd=folder,
        env={**os.environ, "COLOUR": "red", **server},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("word", "status", "message"),
    [("go", 0, ""), ("three", 3, ""), ("words", 1, "bad news"), ("raise", 1, "ValueError")],
)
def test_output_and_status_are_those_of_the_script_itself(
    warm_server: dict[str, str], folder: Path, word: str, status: int, message: str
) -> None:
    for environment, torch_is_there in ((warm_server, "True"), ({}, "False")):
        process = start(folder, word, environment)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (status, f"one red ['{word}'] {folder}\n")
        assert err.splitlines()[0] == torch_is_there and message in err


def test_the_code_is_read_when_the_stage_starts(warm_server: dict[str, str], folder: Path) -> None:
    for value in ("one", "another"):
        (folder / "own.py").write_text(f"VALUE = {value!r}\n")
        assert start(folder, "go", warm_server).communicate(timeout=60)[0].startswith(value)


def child(folder: Path) -> int:
    for _ in range(300):
        if (folder / "pid").exists() and (text := (folder / "pid").read_text()):
            return int(text)
        time.sleep(0.05)
    raise AssertionError("the stage did not start")


@pytest.mark.parametrize("word", ["wait", "deaf"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_stage(
    warm_server: dict[str, str], folder: Path, number: signal.Signals, word: str
) -> None:
    """Also one that does not interrupt what the stage that asked is waiting in."""
    process = start(folder, word, warm_server)
    child(folder)
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert process.returncode != 0
    assert ("interrupted" in err) == (number == signal.SIGINT)


def test_a_stage_ends_with_the_one_that_asked(warm_server: dict[str, str], folder: Path) -> None:
    process = start(folder, "wait", warm_server)
    number = child(folder)
    process.kill()
    process.communicate()
    for _ in range(100):
        if not Path(f"/proc/{number}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the stage goes on though nobody waits for it")


START = """
import os, signal, subprocess, sys, time
from pathlib import Path
from tradeoff.running import warm
"""
# Whoever has the server listen, and whoever waits for that, is killed.
LISTENING = """
with warm.warm() as environment:
    print(environment[warm.VARIABLE], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
IMPORTING = """
start = subprocess.Popen
def started(command, **options):
    process = start(command, **options)
    print(command[3], flush=True)
    while "libtorch" not in Path("/proc", str(process.pid), "maps").read_text():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
subprocess.Popen = started
with warm.warm():
    pass
"""


@pytest.mark.parametrize("script", [LISTENING, IMPORTING], ids=["listening", "importing"])
def test_the_server_ends_with_the_one_that_started_it(script: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", START + script]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    path = done.stdout.strip()
    assert path
    for _ in range(200):
        serving = [p for p in psutil.process_iter(["cmdline"]) if path in (p.info["cmdline"] or ())]
        if not serving and not Path(path).parent.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"left: {serving}, {list(Path(path).parent.glob('*'))}")


def test_without_a_server_the_stage_runs_by_itself(folder: Path) -> None:
    process = start(folder, "go", {VARIABLE: str(folder / "nothing")})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[0]) == (0, "False")
    assert out.startswith("one red")
