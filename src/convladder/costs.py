"""Costs: what trainings will take, which of them fit into a budget, and what the shipped model takes to answer."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data import Dataset
from convladder.errors import check_range
from convladder.models import build_model
from convladder.recipes import MOST_MINUTES, Recipe, resolve_precision
from convladder.runs import Run, write_json
from convladder.trials import Trial

# Seen on two cores with bfloat16: microseconds of training an image, for each thousand values that a layer gives out
# (0.9 where none is named here); and the seconds of tracing, scoring and export around every training.
MICROSECONDS = {"BatchNormalization": 1.5, "Dropout": 4.0}
SECONDS_AROUND = 4.0

BATCH = 128  # images at a time, for the throughput
REPEATS = 100
SECONDS_OF_MEASURING = 0.25


def estimate_seconds(dataset: Dataset, rung: str, recipe: Recipe) -> float:
    """About how long one run will take, from the values that the rung's layers give out; within a factor of two."""
    if recipe.minutes is not None:
        return SECONDS_AROUND + 60 * recipe.minutes
    microseconds = sum(
        MICROSECONDS.get(type(layer).__name__, 0.9) * math.prod(layer.output.shape[1:]) / 1000
        for layer in build_model(rung, dataset.input_shape, dataset.num_classes).layers
        if not isinstance(layer, keras.layers.InputLayer | keras.layers.Flatten | keras.layers.Rescaling)
    )
    if resolve_precision(recipe)[0] == "float32":
        microseconds *= 2
    return SECONDS_AROUND + recipe.epochs * len(dataset.train) * microseconds / 1e6


class Budget:
    """Foresees how long trials take, from those that are finished, and lets begin what fits into the minutes."""

    def __init__(self, dataset: Dataset, minutes: float | None) -> None:
        if minutes is not None:
            check_range("minutes", minutes, 0.01, MOST_MINUTES)
        self._dataset = dataset
        self._ends = None if minutes is None else time.monotonic() + 60 * minutes
        self._seconds: dict[str, list[float]] = {}
        self._ratios: list[float] = []
        self._estimated: dict[str, float] = {}

    def learn(self, trial: Trial, seconds: float) -> None:
        """So long did a trial take."""
        self._seconds.setdefault(trial.rung, []).append(seconds)
        self._ratios.append(seconds / self._estimate(trial))

    def seconds(self, trial: Trial) -> float:
        """So long will it take: as its rung took before, or as estimated, by what the estimates were wrong so far."""
        if trial.rung in self._seconds:
            return statistics.fmean(self._seconds[trial.rung])
        return self._estimate(trial) * (statistics.median(self._ratios) if self._ratios else 1.0)

    def foresee(self, trials: Sequence[Trial]) -> str:
        """How long these will take, in words."""
        seconds = sum(map(self.seconds, trials))
        told = count_of(round(seconds / 60), "minute") if seconds >= 90 else count_of(round(seconds), "second")
        return f"about {told} on this machine"

    def select(self, trials: Sequence[Trial], skipped: list[Trial]) -> Iterator[Trial]:
        """Give out, one when it is asked for, the trials that fit; put the others into `skipped`."""
        for trial in trials:
            began = time.monotonic()
            if self._ends is not None and began + self.seconds(trial) > self._ends:
                skipped.append(trial)
                continue
            yield trial
            self.learn(trial, time.monotonic() - began)  # the next is asked for when it is done

    def _estimate(self, trial: Trial) -> float:
        if trial.rung not in self._estimated:
            self._estimated[trial.rung] = estimate_seconds(self._dataset, trial.rung, trial.recipe)
        return self._estimated[trial.rung]


def measure_costs(run: Run, images: npt.NDArray[np.uint8]) -> None:
    """Measure what a run's shipped model takes, and keep that as `costs` in metrics.json, unless it is there.

    Args:
        run: A finished run.
        images: Real ones, shape (count, height, width, channels), at least one: a network that meets zeros may be
            faster.
    """
    if "costs" in run.metrics:
        return
    predict = run.classifier().predict_probabilities
    count = len(images)
    one = _median_seconds(lambda turn: predict(images[turn % count : turn % count + 1]))
    many = _median_seconds(lambda _: predict(images[:BATCH]))
    costs: dict[str, Any] = {
        "latency_seconds": one,
        "images_per_second": min(BATCH, count) / many,
        "bytes": (run.path / "model.onnx").stat().st_size,
    }
    run.metrics["costs"] = costs
    write_json(run.path / "metrics.json", run.metrics)


def _median_seconds(call: Callable[[int], Any]) -> float:
    """Of at most 100 calls and a quarter of a second, after three that warm up."""
    measured: list[float] = []
    for turn in range(-3, REPEATS):
        began = time.perf_counter()
        call(turn)
        measured.append(time.perf_counter() - began)
        if len(measured) > 5 and sum(measured) > SECONDS_OF_MEASURING:
            break
    return statistics.median(measured[3:])


def count_of(number: int, what: str) -> str:
    """Say a number and what it counts: 1 run, 2 runs."""
    return f"{number} {what}{'' if number == 1 else 's'}"
