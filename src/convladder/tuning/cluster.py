"""Trials of a search as Ray tasks. Each task asks the study for a trial, so the nodes must reach where it is kept."""

import contextlib
import functools
import time
import warnings
from collections.abc import Iterator
from typing import Any

from convladder.cluster import LOCAL, check_cores, connect
from convladder.comparing.cluster import CORES, SECONDS_TO_STOP, begin_task, in_memory
from convladder.comparing.local import SECONDS_A_LOOK
from convladder.comparing.trials import Late
from convladder.errors import ConvladderError
from convladder.signals import check_stop
from convladder.tuning.jobs import Carrier, Job, LookOn, Parts

MOST_LOST = 100  # trials, before the cluster is given up


@contextlib.contextmanager
def on_ray(address: str = LOCAL, cores: int = CORES) -> Iterator[Carrier]:
    """A Carrier that carries out jobs as Ray tasks, as many at a time as the cluster has cores for.

    Args:
        address: As of `comparing.cluster.run_on_ray`.
        cores: Processor cores per trial.

    Raises:
        ConvladderError: The cluster does not exist, or none of its nodes has enough cores.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, after the current trials wait for another call.
    """
    import ray

    home = connect(address)
    try:
        check_cores(cores, "a trial")
        yield functools.partial(_carry_out, cores=cores, home=home)
    finally:
        ray.shutdown()


def _carry_out(
    jobs: Iterator[Job | None],
    parts: Parts,
    *,
    look_on: LookOn,  # noqa: ARG001 (other machines report only results)
    late: Late,
    cores: int,
    home: str | None,
) -> Iterator[None]:
    import ray

    shared: Any = ray.put({rung: in_memory(data) for rung, data in parts.items()})
    task = ray.remote(num_cpus=cores, max_retries=0)(_task)  # the study knows which trials were lost
    gone = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    waiting: list[Any] = []
    more, lost = True, 0
    try:
        while (more or waiting) and not late():
            check_stop()
            resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
            places = max(1, int(resources["CPU"]) // cores)  # nodes come and go
            while more and len(waiting) < places:
                try:
                    job = next(jobs)
                except StopIteration:
                    more = False
                    break
                if job is None:
                    break
                waiting.append(task.remote(shared, job, cores, home))
            if not waiting:
                time.sleep(SECONDS_A_LOOK if more else 0)
                continue
            ready, waiting = ray.wait(waiting, timeout=SECONDS_A_LOOK)
            for reference in ready:
                try:
                    ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from None  # its text is a traceback of the node
                except gone as error:
                    lost += 1
                    reason = str(error).strip().splitlines()[0].rstrip(".")
                    if lost > MOST_LOST:
                        raise ConvladderError(
                            f"{lost} trials were lost, the last one because: {reason}. Expected a cluster whose "
                            "processes stay. The trials that have ended are kept.",
                            exit_status=1,
                        ) from error
                    warnings.warn(f"A trial was lost ({reason}). It is carried out again.", stacklevel=2)
                yield
    finally:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(waiting, num_returns=len(waiting), timeout=SECONDS_TO_STOP)


def _task(parts: Parts, job: Job, cores: int, home: str | None) -> None:
    """Carry out one job on a node."""
    begin_task(cores, home)
    from convladder.tuning.work import work

    work(parts, lambda *_: None, job)
