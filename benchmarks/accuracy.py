"""The accuracies that docs/benchmarks.md promises, over many seeds: mean and deviation, never one lucky run.

    python benchmarks/accuracy.py TARGET...      targets: article 990 995 997 ensemble tiny

Every run's epoch is chosen on the validation images and its test images are read once. It writes
docs/benchmarks/accuracy-TARGET.json, and a line a target to standard output.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from convladder.engine import import_engine

import_engine()

import keras  # noqa: E402

import convladder as cl  # noqa: E402
from convladder.training.hardware import processor_name  # noqa: E402
from convladder.training.recipes import default_recipe  # noqa: E402


@dataclass(frozen=True)
class Target:
    rung: str
    seeds: int
    changes: Mapping[str, Any] = field(default_factory=dict)  # of its default recipe
    ensemble: int = 1

    def command(self) -> str:
        """How a user trains so."""
        given = dict(self.changes) | ({"ensemble": self.ensemble} if self.ensemble > 1 else {})
        options = [f"--{name.replace('_', '-')} {value}" for name, value in given.items()]
        return " ".join(["train --model", self.rung, *options])


TARGETS = {
    "article": Target("fast", 10, {"epochs": 0.4}),
    "990": Target("fast", 10),
    "995": Target(
        "fast",
        10,
        {"epochs": 3, "batch_size": 256, "learning_rate": 0.018, "augment": "digits", "views": "digits"},
    ),
    "997": Target("strong", 5),
    "ensemble": Target("strong", 3, {"epochs": 24}, ensemble=5),  # a quarter of an hour on two cores
    "tiny": Target("tiny", 5),
}
RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks"


def measure(name: str) -> None:
    target = TARGETS[name]
    recipe = replace(default_recipe(target.rung), **target.changes)
    mnist = cl.load_dataset("mnist")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(target.seeds):
            keras.backend.clear_session()
            run = cl.train(
                target.rung,
                mnist,
                recipe,
                seed=seed * target.ensemble,
                ensemble=target.ensemble,
                directory=folder,
            )
            kept = ("fit_seconds", "validation_accuracy", "test_accuracy", "precision", "parameters", "best_epochs")
            runs.append({"seed": run.info["seed"]} | {key: run.info[key] for key in kept})
            print(name, json.dumps(runs[-1]), file=sys.stderr, flush=True)
    accuracies = [run["test_accuracy"] for run in runs]
    content = {
        "target": name,
        "command": target.command(),
        "processor": processor_name(),
        "mean_test_accuracy": statistics.fmean(accuracies),
        "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "median_fit_seconds": statistics.median(run["fit_seconds"] for run in runs),
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"accuracy-{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print({key: value for key, value in content.items() if key != "runs"}, flush=True)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        measure(argument)
