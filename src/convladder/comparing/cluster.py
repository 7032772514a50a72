"""Scaling: trials on a Ray cluster. Ray decides what runs where, and runs again what was lost with its worker."""

import contextlib
import functools
import hashlib
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from convladder.comparing.trials import TOO_LATE, Late, LookOn, Outcome, Say, Trial, never, run_trial
from convladder.data.dataset import Dataset, Split
from convladder.data.loading import at_size
from convladder.errors import ConvladderError
from convladder.files import create_folder
from convladder.processors import count_processors
from convladder.runs.run import Run, create_run_folder
from convladder.training.recipes import rung_side

LOCAL = "local"
CORES = 2  # a run; more help these small networks little
RETRIES = 3
SECONDS_TO_STOP = 20  # that runs get to write their weights


def run_on_ray(
    trials: Iterable[Trial],
    dataset: Dataset,
    directory: Path,
    *,
    look_on: LookOn,  # noqa: ARG001 (what happens on other machines is told when it is over)
    say: Say,
    late: Late = never,
    address: str = LOCAL,
    storage: str | None = None,
    cores: int = CORES,
) -> Iterator[Outcome]:
    """Carry trials out as Ray tasks; a Runner.

    Args:
        trials: All are handed to Ray at once, in this order.
        dataset: What all are trained on; it is put into Ray's object store, which needs room for it.
        directory: Where the run folders end up; a path that all nodes share, unless there is a storage.
        look_on: Not used.
        say: Takes a line for the user.
        late: Whether what has not ended shall be ended.
        address: Of a running cluster, as `ray.init` takes it; "local" starts one on this machine, whose
            processes speak over loopback.
        storage: A URL that fsspec knows, where the nodes leave the run folders, and from where they are fetched.
        cores: Processor cores a run gets.

    Raises:
        ConvladderError: No such cluster, or none of its nodes has so many cores.
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; once the runs under way have written the best weights so far.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of what it will do one day
    import ray

    home = os.environ.get("HOME") if address == LOCAL else None
    handler = signal.getsignal(signal.SIGTERM)
    _connect(address)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which exits
    waiting: dict[Any, Trial] = {}
    try:
        _check_cores(cores)
        # By the side of the pictures: a rung may have its own.
        shared = functools.cache(lambda side: ray.put(_in_memory(at_size(dataset, side))))
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


def _connect(address: str) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        # Ray takes 127.0.0.1 for any address of this machine on Linux, where all of 127/8 is loopback.
        loopback = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
        with _bare_folder():
            ray.init(
                address="local",
                num_cpus=count_processors(),
                include_dashboard=False,
                _node_ip_address=loopback,
                **quiet,
            )
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConvladderError(
            f"There is no Ray cluster at {address} ({error}). Expected an address such as 10.0.0.1:6379, where "
            "`ray start --head` was called; without one, --ray starts a cluster on this machine.",
            exit_status=1,
        ) from error


@contextlib.contextmanager
def _bare_folder() -> Iterator[None]:
    """A current directory and a home for the processes of a cluster that starts meanwhile.

    Ray lets its workers import from the current directory. Without a configuration in the home it asks the addresses
    where clouds tell a machine about itself, even where its usage statistics are off.
    """
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="convladder-ray-") as folder, contextlib.chdir(folder):
        Path("ray_bootstrap_config.yaml").write_text("{}", encoding="utf-8")
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home


def _check_cores(cores: int) -> None:

    largest = max(node["Resources"].get("CPU", 0) for node in _nodes() if node["Alive"])
    if cores > largest:
        raise ConvladderError(
            f"No node of the cluster has {cores} cores for a run. Expected --cores of at most {largest:.0f}."
        )


def _nodes() -> list[dict[str, Any]]:
    import ray

    return ray.nodes()  # type: ignore[no-untyped-call]


def _in_memory(dataset: Dataset) -> Dataset:
    """The data set with arrays where it had mapped files, which other machines do not have."""
    train, validation, test = (
        Split(np.asarray(split.images), split.labels) for split in (dataset.train, dataset.validation, dataset.test)
    )
    return replace(dataset, train=train, validation=validation, test=test)


def _task(trial: Trial, dataset: Dataset, target: str, key: str, cores: int, starts: Any, home: str | None) -> str:
    """Carry out one trial on a node, and give back where its folder is: in a storage where it has a key there."""
    import ray

    if home is not None:  # of the caller, on this machine; Ray's processes were started with another
        os.environ["HOME"] = home
    ray.get(starts.note.remote(trial.label))
    # Before TensorFlow is imported, which otherwise takes every core of the node.
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = str(cores)
    from convladder.engine import import_engine

    import_engine()
    import keras

    keras.backend.clear_session()  # Ray may have run another trial in this process
    if not key:
        return str(run_trial(trial, dataset, Path(target)))
    with tempfile.TemporaryDirectory() as folder:
        return _upload(run_trial(trial, dataset, Path(folder)), target, key)


class _Starts:
    """Counts how often each trial was started: Ray starts it again where its worker was lost."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def note(self, label: str) -> None:
        self._counts[label] = self._counts.get(label, 0) + 1

    def counts(self) -> dict[str, int]:
        return self._counts


def _count_starts() -> Any:
    """A counter on this node, which lives as long as this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(_Starts).options(num_cpus=0, scheduling_strategy=here).remote()


def _watch(starts: Any, say: Say) -> Callable[[], None]:
    """What says, whenever it is called, which nodes were lost since, and which trials were started again."""
    import ray

    lost: set[str] = set()
    told: dict[str, int] = {}

    def watch() -> None:
        for node in _nodes():
            if not node["Alive"] and node["NodeID"] not in lost:
                lost.add(node["NodeID"])
                say(f"A node was lost ({node['NodeManagerAddress']}); what ran there is run again.")
        for label, count in ray.get(starts.counts.remote()).items():
            if count > told.get(label, 1):
                told[label] = count
                say(f"{label}: its worker was lost; started again ({count - 1} of {RETRIES} times).")

    return watch


def _outcome(reference: Any, trial: Trial, directory: Path, storage: str | None) -> Outcome:
    import ray

    try:
        place = ray.get(reference)
        return Outcome(trial, _download(place, storage, directory, trial.rung) if storage else Run(place))
    except ray.exceptions.RayTaskError as error:
        message = str(error.cause) if isinstance(error.cause, ValueError) else repr(error.cause)
    except ray.exceptions.RayError as error:
        message = str(error).strip().splitlines()[0]
    except OSError as error:
        message = f"its folder cannot be fetched ({error})"
    except ConvladderError:
        message = f"its folder {place} is not on this machine: name a shared path with --runs, or a URL with --storage"
    return Outcome(trial, error=message, failed=True)


def _key(identity: Mapping[str, Any]) -> str:
    """The name of its folder in a storage: a trial that is run again overwrites what it had left there."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{identity['rung']}-{identity['seed']}-{digest[:12]}"


def _upload(folder: Path, storage: str, key: str) -> str:
    import fsspec

    system, root = fsspec.core.url_to_fs(storage)
    place = f"{root.rstrip('/')}/{key}"
    system.makedirs(place, exist_ok=True)
    # run.json comes last: without it, a folder is no run.
    for path in sorted(folder.rglob("*"), key=lambda path: path.name == "run.json"):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            system.makedirs(f"{place}/{name}".rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), f"{place}/{name}")
    return place


def _download(place: str, storage: str, directory: Path, rung: str) -> Run:
    """Fetch a folder; it appears as the next of its rung when all of it is there."""
    import fsspec

    system, _ = fsspec.core.url_to_fs(storage)
    create_folder(directory)
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as temporary:
        whole = Path(temporary) / "run"
        for remote in system.find(place):
            path = whole / remote.strip("/").removeprefix(place.strip("/")).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(remote, str(path))
        _ = Run(whole).info
        folder = create_run_folder(directory, rung)
        whole.replace(folder)  # it is empty: it held the name
    return Run(folder)
