"""What clusters that nobody here has would take, worked out from what scaling.py measures and from assumptions.

    python benchmarks/scaling_costs.py [docs/benchmarks/scaling.json]

It prints the tables of docs/scaling.md. An assumption is a name in capitals, below; the page lists them.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

PRICE = 0.04  # dollars for a core and an hour, with its share of memory
BOOT = 120.0  # seconds until a rented machine has started its image and joined the cluster
CORES = 2  # of a trial's worker
TRIALS, TRIAL = 1000, 600.0  # of a search; seconds of one
BYTES = 1e5  # of a photograph
GETS = 5500  # a second, of one prefix of S3, after its documentation
LISTED = 10_000  # names a second that a bucket lists: pages of 1,000, one after the other
PART = 1000  # pictures
NETWORK = 1.25e9 / 8  # bytes a second and core: 10 Gbit/s for a machine of 8
WORKERS = (1, 10, 100, 1000)
PICTURES = (1_000_000, 1_000_000_000)


def search_seconds(measured: dict[str, Any], workers: int) -> float:
    """Of all trials of a search, from the order of machines to the last result."""
    trials, tasks = measured["trials"], measured["tasks"][-1]
    first = max(0.0, trials["first_seconds"]["ray"] - trials["seconds"]["ray"])  # a process starts, data arrive
    waves = math.ceil(TRIALS / workers) * TRIAL * (1 + max(0.0, trials["overhead"]))
    return float(BOOT + first + max(waves, TRIALS / tasks["empty_tasks_per_second"]))


def predict_seconds(measured: dict[str, Any], workers: int, pictures: int, *, listed: bool) -> float:
    """Of photographs, each a file in a bucket that must be listed, or in Parquet."""
    each = measured["photograph_seconds"]
    tasks = measured["tasks"][-1]
    rate = min(workers / each, tasks["parts_per_second"] * PART, workers * NETWORK / BYTES)
    if listed:
        rate = min(rate, GETS)
    return float(BOOT + tasks["start_seconds"] + (pictures / LISTED if listed else 0) + pictures / rate)


def dollars(workers: int, cores: int, seconds: float) -> float:
    """For machines that are rented all the time."""
    return workers * cores * seconds / 3600 * PRICE


def table(measured: dict[str, Any]) -> str:
    """Both tables, and the knees, as Markdown."""
    rows = [["workers", f"{TRIALS:,} trials of {TRIAL / 60:.0f} minutes", "of it used"]]
    rows[0] += [f"{pictures:,} photographs, {how}" for pictures in PICTURES for how in ("a file each", "in Parquet")]
    for workers in WORKERS:
        seconds = search_seconds(measured, workers)
        used = TRIALS * TRIAL / (workers * seconds)
        row = [f"{workers:,}", _cell(seconds, dollars(workers, CORES, seconds)), f"{used:.0%}".replace("%", " %")]
        for pictures in PICTURES:
            for listed in (True, False):
                seconds = predict_seconds(measured, workers, pictures, listed=listed)
                row.append(_cell(seconds, dollars(workers, 1, seconds)))
        rows.append(row)
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{text}\n{knees(measured)}\n"


def measured_table(measured: dict[str, Any]) -> str:
    """What scaling.py measured, as Markdown."""
    text = (
        "| workers | cluster ready after | empty tasks a second | waiting for a second each: share of the ideal | "
        "computing for a second each: tasks a second | parts of Ray Data a second |\n" + "| --- " * 6 + "|\n"
    )
    for row in measured["tasks"]:
        text += (
            f"| {row['workers']} | {row['start_seconds']:.1f} s | {row['empty_tasks_per_second']:,.0f} | "
            f"{row['waiting_efficiency']:.2f} | {row['computing_per_second']:.2f} | {row['parts_per_second']:,.0f} |\n"
        )
    trials, predictions = measured["trials"], measured["predictions"]
    digits, photographs = predictions["digits"], predictions["photographs"]
    local, ray = (trials["seconds"][name] for name in ("local", "ray"))
    first = [trials["first_seconds"][name] - trials["seconds"][name] for name in ("local", "ray")]
    held = [
        f"{int(count):,} pictures: {found['caller_bytes'] / 1e6:.0f} MB in the command, "
        f"{found['actor_bytes'] / 1e6:.0f} MB in the actor"
        for count, found in predictions["memory"].items()
    ]
    return (
        f"{text}\nA trial takes {ray:.1f} s on Ray and {local:.1f} s in the local worker: "
        f"{_percent(trials['overhead'])} more. Before the first, {first[1]:.1f} s go into the cluster, a process and "
        f"TensorFlow, and {first[0]:.1f} s into the last two locally.\n\n"
        f"A photograph takes a core {1000 * measured['photograph_seconds']:.0f} ms.\n\n"
        f"`predict` answers for {photographs['predict']:,.1f} photographs a second, one actor of `predict --ray` with "
        f"as many cores for {photographs['one_actor']:,.1f}: {photographs['share']:.2f} of that. Of pictures of 28×28 "
        f"pixels it is {digits['predict']:,.0f} and {digits['one_actor']:,.0f}: {digits['share']:.2f}, because Ray's "
        f"own processes work on the same cores. For {'; for '.join(held)}.\n"
    )


def _percent(share: float) -> str:
    return f"{round(share, 3) + 0.0:.1%}".replace("%", " %").replace("-", "−")  # + 0.0: no −0.0


def knees(measured: dict[str, Any]) -> str:
    """At how many workers another one gives nothing."""
    tasks = measured["tasks"][-1]
    each = measured["photograph_seconds"]
    by_gets, by_parts = GETS * each, tasks["parts_per_second"] * PART * each
    return (
        f"More than {by_gets:,.0f} workers ask one prefix of S3 for more than its {GETS:,} files a second. In Parquet "
        f"the command itself is the limit, from {by_parts:,.0f} workers on: it passes on "
        f"{tasks['parts_per_second']:,.0f} parts of {PART:,} a second. A search has its knee where each worker has a "
        f"trial of its own, at {TRIALS:,}; {TRIALS:,} trials could be handed out in "
        f"{TRIALS / tasks['empty_tasks_per_second']:.1f} s."
    )


def _cell(seconds: float, price: float) -> str:
    hours = seconds / 3600
    time = f"{hours:,.0f} h" if hours >= 10 else f"{hours:.1f} h" if hours >= 1 else f"{seconds / 60:.0f} min"
    return f"{time}, ${price:,.0f}" if price >= 10 else f"{time}, ${price:.2f}"


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "docs" / "benchmarks" / "scaling.json"
    found = json.loads(Path(sys.argv[1] if len(sys.argv) > 1 else default).read_text(encoding="utf-8"))
    print(measured_table(found), table(found), sep="\n")
