"""Jobs that a killed head has left in Slurm, which is pretended here: a job is a process."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from toys import Toy, wait_for

from tradeoff.cluster import slurm
from tradeoff.cluster.clone import CannotStart
from tradeoff.cluster.engines import Submitit

# A job works elsewhere, in nobody's process group, and knows nothing of who has submitted it.
COMMANDS = {
    "srun": "",
    "sacct": "",
    "sbatch": """
name=$(sed -n 's/^#SBATCH --job-name=//p' "$1")
(cd / && exec env -i sleep 600) > /dev/null 2>&1 &
echo "$! $name" >> "$QUEUE"
echo "Submitted batch job $!"
""",
    "squeue": """
for word; do case $word in --name=*) wanted=${word#--name=};; esac; done
while read -r id name; do
    [ "$name" = "$wanted" ] && kill -0 "$id" 2> /dev/null && echo "$id"
done < "$QUEUE"
exit 0
""",
    "scancel": 'kill "$@"',
}
CELL = "trades-resnet18-digits-0"


class Queue:
    """The jobs that were submitted."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def jobs(self) -> list[int]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [int(line.split()[0]) for line in lines]

    @property
    def living(self) -> list[int]:
        return [job for job in self.jobs if psutil.pid_exists(job)]


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    folder = tmp_path / "commands"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    queue = Queue(tmp_path / "queue")
    yield queue
    for job in queue.living:
        psutil.Process(job).kill()


def test_jobs_of_a_killed_head_are_cancelled_by_the_next(
    toy: Callable[..., Toy], queue: Queue
) -> None:
    pytest.importorskip("submitit")
    study = toy(defenses=["at", "trades"], seeds=[0])
    study.run("dvc", "repro", "prepare@digits")
    process = study.start("reproduce", "--jobs", "1", CELL, "--slurm")
    wait_for(lambda: len(queue.jobs) == 1)
    process.kill()
    process.communicate()
    (job,) = queue.living

    said = study.tradeoff("reproduce", "prepare@digits")
    assert f"cancelling what an earlier run has left in Slurm: jobs {job}" in said
    assert queue.living == []
    assert not (study.folder / slurm.SUBMITTED).exists()


def test_only_the_jobs_of_this_clone_are_ended(queue: Queue, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    ours, other = tmp_path / "ours", tmp_path / "other"
    for root in (ours, other):
        Submitit(root, [], None).start("cell", ("folder", [], "log"))
    job, another = queue.jobs
    said: list[str] = []
    slurm.end_left_over(ours, said.append)
    assert queue.living == [another]
    assert str(job) in said[0] and str(another) not in said[0]
    slurm.end_left_over(ours, said.append)
    assert len(said) == 1


def test_where_slurm_cannot_be_asked_nothing_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    slurm.end_left_over(tmp_path, print)  # nothing was ever submitted
    (tmp_path / slurm.SUBMITTED).parent.mkdir(parents=True)
    (tmp_path / slurm.SUBMITTED).touch()
    with pytest.raises(CannotStart, match="no squeue here"):
        slurm.end_left_over(tmp_path, print)


def test_a_name_of_ones_own_is_refused(queue: Queue, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    with pytest.raises(CannotStart, match="known by it"):
        Submitit(tmp_path, ["name=mine"], None)
