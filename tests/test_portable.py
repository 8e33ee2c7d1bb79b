"""The same bytes on processors that are not here: two are emulated, one of Intel's, one of AMD's.

Neither has AVX-512; their makers and caches differ, by which libraries choose kernels as well.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("digests.py")
EMULATOR = shutil.which("qemu-x86_64")
PROCESSORS = ("Haswell-v1", "EPYC-Rome")


def started(*before: str, threads: str) -> subprocess.Popen[str]:
    """The script's process, with everything in its environment that might lead it astray."""
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    root = SCRIPT.parents[1]
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root)])
    command = [*before, sys.executable, str(SCRIPT)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process: subprocess.Popen[str]) -> list[str]:
    """What it printed, a step or an attack a line."""
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-2000:]
    return output.splitlines()


def test_the_number_of_threads_changes_nothing() -> None:
    assert lines(started(threads="1")) == lines(started(threads="3"))


@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64: apt-get install qemu-user")
def test_every_step_and_attack_is_the_same_on_other_processors() -> None:
    assert EMULATOR is not None
    others = [started(EMULATOR, "-cpu", name, threads="1") for name in PROCESSORS]
    here = lines(started(threads="2"))
    assert len(here) > 20
    for name, process in zip(PROCESSORS, others, strict=True):
        assert lines(process) == here, name
