"""Predictions on a Ray cluster. Ray Data hands the parts to the actors, and those of a lost node to others.

docs/scale.md says why not by its own checkpoints.
"""

import contextlib
import hashlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from convladder.cluster import LOCAL, check_cores, connect, nodes
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.inference.classifier import Classifier
from convladder.predicting.actor import Actor, Job
from convladder.predicting.answers import JSON, PARQUET
from convladder.predicting.places import Place
from convladder.predicting.plan import Plan, make_plan
from convladder.predicting.sources import list_inputs

FORMATS = {"parquet": PARQUET, "json": JSON}
MOST_BLOCKS = 10_000  # of Ray Data's: beyond so many parts, a block has several
PARTS_AT_ONCE = 2  # of an actor: one is read, decoded or written while the network answers for the other
SECONDS_A_LOOK = 1.0  # for lost nodes
SECONDS_TO_END = 20  # for a thread of Ray Data
MEMORY = "memory://"

Say = Callable[[str], object]
Show = Callable[[int, int], object]  # takes how many pictures are done, and how many there are


class Counts(NamedTuple):
    """What a job has come to.

    Attributes:
        pictures: How many have an answer in the output.
        unreadable: How many of these answers are errors.
    """

    pictures: int
    unreadable: int


def predict_on_cluster(
    model: str | Path,
    sources: str | Path | Iterable[str | Path],
    output: str | Path,
    *,
    address: str = LOCAL,
    format: str = "parquet",
    top: int | None = None,
    cores: int = 1,
    gpus: float = 0,
    column: str | None = None,
    any_cost: bool = False,
    null: bool = False,
    say: Say = print,
    show: Show = lambda done, of: None,  # noqa: ARG005
) -> Counts:
    """Classify any number of pictures on a Ray cluster. Called again after any end, it goes on.

    Args:
        model: A run folder, or an .onnx file. It is sent to the nodes.
        sources: Pictures, folders, patterns, .txt files with a path on each line, Parquet files or folders of them, or
            one of these; on a disk that all nodes share, or at URLs that fsspec knows.
        output: Folder for the answers, on a disk that all nodes share, or its URL. It gets files of some 1,000 answers.
        address: Address of a running cluster, as `ray.init` takes it. "local" starts one on this machine.
        format: "parquet", or "json" for what `predict --json` prints.
        top: Number of classes in an answer; by default all.
        cores: Processor cores for each actor, which holds one classifier.
        gpus: GPUs for each actor; 0.25 lets four share one. They need ONNX Runtime's build for CUDA on the nodes.
        column: For Parquet: the column that holds the pictures' bytes or their paths. By default the only one that can.
        any_cost: As for `Classifier`.
        null: Whether paths on standard input ("-") end in NUL.
        say: Takes a line for the user.
        show: Called with the number of pictures that are done and that of all, after each part.

    Returns:
        How many pictures have an answer, and how many could not be read.

    Raises:
        ConvladderError: The model cannot be used, a source is empty, the output holds something else, there is no such
            cluster, or a node cannot read or write.
    """
    check_choice("format", format, FORMATS)
    check_range("cores", cores, 1, 1024)
    check_range("GPUs", gpus, 0, 1024)
    if gpus > 1 and gpus != int(gpus):
        raise ConvladderError(f"A classifier cannot have {gpus:g} GPUs. Expected a share of one, or a whole number.")
    import ray.data

    listed = [sources] if isinstance(sources, str | Path) else list(sources)
    names = [os.fspath(source) for source in listed]
    for name in (os.fspath(output), *names):
        if name.startswith(MEMORY):
            raise ConvladderError(f"{name} is memory of one process. Expected a place that all nodes see.")
    classifier = Classifier(model, any_cost=any_cost)
    content = classifier.path.read_bytes()
    place = Place(os.fspath(output))
    work = {"model": hashlib.sha256(content).hexdigest(), "format of answers": format, "top": top}
    inputs = list_inputs(names, say, column=column, null=null)
    plan = make_plan(place, inputs, work, FORMATS[format])
    done, unreadable = plan.done, plan.unreadable
    if plan.parts:
        if done:
            say(f"{done:,} of {plan.pictures:,} answers are there already.")
        home = connect(address)
        try:
            room = check_cores(cores, "an actor", gpus)
            absolute = place.name if "://" in place.name else os.path.abspath(place.name)
            job = Job(absolute, FORMATS[format], top, cores, gpus, os.getcwd(), any_cost, home, classifier.path.name)
            show(done, plan.pictures)
            with _own_threads(), contextlib.closing(_carry_out(plan, job, room, ray.put(content), say)) as results:
                for pictures, errors in results:
                    done, unreadable = done + pictures, unreadable + errors
                    show(done, plan.pictures)
        finally:
            ray.shutdown()
        lacking = {part.name(FORMATS[format]) for part in plan.parts} - place.names()
        if lacking:
            raise ConvladderError(
                f"{place.name} lacks {len(lacking):,} files, such as {min(lacking)}, which were written on a node. "
                "Expected a folder that all nodes share, or a URL. The same command writes what is lacking.",
                exit_status=1,
            )
    return Counts(done, unreadable)


def _carry_out(plan: Plan, job: Job, room: int, model: Any, say: Say) -> Generator[tuple[int, int], None, None]:
    """Have all parts done. For each, in the order in which they end, its pictures and errors."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray sets what it deprecates itself
        context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    parts = ray.data.from_items(
        [asdict(part) for part in plan.parts], override_num_blocks=min(MOST_BLOCKS, len(plan.parts))
    )
    results = parts.map_batches(
        Actor,
        batch_size=1,
        fn_constructor_args=(job, [model]),
        num_cpus=job.cores,
        num_gpus=job.gpus or None,
        compute=ray.data.ActorPoolStrategy(
            size=max(1, min(room, len(plan.parts))),
            max_concurrent_calls_per_actor=PARTS_AT_ONCE,
            enable_true_multi_threading=True,
        ),
    )
    lost = {node["NodeID"] for node in nodes() if not node["Alive"]}  # before this job

    def look() -> None:
        for node in nodes():
            if not node["Alive"] and node["NodeID"] not in lost:
                lost.add(node["NodeID"])
                say(f"A node was lost ({node['NodeManagerAddress']}). Its parts are done again.")

    looked = time.monotonic()
    rows: Any = iter(results.iter_batches(batch_size=1, prefetch_batches=0))
    with contextlib.closing(rows):
        for result in rows:
            if fault := str(result["fault"][0]):
                raise ConvladderError(fault, exit_status=1)
            if time.monotonic() - looked > SECONDS_A_LOOK:
                look()
                looked = time.monotonic()
            yield int(result["pictures"][0]), int(result["errors"][0])
    look()


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Wait at the end for the threads that were started in this context.

    Ray ends the process, with status 1 and without a word, if one of Ray Data's threads asks it for something after
    its shutdown. The one that prefetches never ends, but has nothing to ask for.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            if thread.name != "Prefetcher":
                thread.join(SECONDS_TO_END)
