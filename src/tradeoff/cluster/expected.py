"""How long jobs will take, from how long they and others took."""

import time
from collections.abc import Iterable, Mapping
from statistics import mean

from tradeoff.cluster.plan import Job
from tradeoff.cluster.states import State, script_name


def expected_seconds(
    job: Job, states: Mapping[str, State], took: Mapping[str, float]
) -> float | None:
    """Expected seconds of a job: its last run, else the mean of jobs with the same network and
    data, else of all jobs; None if nothing is known.

    Args:
        took: seconds of the jobs that are done.
    """
    names = [script_name(stage) for stage in job.stages]
    last = [states[name] for name in names if name in states]
    if len(last) == len(job.stages) and all(state.status == "done" for state in last):
        return sum(state.seconds for state in last)
    family = job.name.split("-")[1:3]  # architecture and data set
    alike = [seconds for name, seconds in took.items() if name.split("-")[1:3] == family]
    return mean(alike or took.values()) if took else None


def seconds_left(
    running: Iterable[tuple[Job, float]],
    waiting: Iterable[Job],
    slots: int,
    states: Mapping[str, State],
    took: Mapping[str, float],
) -> float | None:
    """Seconds until all jobs are done; None if nothing is known yet.

    Args:
        running: jobs, and when they began.
        slots: how many run at once.
    """
    now = time.time()
    rests = []
    for job, began in (*running, *((job, now) for job in waiting)):
        if (seconds := expected_seconds(job, states, took)) is None:
            return None
        rests.append(max(0.0, seconds - (now - began)))
    return max(sum(rests) / slots, max(rests, default=0.0))
