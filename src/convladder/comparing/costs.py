"""Costs: estimates training times, selects what fits into a budget, and measures a shipped model's speed."""

import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from convladder.comparing.trials import Trial
from convladder.data.dataset import Dataset
from convladder.data.features import are_kept, compute_features
from convladder.data.loading import at_size
from convladder.errors import check_range
from convladder.evaluating.robustness import CHANGES, count_images
from convladder.exporting.parity import parity_images
from convladder.files import write_json
from convladder.inference.occlusion import list_places
from convladder.models.backbone import PRETRAINED
from convladder.models.ladder import build_model
from convladder.processors import count_processors
from convladder.runs.run import Run
from convladder.training.assembling import VIEWS
from convladder.training.augmentation import AUGMENT
from convladder.training.fitting import compile_copy
from convladder.training.hardware import processor_name
from convladder.training.pacing import BUILDS_BEFORE, seconds_after
from convladder.training.recipes import MOST_MINUTES, Recipe, resolve_precision, rung_side

SECONDS_AROUND = 2.0  # per run, for starting and writing
TRUSTED = 60.0  # seconds of runs that an estimate weighs as much as; a short run tells little about a long one
SECONDS_OF_START = 5.0  # to start the process that carries out all runs

# In forward passes of ONNX Runtime. For pretrained rungs, because trial steps would take long.
PASS_IN_KERAS = 1.5
TRAINING_IN_PASSES = 2.4  # per image, for `finetune`: it trains all layers at 160 pixels on average, a pass takes 224
SOLVING_IN_PASSES = 0.05  # to solve a head, per image and class

TRACED_OF_EAGER = 0.65  # traced seconds of a step per eager second; 0.4 to 0.9 in nine rungs, on MNIST and photographs
PLACES_TRIED = 1 << 19  # pixels of a measured step: 128 images of 64×64
MAPS = 4  # occlusion maps per rung in a report
SECONDS_OF_REPORT = 5.0

THROUGHPUT_BATCH = 128  # images per batch, to measure throughput
REPEATS = 100
SECONDS_OF_MEASURING = 0.25


@dataclass(frozen=True)
class RunSeconds:
    """Estimated seconds of a run, and of the report's measurements for its rung."""

    run: float
    report: float


def estimate(
    dataset: Dataset,
    rung: str,
    recipe: Recipe,
    *,
    choices: Mapping[str, Any] | None = None,
    ensemble: int = 1,
    shared: bool = False,
) -> RunSeconds:
    """Estimate how long one run takes on this machine, from a few training steps.

    Args:
        dataset: The data at the rung's size.
        rung: A name from MODELS.
        recipe: How it is trained.
        choices: Choices of the rung.
        ensemble: Number of networks that it averages.
        shared: Whether another run already computes the features that this one needs.
    """
    build = functools.partial(build_model, rung, dataset.input_shape, dataset.num_classes, **(choices or {}))
    building = min(_seconds_of(build) for _ in range(2))
    images, validation, tested = map(len, (dataset.train, dataset.validation, dataset.test))
    views = ensemble * VIEWS[recipe.views][1]
    seconds = SECONDS_AROUND + ensemble * (BUILDS_BEFORE * building + seconds_after(building))
    if rung in PRETRAINED:
        one_pass = _measure_backbone(dataset)
        forward, step = PASS_IN_KERAS * one_pass, TRAINING_IN_PASSES * one_pass
        kept = shared or are_kept([split.images for split in (dataset.train, dataset.validation, dataset.test)])
        seconds += 0 if kept else 2 * (images + validation + tested) * one_pass
        seconds += SOLVING_IN_PASSES * (images + validation) * dataset.num_classes * one_pass
    else:
        step = _measure_training(build(rescale=recipe.rescale), recipe, dataset)
        forward = one_pass = step / 3
    if rung != "transfer":
        seconds += ensemble * (recipe.epochs * images * step + math.ceil(recipe.epochs) * validation * forward)
    seconds += views * (2 * validation + tested) * forward
    seconds += views * len(parity_images(dataset)) * (forward + one_pass)
    covered = MAPS * len(list_places(*dataset.input_shape[:2])[0])
    if recipe.minutes is not None:
        seconds = 60 * recipe.minutes
    changed = count_images(dataset.test.images) * (1 + sum(len(change.severities) - 1 for change in CHANGES))
    return RunSeconds(seconds, 4 * SECONDS_OF_MEASURING + views * (changed + covered) * one_pass)


def _measure_training(network: keras.Model, recipe: Recipe, dataset: Dataset) -> float:
    """Seconds of training per image, from a few steps with few and with more images.

    The steps run eagerly, because tracing would take longer. The difference of the two is free of Python's overhead.
    """
    copy, _ = compile_copy(network, recipe, resolve_precision(recipe)[0])
    height, width, _ = dataset.input_shape
    more = max(4, min(recipe.batch_size, PLACES_TRIED // (height * width)))
    few = more // 4

    def seconds(count: int) -> float:
        rows = np.arange(count) % len(dataset.train)
        pixels = tf.constant(dataset.train.images[rows])
        labels = tf.one_hot(dataset.train.labels[rows], dataset.num_classes)
        return min(_seconds_of(lambda: _take_step(copy, pixels, labels, recipe.augment)) for _ in range(3))

    most, least = seconds(more), seconds(few)
    # The latter if other work disturbed the measurement.
    return TRACED_OF_EAGER * max((most - least) / (more - few), most / more / 4)


def _take_step(network: keras.Model, pixels: Any, labels: Any, augment: str) -> None:
    if augment != "none":
        pixels = AUGMENT[augment](pixels, tf.constant([0, 0]))
    with tf.GradientTape() as tape:
        answers = network(pixels, training=True)
        loss = tf.reduce_mean(keras.losses.categorical_crossentropy(labels, answers))
    variables = network.trainable_variables
    network.optimizer.apply(tape.gradient(loss, [variable.value for variable in variables]), variables)


def _measure_backbone(dataset: Dataset) -> float:
    """Seconds of ONNX Runtime for the backbone's features per image, without the time to open the session."""
    images = dataset.train.images
    few, more = images[:2], images[np.arange(18) % len(images)]
    seconds = [
        min(_seconds_of(lambda: compute_features([part], cache=False)) for _ in range(2))  # noqa: B023
        for part in (few, more)
    ]
    return max(1e-4, (seconds[1] - seconds[0]) / (2 * (len(more) - len(few))))


class TimeBudget:
    """Predicts how long trials take, from the finished ones, and starts those that fit into the minutes."""

    def __init__(
        self,
        dataset: Dataset,
        minutes: float | None,
        sized: Callable[[int], Dataset] | None = None,
        began: float | None = None,
    ) -> None:
        if minutes is not None:
            check_range("minutes", minutes, 0.01, MOST_MINUTES)
        self._dataset, self._sized = dataset, sized or functools.partial(at_size, dataset)
        began = time.monotonic() if began is None else began
        self._ends = math.inf if minutes is None else began + 60 * minutes
        self._seconds: dict[str, list[float]] = {}
        self._estimates: dict[str, RunSeconds] = {}
        self._began: dict[Trial, float] = {}

    def learn(self, trial: Trial, seconds: float | None = None) -> None:
        """Note how long a trial took; by default the time since it was given out."""
        if seconds is None:
            seconds = time.monotonic() - self._began[trial]
        self._seconds.setdefault(trial.rung, []).append(seconds)

    def seconds(self, trial: Trial) -> float:
        """Predicted seconds: what its rung took before, or the estimate, corrected by the estimates' error so far."""
        if trial.rung in self._seconds:
            return statistics.fmean(self._seconds[trial.rung])
        known = self._seconds.keys() & self._estimates.keys()
        took = sum(statistics.fmean(self._seconds[rung]) for rung in known)
        told = sum(self._estimates[rung].run for rung in known)
        return self._estimate(trial).run * (TRUSTED + took) / (TRUSTED + told)

    def quickest_first(self, trials: Sequence[Trial]) -> list[Trial]:
        """First seeds before second ones, and then the fastest first, so that most rungs fit."""
        return sorted(trials, key=lambda trial: (trial.seed, self.seconds(trial)))

    def foresee(self, trials: Sequence[Trial]) -> str:
        """The predicted time of these trials and the report, in words."""
        seconds = SECONDS_OF_START + sum(map(self.seconds, trials)) + self._report(trials)
        told = count_of(round(seconds / 60), "minute") if seconds >= 90 else count_of(round(seconds), "second")
        return f"about {told}"

    def select(self, trials: Sequence[Trial], skipped: list[Trial]) -> Iterator[Trial]:
        """Yield the trials that fit, one at a time. Put the others into `skipped`."""
        for trial in trials:
            if time.monotonic() + self.seconds(trial) + self._report([*self._began, trial]) > self._ends:
                skipped.append(trial)
                continue
            self._began[trial] = time.monotonic()
            yield trial

    def is_late(self) -> bool:
        """Whether only the time for the report is left."""
        return time.monotonic() + self._report(list(self._began)) > self._ends

    def _report(self, trials: Sequence[Trial]) -> float:
        """Seconds of the report on these trials."""
        return SECONDS_OF_REPORT + sum({trial.rung: self._estimate(trial).report for trial in trials}.values())

    def have_begun(self, trials: Sequence[Trial]) -> bool:
        """Whether one of these was given out already. A cluster carries out several at a time."""
        return not self._began.keys().isdisjoint(trials)

    def _estimate(self, trial: Trial) -> RunSeconds:
        if trial.rung not in self._estimates:
            dataset = self._sized(rung_side(trial.rung, self._dataset))
            cached = (dataset.source or {}).get("cache", True)  # then one rung computes the features for both
            shared = cached and not self._estimates.keys().isdisjoint(PRETRAINED)
            self._estimates[trial.rung] = estimate(
                dataset,
                trial.rung,
                trial.recipe,
                choices=trial.choices,
                ensemble=trial.ensemble,
                shared=shared,
            )
        return self._estimates[trial.rung]


def measure_costs(run: Run, images: npt.NDArray[np.uint8]) -> None:
    """Measure the speed and size of a run's shipped model, and keep them as `costs` in metrics.json.

    It is done once per machine, because seconds on another machine cannot be compared with those on this one.

    Args:
        run: A finished run.
        images: Real images, shape (count, height, width, channels), at least one. With zeros, a network may be
            faster.
    """
    machine = {"onnxruntime": version("onnxruntime"), "processor": processor_name(), "cores": count_processors()}
    if run.metrics.get("costs", {}).get("machine") == machine:
        return
    predict = run.classifier().predict_probabilities
    count = len(images)
    one = _median_seconds(lambda turn: predict(images[turn % count : turn % count + 1]))
    many = _median_seconds(lambda _: predict(images[:THROUGHPUT_BATCH]))
    costs: dict[str, Any] = {
        "latency_seconds": one,
        "images_per_second": min(THROUGHPUT_BATCH, count) / many,
        "bytes": (run.path / "model.onnx").stat().st_size,
        "machine": machine,
    }
    run.metrics["costs"] = costs
    write_json(run.path / "metrics.json", run.metrics)


def _seconds_of(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _median_seconds(call: Callable[[int], Any]) -> float:
    """Median seconds of at most 100 calls or a quarter of a second, after three calls to warm up."""
    measured: list[float] = []
    for turn in range(-3, REPEATS):
        began = time.perf_counter()
        call(turn)
        measured.append(time.perf_counter() - began)
        if len(measured) > 5 and sum(measured) > SECONDS_OF_MEASURING:
            break
    return statistics.median(measured[3:])


def count_of(number: int, what: str) -> str:
    """A number with its noun: 1 run, 2 runs."""
    return f"{number} {what}{'' if number == 1 else 's'}"
