"""Trials of a search as Ray tasks. Each task asks the study for a trial, so the nodes must reach where it is kept."""

import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any

from convladder.comparing.cluster import CORES, LOCAL, SECONDS_TO_STOP, begin_task, check_cores, connect, in_memory
from convladder.comparing.local import SECONDS_A_LOOK
from convladder.comparing.trials import Late
from convladder.signals import check_stop
from convladder.tuning.jobs import Job, LookOn, Parts


def carry_out_on_ray(
    jobs: Iterator[Job | None],
    parts: Parts,
    *,
    look_on: LookOn,  # noqa: ARG001 (other machines report only results)
    late: Late,
    address: str = LOCAL,
    cores: int = CORES,
) -> Iterator[None]:
    """Carry out jobs as Ray tasks, as many at a time as the cluster has cores for; a Carrier.

    Args:
        jobs: None where there is none yet.
        parts: The data. They must fit into Ray's object store.
        look_on: Not used.
        late: Whether unfinished trials must be stopped now.
        address: As of `comparing.cluster.run_on_ray`.
        cores: Processor cores per trial.

    Raises:
        ConvladderError: The cluster does not exist, or none of its nodes has enough cores.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, after the current trials wait for another call.
    """
    import ray

    home = os.environ.get("HOME") if address == LOCAL else None
    connect(address)
    waiting: list[Any] = []
    try:
        check_cores(cores)
        shared: Any = ray.put({rung: in_memory(data) for rung, data in parts.items()})
        task = ray.remote(num_cpus=cores, max_retries=0)(_task)  # the study knows which trials were lost
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        places = max(1, int(resources["CPU"]) // cores)
        following = functools.partial(next, jobs, False)
        more = True
        while more or waiting:
            check_stop()
            job: Job | bool | None = None
            while more and len(waiting) < places and (job := following()):
                waiting.append(task.remote(shared, job, cores, home))
            more = job is not False
            ready, waiting = ray.wait(waiting, timeout=SECONDS_A_LOOK) if waiting else ([], [])
            for reference in ready:
                try:
                    ray.get(reference)
                except ray.exceptions.WorkerCrashedError as error:
                    warnings.warn(f"A trial's process was lost ({error}). It is carried out again.", stacklevel=2)
                yield
            if late():
                break
    finally:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(waiting, num_returns=len(waiting), timeout=SECONDS_TO_STOP)
        ray.shutdown()


def _task(parts: Parts, job: Job, cores: int, home: str | None) -> None:
    """Carry out one job on a node."""
    begin_task(cores, home)
    from convladder.tuning.work import work

    work(parts, lambda *_: None, job)
