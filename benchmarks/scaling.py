"""What Ray costs on this machine, and what one to four workers give; docs/scaling.md is worked out from that.

    python benchmarks/scaling.py [--rounds 2] [--seconds 30] [--output docs/benchmarks]

It measures, on a quiet machine in a quarter of an hour:

* tasks, on clusters of one to four workers: how many empty ones a second, what becomes of tasks that wait and of tasks
  that compute for a second, and how many empty parts a second Ray Data passes to an actor;
* trials of so many seconds, three in a row, in the local worker and on Ray, in turn;
* a photograph on one core: decoded and classified by `transfer`;
* `predict` and `predict --ray` with one actor, in turn, and what they hold in memory (scaling_predictions.py).
"""

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from output import fill, prepare
from scaling_costs import measured_table, table
from serving import processor, trained

import convladder as cl
from convladder.processors import count_processors

WORKERS = (1, 2, 3, 4)
EMPTY, WAITING, PARTS = 2000, 8, 2000  # tasks; tasks a worker; parts
TRIALS = 3  # in a row: the first also starts its process
PREDICTIONS = Path(__file__).with_name("scaling_predictions.py")
PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


def measure_tasks(workers: int) -> dict[str, float]:
    """On a new cluster of so many workers. It ends with this process."""
    import ray
    import ray.data

    began = time.perf_counter()
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)

    def timed(act: Callable[[], object]) -> float:
        began = time.perf_counter()
        act()
        return time.perf_counter() - began

    @ray.remote(num_cpus=1)
    def empty() -> None:
        pass

    @ray.remote(num_cpus=1)
    def wait() -> None:
        time.sleep(1)

    @ray.remote(num_cpus=1)
    def compute() -> None:
        ends = time.thread_time() + 1
        while time.thread_time() < ends:
            pass

    class Nothing:
        def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
            return rows

    def pass_parts() -> None:
        parts = ray.data.from_items([{"part": number} for number in range(PARTS)], override_num_blocks=PARTS)
        for _ in parts.map_batches(Nothing, batch_size=1, num_cpus=1, concurrency=workers).iter_rows():
            pass

    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.get([wait.remote() for _ in range(workers)])  # starts the processes
    started = time.perf_counter() - began
    tasks = WAITING * workers
    return {
        "workers": workers,
        "start_seconds": started - 1,
        "empty_tasks_per_second": EMPTY / timed(lambda: ray.get([empty.remote() for _ in range(EMPTY)])),
        "waiting_efficiency": WAITING / timed(lambda: ray.get([wait.remote() for _ in range(tasks)])),
        "computing_per_second": tasks / timed(lambda: ray.get([compute.remote() for _ in range(tasks)])),
        "parts_per_second": PARTS / timed(pass_parts),
    }


def measure_trials(seconds: float, rounds: int) -> dict[str, Any]:
    """Seconds until the first of three trials has ended, and from one end to the next."""
    from convladder.comparing.cluster import run_on_ray
    from convladder.comparing.local import run_in_processes
    from convladder.comparing.planning import plan
    from convladder.training.recipes import default_recipe

    mnist = cl.load_dataset("mnist")
    runners: dict[str, Any] = {"local": run_in_processes, "ray": run_on_ray}

    def carry_out(runner: Any, epochs: float, count: int) -> list[float]:
        trials = plan(mnist, ["pool"], lambda *_: replace(default_recipe("pool"), epochs=epochs), seeds=count)
        with tempfile.TemporaryDirectory() as folder:
            began, ends = time.perf_counter(), []
            for outcome in runner(trials, mnist, Path(folder), look_on=lambda _: (), say=lambda _: None):
                assert outcome.run is not None, outcome.error
                ends.append(time.perf_counter() - began)
        return ends

    probe = carry_out(run_in_processes, 1, 2)
    epochs = round(max(0.1, seconds / (probe[1] - probe[0])), 1)
    measured: dict[str, list[list[float]]] = {name: [] for name in runners}
    for number in range(rounds):
        for name in sorted(runners, reverse=bool(number % 2)):
            measured[name].append(carry_out(runners[name], epochs, TRIALS))
    each = {
        name: statistics.median((ends[-1] - ends[0]) / (TRIALS - 1) for ends in several)
        for name, several in measured.items()
    }
    return {
        "epochs": epochs,
        "ends": measured,
        "first_seconds": {name: statistics.median(ends[0] for ends in several) for name, several in measured.items()},
        "seconds": each,
        "overhead": each["ray"] / each["local"] - 1,
    }


def train_on_photographs(folder: Path) -> Path:
    """A run of `transfer` on the clothes."""
    command = [sys.executable, "-m", "convladder", "train", "--data", "clothes", "--runs", str(folder / "photographs")]
    subprocess.run(command, check=True)
    return next((folder / "photographs").glob("transfer-*"))


def measure_photograph(run: Path, rounds: int) -> float:
    """Seconds of one core for a photograph of the clothes: decoded and classified."""
    classifier = cl.Classifier(run, threads=1)
    photographs = sorted((Path(cl.__file__).parent / "data" / "clothes").rglob("*.jpg"))
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        classifier.answer(np.stack([classifier.decode(photograph) for photograph in photographs]))
        seconds.append((time.process_time() - began) / len(photographs))
    return statistics.median(seconds)


def measure_predictions(digits: Path, photographs: Path, rounds: int) -> dict[str, Any]:
    """What scaling_predictions.py prints for two runs."""
    command = [sys.executable, *map(str, (PREDICTIONS, digits, photographs)), "--rounds", str(rounds)]
    printed: dict[str, Any] = json.loads(subprocess.check_output(command, encoding="utf-8").splitlines()[-1])
    return printed


def main() -> None:
    """Measure, print and write; a part alone in a process of its own, because a cluster ends with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30.0, help="of a trial")
    parser.add_argument("--workers", type=int, help="only the tasks, on so many")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.workers:
        print(json.dumps(measure_tasks(arguments.workers)))
        return
    if arguments.output:
        prepare(parser, arguments.output)
    tasks = [
        json.loads(subprocess.check_output([sys.executable, __file__, "--workers", str(count)])) for count in WORKERS
    ]
    with tempfile.TemporaryDirectory() as folder:
        photographs = train_on_photographs(Path(folder))
        result = {
            "machine": {"processor": processor(), "cores": count_processors()},
            "tasks": tasks,
            "trials": measure_trials(arguments.seconds, arguments.rounds),
            "photograph_seconds": measure_photograph(photographs, arguments.rounds),
            "predictions": measure_predictions(trained(folder), photographs, arguments.rounds),
        }
    print(json.dumps(result, indent=2))
    if arguments.output:
        (arguments.output / "scaling.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        if arguments.output.resolve() == PAGE.parent / "benchmarks":
            result = json.loads(json.dumps(result))  # keys as in the file
            fill(PAGE, "measured", measured_table(result))
            fill(PAGE, "costs", table(result))


if __name__ == "__main__":
    main()
