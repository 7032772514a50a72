"""The tables of docs/benchmarks.md, from the files in docs/benchmarks/.

python benchmarks/tables.py         # writes them into the page
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from output import fill

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
ACCURACIES = ("article", "990", "995", "997", "ensemble", "tiny")  # the targets of accuracy.py
ROWS = {
    "requests a second, one at a time": ("requests_per_second_1", 1, "{:,.0f}"),
    "its 99th percentile, ms": ("p99_seconds_1", 1000, "{:.2f}"),
    "requests a second, 64 at a time": ("requests_per_second_64", 1, "{:,.0f}"),
    "its 99th percentile at 64, ms": ("p99_seconds_64", 1000, "{:.1f}"),
    "images a second, 64 in each request": ("images_per_second_packed", 1, "{:,.0f}"),
    "seconds until ready": ("ready_seconds", 1, "{:.2f}"),
}


def read(name: str) -> Any:
    """The content of a file in docs/benchmarks."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table of Markdown."""
    lines = [list(head), ["---"] * len(list(head)), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(figure: Mapping[str, float], form: str = "{:,.0f}", times: float = 1) -> str:
    """A median with its range."""
    middle, low, high = (form.format(times * figure[key]) for key in ("median", "low", "high"))
    return f"{middle} ({low} to {high})"


def made() -> str:
    """What each figure was made with."""
    rows = (
        (name, f"`{entry['command']}`", f"`{entry['commit']}`", entry["date"], entry["processor"])
        for name, entry in read("figures.json").items()
    )
    return table(["figures", "command", "commit", "date", "processor"], rows)


def glance() -> str:
    """What a reader wants to know first."""
    article, keras = read("time_to_accuracy.json")["ratios"]
    strong, colours = read("accuracy-997.json"), read("cifar10.json")
    arrays = {each["rung"]: each for each in read("predicting.json")["arrays"]}
    alone = arrays["fast"]["one"]["classifier_microseconds"]["median"]
    asked = read("serving.json")["summary"]["convladder"]["requests_per_second_64"]["median"]
    later = read("input_pipeline.json")["rows"][-1]["later"]

    def faster(ratio: Mapping[str, Any]) -> str:
        return (
            f"* **{ratio['accuracy']:.2%} of MNIST** in {ratio['here_seconds']:.2f} s of training, "
            f"{ratio['ratio']:.0f} times faster than "
        )

    return f"""\
{faster(article)}the article's program.
{faster(keras)}Keras's own example.
* `strong`: {strong["mean_test_accuracy"]:.4f} of MNIST in {strong["median_fit_seconds"]:.0f} s (mean of \
{len(strong["runs"])} seeds), {colours["test_accuracy"]:.4f} of CIFAR-10 in {colours["fit_seconds"]:,.0f} s (one seed).
* An answer of `fast` in Python takes {alone:.0f} µs; the server gives {asked:,.0f} a second to 64 connections.
* Photographs of 12 megapixels load at {later:,} a second after the first pass: they are decoded once and kept."""


def time_to_accuracy() -> str:
    content = read("time_to_accuracy.json")
    rows = (
        (
            row["name"],
            row["seeds"],
            f"{row['seconds']:.2f} ({row['seconds_low']:.2f} to {row['seconds_high']:.2f})",
            f"{row['test_accuracy']:.4f} ({row['test_accuracy_low']:.4f} to {row['test_accuracy_high']:.4f})",
            f"{row['utilization']:.0%}",
            row["precision"],
        )
        for row in content["rows"]
    )
    ratios = (
        (
            f"{ratio['accuracy']:.2%}",
            f"{ratio['peer']}: {'' if ratio['reached'] else 'not within '}{ratio['peer_seconds']:.1f} s",
            f"{ratio['here']}: {ratio['here_seconds']:.2f} s",
            f"{ratio['ratio']:.0f}",
        )
        for ratio in content["ratios"]
    )
    head = ["program", "seeds", "seconds, median (range)", "test accuracy (range)", "utilization", "computes in"]
    return f"{table(head, rows)}\n\n{table(['test accuracy', 'beside', 'here', 'times faster'], ratios)}"


def accuracy() -> str:
    rows = []
    for name in ACCURACIES:
        content = read(f"accuracy-{name}.json")
        runs, deviation = content["runs"], content["deviation"]
        mean = f"{content['mean_test_accuracy']:.4f}" + (f" ± {deviation:.4f}" if deviation is not None else "")
        seconds = [run["fit_seconds"] for run in runs]
        took = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        rows.append(
            (f"`{content['command']}`", len(runs), mean, f"{runs[0]['parameters']:,}", took, runs[0]["precision"])
        )
    head = ["command", "seeds", "test accuracy ± deviation", "parameters", "seconds, median (range)", "computes in"]
    return table(head, rows)


def ladder() -> str:
    content = read("comparison.json")
    rows = (
        (
            model["name"],
            model["seeds"],
            f"{model['test_accuracy']:.4f} ({model['low']:.4f} to {model['high']:.4f})",
            f"{model['fit_seconds']:.1f}",
            f"{model['parameters']:,}",
            f"{model['macs']:,}",
        )
        for model in content["models"]
    )
    head = ["rung", "seeds", "test accuracy (95 %)", "seconds", "parameters", "multiply-accumulates"]
    steps = "\n".join(f"* {pair['words']}" for pair in content["pairs"])
    return f"{table(head, rows)}\n\n{steps}"


def reproduce() -> str:
    content = read("reproduce.json")
    networks = (
        (
            network["name"],
            f"{network['article_parameters']:,}, {network['parameters']:,}",
            f"{network['article_test_accuracy']:.4f}, {network['test_accuracy']:.4f}",
            f"{network['article_seconds_per_epoch']:g}, {network['seconds_per_epoch']:.1f}",
        )
        for network in content["networks"]
    )
    heads = ["parameters", "test accuracy", "seconds per epoch"]
    claims = ((claim["claim"], claim["measured"], claim["verdict"]) for claim in content["claims"])
    shifted = ((name, *(f"{value:.3f}" for value in values)) for name, values in content["shifts"].items())
    count = len(next(iter(content["shifts"].values())))
    return "\n\n".join(
        [
            table(["network", *(f"{head}: article, here" for head in heads)], networks),
            table(["the article says", "measured here", "verdict"], claims),
            "Accuracy on test images shifted by so many pixels, a quarter of them in each direction:",
            table(["network", *map(str, range(count))], shifted),
        ]
    )


def input_pipeline() -> str:
    rows = (
        (
            f"{row['data']}, {row['images']:,} pictures to {row['image_size']} pixels",
            f"{row['keras']:,}",
            *(f"{row[key]:,}: {row[f'{key}_ratio']:.2f} times" for key in ("first", "reload", "later")),
        )
        for row in read("input_pipeline.json")["rows"]
    )
    return table(["data", "Keras", "first pass", "first pass of another process", "later passes"], rows)


def predicting() -> str:
    content = read("predicting.json")
    arrays = (
        (
            each["rung"],
            {"one": 1, "batch": 128}[key],
            *(spread(each[key][f"{which}_microseconds"], "{:.1f}") for which in ("bare", "classifier")),
            f"{each[key]['ratio']:.2f}",
        )
        for each in content["arrays"]
        for key in ("one", "batch")
    )
    folder = content["folder"]
    peers = {
        "one `model.predict`, first call": "keras_first",
        "one `model.predict`, second call": "keras_second",
        "a loop of `model.predict`": "keras_loop",
    }
    seconds = [("`Classifier`", spread(folder["classifier_seconds"], "{:.2f}"), 1)]
    seconds += [
        (words, spread(folder[key]["seconds"], "{:.2f}"), folder[key]["times_as_long"]) for words, key in peers.items()
    ]
    head = ["rung", "images at once", "bare, µs per image", "Classifier, µs per image", "ratio"]
    files = f"{folder['images']:,} PNG files with `{folder['rung']}`"
    return f"{table(head, arrays)}\n\n{table([files, 'seconds', 'times as long'], seconds)}"


def serving() -> str:
    content = read("serving.json")["summary"]
    here, peer = content["convladder"], content["peer"]
    rows = (
        (words, spread(here[key], form, times), spread(peer[key], form, times), ratio(here[key], peer[key]))
        for words, (key, times, form) in ROWS.items()
    )
    return table(["", "convladder", "minimal endpoint", "ratio"], rows)


def ratio(here: Mapping[str, float], peer: Mapping[str, float]) -> str:
    return f"{here['median'] / peer['median']:.2f}"


def load() -> str:
    content = read("load.json")
    alone, behind = content["alone"], content["behind_nginx"]
    after = max(behind["failures"], default=0) - behind["killed_at"]
    failed = f"{len(behind['failures'])}, all within {after:.2f} s of the kill: what the server held"
    values = [
        [
            f"{sum(under['statuses'].values()):,}, of them {sum(under['hostile'].values()):,} to hostile uploads",
            f"{under['requests_per_second']:,.0f}",
            f"{1000 * under['p50_seconds']:.0f} ms, {1000 * under['p99_seconds']:.0f} ms",
            failed if under["failures"] else "none",
            len(under["unanswered"]) or "none",
            memory(under["memory_mib"]),
        ]
        for under in (alone, behind)
    ]
    words = ("answers", "per second", "median, 99th percentile", "5xx", "requests without an answer")
    rows = zip((*words, "memory of the server (the one not killed), after the first quarter"), *values, strict=True)
    servers = "two [behind nginx](serve.md#when-a-server-ends), one killed (SIGKILL) and started again"
    return table(["", "one server, stopped for a second (SIGSTOP)", servers], rows)


def memory(mib: Mapping[str, Any]) -> str:
    """The usual memory of a server, and its slope."""
    usual = statistics.median(mib["lowest_each_second"][len(mib["lowest_each_second"]) // 4 :])
    low, high = mib["slope_low"], mib["slope_high"]
    return f"{usual:.0f} MiB, growing by {mib['slope_mib_a_minute']:.2f} MiB a minute (95 %: {low:.2f} to {high:.2f})"


def parity() -> str:
    rows = read("parity.json")["rows"]
    formats = list(rows[0]["largest_difference"])
    lines = ((row["rung"], *(f"{row['largest_difference'][name]:.1e}" for name in formats)) for row in rows)
    return table(["rung", *formats], lines)


TABLES: Mapping[str, Callable[[], str]] = {
    "glance": glance,
    "made": made,
    "time": time_to_accuracy,
    "accuracy": accuracy,
    "ladder": ladder,
    "reproduce": reproduce,
    "input": input_pipeline,
    "predicting": predicting,
    "serving": serving,
    "load": load,
    "parity": parity,
}


def write_page() -> None:
    """Write all tables into the page."""
    for name, make in TABLES.items():
        fill(PAGE, name, make() + "\n")


if __name__ == "__main__":
    write_page()
