"""The same bytes on a processor that is not here, which is emulated: AMD's where this is Intel's.

It has no AVX-512; makers and caches differ, by which libraries choose kernels as well.
TRADEOFF_SLOW=1 emulates one of each maker.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("digests.py")
EMULATOR = shutil.which("qemu-x86_64")
CPUINFO = Path("/proc/cpuinfo")
INTEL = CPUINFO.exists() and "GenuineIntel" in CPUINFO.read_text()
PROCESSORS = ["EPYC-Rome" if INTEL else "Haswell-v1"]
if os.environ.get("TRADEOFF_SLOW"):
    PROCESSORS = ["EPYC-Rome", "Haswell-v1"]


def printed(*before: str, threads: str) -> list[str]:
    """What the script prints, a step or an attack a line, in an environment to lead it astray."""
    root = SCRIPT.parents[1]
    environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root)])
    done = subprocess.run(
        [*before, sys.executable, str(SCRIPT)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def here() -> list[str]:
    """What this processor makes of it with one thread."""
    lines = printed(threads="1")
    assert len(lines) > 20
    return lines


def test_the_number_of_threads_changes_nothing(here: list[str]) -> None:
    assert printed(threads="3") == here


@pytest.mark.skipif(EMULATOR is None, reason="needs qemu-x86_64: apt-get install qemu-user")
@pytest.mark.parametrize("name", PROCESSORS)
def test_every_step_and_attack_is_the_same_on_other_processors(name: str, here: list[str]) -> None:
    assert printed(str(EMULATOR), "-cpu", name, threads="1") == here
