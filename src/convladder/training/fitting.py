"""Fitting: from a model, images and a recipe to the best weights, with Keras's `fit` on a tf.data pipeline."""

import contextlib
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from convladder.data.checks import class_weights
from convladder.data.dataset import Dataset, Split, release
from convladder.models.summary import count_macs
from convladder.signals import Stopped, check_stop, defer_signals
from convladder.training.augmentation import AUGMENT, resize
from convladder.training.checkpoint import Checkpoint
from convladder.training.fused import FusedAdam, clone
from convladder.training.keeping import BestWeights, Fitted, OneCycle
from convladder.training.pacing import ENDLESS, Deadline
from convladder.training.recipes import Recipe

# TensorFlow runs several steps between two returns to Python ("looks"). More steps save time in small networks; fewer
# let Ctrl-C and the progress bar respond sooner. Large networks or images get so few that a look takes seconds.
STEPS_PER_LOOK = 32
MACS_PER_LOOK = 1.2e11  # of the forward pass: enough for 32 steps of any rung on MNIST in batches of 128

# A training of few steps has more looks, so that there is a film of it, unless the network is so small that they cost.
LOOKS = 40
LEAST_MACS_PER_LOOK = 2e9

FIRST_GUESS = 1000  # steps of a training with a time limit, before the first steps are timed

ROWS_A_READ = 16  # from a mapped file: 16 rows count as 40 MB of memory, 512 as 430; a batch takes 1.5 ms, not 1.2


class Interrupted(Stopped):
    """Raised when a signal stops fitting; holds the result so far, and its part of run.json."""

    def __init__(self, number: int, fitted: Fitted, account: Mapping[str, Any] | None = None) -> None:
        super().__init__(number)
        self.fitted, self.account = fitted, account or {}


@defer_signals()
def fit(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    precision: str,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    deadline: Deadline | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Fit a copy of a model. The model itself is not changed.

    Args:
        model: Maps pixels, shape (batch, height, width, channels), to probabilities. Training starts from its weights.
        data: Training images fit the weights, validation images select the epoch.
        recipe: How to train.
        seed: Seed of the order and augmentation of the images.
        precision: "float32" or "bfloat16" for the computation. The weights are always float32.
        callbacks: Keras callbacks.
        deadline: When the recipe's minutes end, if it has any; by default counted from now.
        checkpoint: Where to keep the state of the training, and to take it from if the run is resumed.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP.
    """
    copy, schedule = compile_copy(model, recipe, precision)
    keeper = BestWeights(data.validation, recipe, deadline=deadline, checkpoint=checkpoint)
    keeper.schedule = schedule
    passes = len(data.train) / recipe.batch_size  # steps that see every image once
    rounds = ENDLESS if keeper.pace else max(1, math.ceil(recipe.epochs - 1e-9))
    steps = passes if keeper.pace else recipe.epochs * passes / rounds
    try:
        # Keras ends an epoch after a look, so an epoch must be a whole number of looks.
        looks = _count_looks(steps, rounds, recipe.batch_size * count_macs(model))
        copy.steps_per_execution = max(1, round(steps / looks))
        steps_an_epoch = looks * copy.steps_per_execution
        if schedule:
            schedule.span(FIRST_GUESS if keeper.pace else rounds * steps_an_epoch)
        keeper.resume(copy)

        def batches(step: int) -> Any:
            return training_batches(data.train, data.num_classes, recipe, range(step, rounds * steps_an_epoch), seed)

        keeper.fit(batches, rounds, steps_an_epoch, callbacks)
    except BaseException as error:
        for callback in callbacks:
            with contextlib.suppress(Exception):  # what is to be told is the first error
                callback.on_train_end()  # Keras calls it only on success, but a progress bar must not stay
        if not isinstance(error, KeyboardInterrupt):
            raise
        keeper.save()
        keeper.fitted.weights = keeper.fitted.weights or copy.get_weights()
        raise Interrupted(error.number if isinstance(error, Stopped) else signal.SIGINT, keeper.fitted) from None
    return keeper.fitted


def training_batches(
    split: Split, num_classes: int, recipe: Recipe, steps: int | range, seed: int, size: tuple[int, int] | None = None
) -> Any:
    """Shuffled batches, `steps` of them. Every image is used once before any is used again.

    Args:
        split: Images and labels.
        num_classes: Number of classes.
        recipe: Its batch size, class weights and augmentation are used.
        steps: Number of batches, or a range of steps of a longer training.
        seed: Seed of order and augmentation.
        size: Another height and width to resize the images to. With augmentation, photographs are also zoomed.

    Returns:
        A tf.data.Dataset of pixels, uint8, (batch, height, width, channels), and one-hot labels, (batch, classes);
        if the recipe weights classes and they are unequal, also of weights, float32, (batch,).
    """
    count = len(split)
    labels = tf.constant(split.labels)
    by_class = class_weights(split.labels) if recipe.class_weights else None
    weights = None if by_class is None else tf.constant(by_class[split.labels])
    in_memory = not isinstance(split.images, np.memmap)
    images = tf.constant(split.images) if in_memory else _row_reader(split.images)

    @tf.autograph.experimental.do_not_convert  # it has no branch on a tensor, and converting takes 0.1 s
    def batch(step: Any) -> Any:
        position = step * recipe.batch_size + tf.range(recipe.batch_size, dtype=tf.int64)
        # The image at each position of the shuffled order, computed without storing the order.
        seeds = tf.stack(
            [tf.fill(position.shape, tf.constant(seed, tf.int64)), position // count, position * 0], axis=1
        )
        chosen = tf.raw_ops.RandomIndexShuffle(index=position % count, seed=seeds, max_index=count - 1, rounds=4)
        pixels = tf.gather(images, chosen) if in_memory else tf.numpy_function(images, [chosen], tf.uint8)
        pixels = tf.ensure_shape(pixels, (recipe.batch_size, *split.images.shape[1:]))
        if size is not None:
            pixels = resize(pixels, size, tf.stack([seed, step]), zoom=recipe.augment == "photos")
        if recipe.augment != "none":
            pixels = AUGMENT[recipe.augment](pixels, tf.stack([seed, step]))
        wanted = tf.one_hot(tf.gather(labels, chosen), num_classes)
        if weights is None:
            return pixels, wanted
        return pixels, wanted, tf.gather(weights, chosen)

    options = tf.data.Options()
    options.autotune.enabled = False  # there is only one stage, which runs two batches ahead of the training
    numbers = steps if isinstance(steps, range) else range(steps)
    return tf.data.Dataset.range(numbers.start, numbers.stop).map(batch).prefetch(2).with_options(options)


def _row_reader(images: npt.NDArray[np.uint8]) -> Callable[[Any], npt.NDArray[np.uint8]]:
    """A function from row numbers to images. It reads few rows at a time, because the system maps 2 MB around each."""

    def read(rows: Any) -> npt.NDArray[np.uint8]:
        chosen = np.empty((len(rows), *images.shape[1:]), np.uint8)
        for start in range(0, len(rows), ROWS_A_READ):
            part = slice(start, start + ROWS_A_READ)
            chosen[part] = images[rows[part]]
            release(images)
        return chosen

    return read


def steps_per_look(model: keras.Model, batch_size: int) -> int:
    """Number of steps between two looks: so many that they take seconds, but at most STEPS_PER_LOOK."""
    return _steps_per_look(batch_size * count_macs(model))


def _steps_per_look(macs: float) -> int:
    return max(1, min(STEPS_PER_LOOK, int(MACS_PER_LOOK / max(1, macs))))


def _count_looks(steps: float, epochs: int, macs: float) -> int:
    """Number of looks in each of so many epochs, given the steps of an epoch and the multiplications of a step."""
    least = max(1, math.ceil(steps / _steps_per_look(macs)))
    wanted = min(math.ceil(LOOKS / epochs), int(steps * macs / LEAST_MACS_PER_LOOK), int(steps))
    if wanted <= least:
        return least
    # Of numbers alike, the one that needs the least rounding of the steps.
    alike = range(wanted, wanted + max(1, wanted // 4) + 1)
    return min(alike, key=lambda looks: abs(looks * round(steps / looks) - steps))


def compile_copy(model: keras.Model, recipe: Recipe, precision: str) -> tuple[keras.Model, "OneCycle | None"]:
    """A compiled copy of a model, and its learning rate schedule, if any, whose length is not set yet."""
    copy = clone(model, precision)
    schedule = compile_for(copy, recipe)
    copy.steps_per_execution = steps_per_look(model, recipe.batch_size)
    return copy, schedule


def compile_for(copy: keras.Model, recipe: Recipe) -> OneCycle | None:
    """Compile a network, like `compile_copy` but without a copy."""
    schedule = OneCycle(recipe.learning_rate) if recipe.one_cycle else None
    optimizer = FusedAdam(
        schedule.rate if schedule else recipe.learning_rate,
        weight_decay=recipe.weight_decay or None,
        beta_1=recipe.beta_1,
        beta_2=recipe.beta_2,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    optimizer.build(copy.trainable_variables)  # before tracing, because creating variables would cause a second trace
    copy.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=False,  # on a CPU, XLA takes longer to compile than it saves
    )
    return schedule


def measure_steps(copies: Sequence[keras.Model], data: Dataset, recipe: Recipe, *, rounds: int) -> list[list[float]]:
    """Seconds per step of one or more compiled models, in alternation, so that noise affects all of them.

    Returns:
        For each model, `rounds` measurements. Afterwards the models and optimizers are unchanged, but traced.
    """
    return time_fits(copies, training_batches(data.train, data.num_classes, recipe, STEPS_PER_LOOK, seed=0), rounds)


def time_fits(copies: Sequence[keras.Model], batches: Any, rounds: int) -> list[list[float]]:
    """Like `measure_steps`, for a tf.data.Dataset of batches."""
    variables = [variable for copy in copies for variable in (*copy.variables, *copy.optimizer.variables)]
    kept = [variable.numpy() for variable in variables]
    steps = int(batches.cardinality())
    seconds: list[list[float]] = [[] for _ in copies]
    for _ in range(1 + rounds):  # the first traces
        for copy, measured in zip(copies, seconds, strict=True):
            check_stop()
            began = time.perf_counter()
            copy.fit(batches, shuffle=False, verbose=0)
            measured.append((time.perf_counter() - began) / steps)
    for variable, value in zip(variables, kept, strict=True):
        variable.assign(value)
    return [measured[1:] for measured in seconds]
