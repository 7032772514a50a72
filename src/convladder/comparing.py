"""Comparison: several rungs trained alike, and a row for each."""

import functools
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data import Dataset
from convladder.errors import check_choice, check_range
from convladder.models import MODELS, build_model
from convladder.recipes import Recipe, default_recipe, resolve_precision
from convladder.runs import Run
from convladder.training import train

# Seen on two cores with bfloat16: microseconds of training an image, for each thousand values that a layer gives out
# (0.9 where none is named here); and the seconds of tracing, scoring and export around every training.
MICROSECONDS = {"BatchNormalization": 8.0, "Dropout": 4.0}
SECONDS_AROUND = 4.0


def compare(
    dataset: Dataset,
    rungs: Sequence[str],
    recipe_for: Callable[[str], Recipe] = default_recipe,
    *,
    seeds: int = 1,
    directory: str | Path = "runs",
    callbacks: Callable[[str], Sequence[keras.callbacks.Callback]] = lambda _: (),
) -> Iterator[Run]:
    """Train every rung with every seed; all rungs get a first seed before any gets a second.

    Args:
        dataset: What all are trained on.
        rungs: Names from MODELS.
        recipe_for: From a rung to how it is trained.
        seeds: Runs a rung, at least 1; their seeds are 0, 1, ….
        directory: Where the run folders are made.
        callbacks: From a label to what looks on.

    Yields:
        Each run when it is finished.

    Raises:
        ConvladderError: As `train` does; unknown rungs before anything is trained.
    """
    for rung in rungs:
        check_choice("rung", rung, MODELS)
    check_range("seeds", seeds, 1)
    if recipe_for is default_recipe:
        recipe_for = functools.partial(default_recipe, channels=dataset.input_shape[2])
    for seed in range(seeds):
        for rung in rungs:
            keras.backend.clear_session()  # drops the graphs of the run before
            label = rung if seeds == 1 else f"{rung}, seed {seed}"
            yield train(rung, dataset, recipe_for(rung), seed=seed, directory=directory, callbacks=callbacks(label))


def tabulate(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A row a rung, in the order of their first runs; accuracy and seconds are means over its seeds."""
    by_rung: dict[str, list[Run]] = {}
    for run in runs:
        by_rung.setdefault(run.info["rung"], []).append(run)
    return [
        {
            "name": rung,
            "seeds": len(group),
            "test_accuracy": statistics.fmean(run.info["test_accuracy"] for run in group),
            "validation_accuracy": statistics.fmean(run.info.get("validation_accuracy", 0) for run in group),
            "parameters": group[0].info["parameters"],
            "macs": group[0].info["macs"],
            "fit_seconds": statistics.fmean(run.info["fit_seconds"] for run in group),
            "runs": [str(run.path) for run in group],
        }
        for rung, group in by_rung.items()
    ]


def accuracy_difference(upper: npt.NDArray[np.bool_], lower: npt.NDArray[np.bool_]) -> tuple[float, float, float]:
    """How much more accurate one network is than another, with a 95 % interval.

    The variance has two parts that are added: of the difference on the same test images, and, from two seeds on,
    of the accuracies over the seeds (Bouthillier et al. 2021, arXiv:2103.03098, on why both count).

    Args:
        upper: Which test images each run of it got right, shape (seeds, images).
        lower: The same for the other network, on the same images.

    Returns:
        The difference of the mean accuracies, and the interval's two ends.
    """
    from scipy.stats import t

    per_image = upper.mean(axis=0) - lower.mean(axis=0)
    variance = per_image.var(ddof=1) / len(per_image)
    degrees = float(len(per_image) - 1)
    if len(upper) > 1 and len(lower) > 1:
        by_seed = sum(group.mean(axis=1).var(ddof=1) / len(group) for group in (upper, lower))
        # The seeds' part is known from few runs: Satterthwaite's degrees of freedom, all of the doubt on it.
        degrees = (len(upper) + len(lower) - 2) * ((variance + by_seed) / max(by_seed, 1e-12)) ** 2
        variance += by_seed
    difference, margin = float(per_image.mean()), float(t.ppf(0.975, degrees) * variance**0.5)
    return difference, difference - margin, difference + margin


def estimate_seconds(dataset: Dataset, rungs: Sequence[str], recipe_for: Callable[[str], Recipe], seeds: int) -> float:
    """About how long `compare` will take, from the values that the rungs' layers give out; within a factor of two."""
    seconds = 0.0
    for rung in rungs:
        recipe = recipe_for(rung)
        microseconds = sum(
            MICROSECONDS.get(type(layer).__name__, 0.9) * math.prod(layer.output.shape[1:]) / 1000
            for layer in build_model(rung, dataset.input_shape, dataset.num_classes).layers
            if not isinstance(layer, keras.layers.InputLayer | keras.layers.Flatten | keras.layers.Rescaling)
        )
        if resolve_precision(recipe)[0] == "float32":
            microseconds *= 2
        seconds += SECONDS_AROUND + recipe.epochs * len(dataset.train) * microseconds / 1e6
    return seeds * seconds
