"""Costs: about what a training will take, and what the shipped model takes to answer."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data import Dataset
from convladder.models import build_model
from convladder.recipes import Recipe, resolve_precision
from convladder.runs import Run, write_json

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
