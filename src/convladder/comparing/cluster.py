"""Trials on a Ray cluster. Ray decides which node runs a trial, and repeats trials that were lost with a worker."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convladder.cluster import LOCAL, check_cores, connect, nodes
from convladder.comparing.trials import TOO_LATE, Late, LookOn, Outcome, Say, Trial, never, run_trial
from convladder.data.dataset import Dataset, Split
from convladder.data.loading import at_size
from convladder.errors import ConvladderError
from convladder.files import create_folder, scratch_folder
from convladder.runs.run import Run, number_run
from convladder.runs.storage import download, upload
from convladder.training.recipes import rung_side
from convladder.urls import check_bucket, open_url

CORES = 2  # per run; more help these small networks little
RETRIES = 3
SECONDS_TO_STOP = 20  # for runs to write their weights


def run_on_ray(
    trials: Iterable[Trial],
    dataset: Dataset,
    directory: Path,
    *,
    look_on: LookOn,  # noqa: ARG001 (other machines report only results)
    say: Say,
    late: Late = never,
    address: str = LOCAL,
    storage: str | None = None,
    cores: int = CORES,
) -> Iterator[Outcome]:
    """Carry out trials as Ray tasks; a Runner.

    Args:
        trials: All of them are submitted to Ray at once, in this order.
        dataset: The training data. They must fit into Ray's object store.
        directory: Folder for the run folders: a path that all nodes share, unless there is a storage.
        look_on: Not used.
        say: Takes a line for the user.
        late: Whether unfinished trials must be stopped now.
        address: Address of a running cluster, as `ray.init` takes it. "local" starts one on this machine, whose
            processes talk over loopback.
        storage: A URL that fsspec supports. Nodes upload the run folders there, and this machine fetches them.
        cores: Processor cores per run.

    Raises:
        ConvladderError: The cluster does not exist, or none of its nodes has enough cores.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, after the current runs have written their best weights so far.
    """
    import ray

    if storage:
        check_bucket(storage)
    home = connect(address)
    waiting: dict[Any, Trial] = {}
    try:
        check_cores(cores, "a run")
        # By image size, because a rung can have its own.
        shared = functools.cache(lambda side: ray.put(in_memory(at_size(dataset, side))))
        starts, fingerprint = _count_starts(), dataset.fingerprint
        task = ray.remote(num_cpus=cores, max_retries=RETRIES)(_task)
        target = storage or str(directory.resolve())
        waiting = {
            task.options(name=trial.label).remote(
                trial,
                shared(rung_side(trial.rung, dataset)),
                target,
                _key(trial.identity(fingerprint, dataset.resize)) if storage else "",
                cores,
                starts,
                home,
            ): trial
            for trial in trials
        }
        watch = _watch(starts, say)
        while waiting and not late():
            ready, _ = ray.wait(list(waiting), timeout=1)
            watch()
            for reference in ready:
                yield _outcome(reference, waiting.pop(reference), directory, storage)
        for reference, trial in waiting.items():
            ray.cancel(reference, force=True)
            yield Outcome(trial, error=TOO_LATE)
    except KeyboardInterrupt:
        for reference in waiting:
            ray.cancel(reference)
        if waiting:
            ray.wait(list(waiting), num_returns=len(waiting), timeout=SECONDS_TO_STOP)
        raise
    finally:
        ray.shutdown()


def in_memory(dataset: Dataset) -> Dataset:
    """The data set with arrays instead of mapped files, which other machines do not have."""
    train, validation, test = (
        Split(np.asarray(split.images), split.labels) for split in (dataset.train, dataset.validation, dataset.test)
    )
    return replace(dataset, train=train, validation=validation, test=test)


def begin_task(cores: int, home: str | None) -> None:
    """Prepare a process of a cluster: the caller's home, if it is on this machine, and TensorFlow on so many cores."""
    if home is not None:  # Ray's processes were started with another
        os.environ["HOME"] = home
    # Before TensorFlow is imported, or it takes every core of the node.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(cores)
    from convladder.engine import import_engine

    import_engine()


def _task(trial: Trial, dataset: Dataset, target: str, key: str, cores: int, starts: Any, home: str | None) -> str:
    """Carry out one trial on a node. Returns the path of its folder, or its key in the storage."""
    import ray

    ray.get(starts.note.remote(trial.label))
    begin_task(cores, home)
    import keras

    keras.backend.clear_session()  # Ray can reuse the process of another trial
    if not key:
        return str(run_trial(trial, dataset, Path(target)))
    with scratch_folder() as folder:
        system, root = open_url(target)
        place = f"{root}/{key}"
        upload(run_trial(trial, dataset, folder), system, place)
        return place


class _Starts:
    """Counts the starts of each trial. Ray starts a trial again if its worker was lost."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def note(self, label: str) -> None:
        self._counts[label] = self._counts.get(label, 0) + 1

    def counts(self) -> dict[str, int]:
        return self._counts


def _count_starts() -> Any:
    """A counter on this node that lives as long as this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Starts).options(num_cpus=0, scheduling_strategy=here).remote()


def _watch(starts: Any, say: Say) -> Callable[[], None]:
    """A function that reports which nodes were lost, and which trials were restarted, since its last call."""
    import ray

    lost: set[str] = set()
    told: dict[str, int] = {}

    def watch() -> None:
        for node in nodes():
            if not node["Alive"] and node["NodeID"] not in lost:
                lost.add(node["NodeID"])
                say(f"A node was lost ({node['NodeManagerAddress']}). Its runs are started again.")
        for label, count in ray.get(starts.counts.remote()).items():
            if count > told.get(label, 1):
                told[label] = count
                say(f"{label}: its worker was lost. It was started again ({count - 1} of {RETRIES} times).")

    return watch


def _outcome(reference: Any, trial: Trial, directory: Path, storage: str | None) -> Outcome:
    import ray

    try:
        place = ray.get(reference)
        return Outcome(trial, _fetch(place, storage, directory, trial.rung) if storage else Run(place))
    except ray.exceptions.RayTaskError as error:
        message = str(error.cause) if isinstance(error.cause, ValueError) else repr(error.cause)
    except ray.exceptions.RayError as error:
        message = str(error).strip().splitlines()[0]
    except OSError as error:
        message = f"could not fetch its folder ({error})"
    except ConvladderError:
        message = f"its folder {place} is not on this machine: use a shared path for --runs, or a URL for --storage"
    return Outcome(trial, error=message, failed=True)


def _key(identity: Mapping[str, Any]) -> str:
    """The name of its folder in a storage. A repeated trial overwrites the folder of its last attempt."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity['rung']}-{identity['seed']}-{digest[:12]}"


def _fetch(place: str, storage: str, directory: Path, rung: str) -> Run:
    """Fetch a folder. It appears as the next run of its rung when it is complete."""
    create_folder(directory)
    with scratch_folder(directory) as scratch:
        return Run(number_run(download(open_url(storage)[0], place, scratch / "run"), directory, rung))
