"""Fine-tuning: trains all layers of a pretrained network, starting from its solved head.

1. The head is solved on the backbone's features, as in `transfer`.
2. All layers are trained, on pictures that grow during the training (Howard 2018, DAWNBench; Tan and Le 2021,
   arXiv:2104.00298). The learning rate rises and falls once.
3. Means of the first and the last weights are tried. They are often better than either, especially with few pictures
   (Wortsman et al. 2021, arXiv:2109.01903).

We tried to train the last blocks first, on kept outputs of the blocks below, and left it. It is four times as fast, but
it overfits: on 1,060 photographs, accuracy fell from 0.87 to 0.79 (docs/decisions/0010).

The network that is scored after each epoch, and shipped, takes pictures of the data's own size. The solved head is the
first candidate: a fine-tuned network replaces it only if it is as good on the validation pictures.
"""

import contextlib
import functools
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from convladder.data.dataset import Dataset, Split
from convladder.evaluating.metrics import score
from convladder.exporting.pretrained import predict_quickly
from convladder.models import backbone
from convladder.processors import keep_freed_memory
from convladder.signals import Stopped, check_stop, defer_signals
from convladder.training.fitting import BestWeights, Fitted, Interrupted, compile_for, time_fits, training_batches
from convladder.training.fused import clone
from convladder.training.pacing import ENDLESS, Deadline, Pace
from convladder.training.recipes import Recipe, resolve_precision
from convladder.training.solving import solve_head

SIDES = (4 / 7, 5 / 7, 6 / 7)  # of the backbone's side: 128, 160 and 192 of 224 pixels, each for a third of the steps
STRIDE = 32  # of the backbone; sides are multiples of it
SMALLEST_TUNED_SIDE = 64
MOST_SOLVED = 10_000  # training pictures at most for the first head
SOLVED_BYTES = 500_000_000
MEANS = (0.5, 0.75, 0.25)  # shares of the tuned weights in the means that are tried at the end
SHORTEST = 15.0  # seconds: tracing takes as long, so with less time left only the head is used
ENOUGH_STEPS = 1 << 40  # prepared when a time limit ends the training
MEASURED_STEPS = 2


@dataclass(frozen=True)
class Finetuned:
    """The result of fine-tuning.

    Attributes:
        fitted: As `fit` returns it; epoch 1 is the solved head.
        account: Its part of run.json: `head`, `precision` and `precision_reason`; `tuning`, the `pictures` and
            `sides`; `share_of_tuned`, the share of the tuned weights in the kept ones.
    """

    fitted: Fitted
    account: dict[str, Any]


@defer_signals()
def finetune(
    model: keras.Model,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    measure: bool = True,
    deadline: Deadline | None = None,
) -> Finetuned:
    """Fit a pretrained model. The model is changed.

    Args:
        model: As `build_model` returns it for `finetune`.
        data: As in `fit`.
        recipe: The recipe, with length and batch size.
        seed: Seed of the order and augmentation of the images.
        callbacks: Keras callbacks.
        measure: Whether to measure which precision is faster, if the recipe and the processor allow both.
        deadline: As in `fit`.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP, after the head was solved.
    """
    if recipe.minutes is not None:  # the head takes a share of them
        deadline = deadline or Deadline.in_minutes(recipe.minutes)
    solved = solve_head(model, _to_solve(data), recipe, pool=False)
    model.set_weights(solved.fitted.weights)
    start = replace(solved.fitted, best_epoch=1)
    keep_freed_memory()
    keeper = _BestOfTuned(model, data, recipe, start, deadline)
    account: dict[str, Any] = dict(solved.account)
    try:
        training = _Training(keeper, data, recipe, seed, [keeper, *callbacks])
        account |= training.choose_precision(measure)
        if not keeper.enough:
            account["tuning"] = training.train()
            account["share_of_tuned"] = keeper.try_means()
    except BaseException as error:
        for callback in callbacks:
            with contextlib.suppress(Exception):  # report the first error
                callback.on_train_end()
        if not isinstance(error, KeyboardInterrupt):
            raise
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        raise Interrupted(number, keeper.fitted, account) from None
    return Finetuned(keeper.fitted, account)


def sides_of(input_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    """The sizes (height, width) that pictures have one after the other while all layers are trained.

    Example:
        >>> sides_of((224, 224, 3)), sides_of((32, 32, 3))
        ([(128, 128), (160, 160), (192, 192)], [(64, 64), (64, 64), (96, 96)])
    """
    whole = backbone.enlarged(*input_shape[:2])

    def rounded(side: float) -> int:
        return max(SMALLEST_TUNED_SIDE, STRIDE * round(side / STRIDE))

    return [(rounded(share * whole[0]), rounded(share * whole[1])) for share in SIDES]


def resizable(model: keras.Model, precision: str) -> keras.Model:
    """A copy that takes pictures with three channels and any size, already enlarged."""
    inner = keras.Model(model.get_layer("rescale").input, model.output)
    return clone(inner, precision, keras.Input((None, None, 3), name="pixels"))


class _BestOfTuned(BestWeights):
    """Scores the network that will be shipped, with the weights of the network that is trained for it."""

    later_of_equals = True  # longer training usually helps, and few validation pictures are weak evidence against it
    scored_after = 1 + len(MEANS)

    def __init__(
        self, model: keras.Model, data: Dataset, recipe: Recipe, start: Fitted, deadline: Deadline | None
    ) -> None:
        super().__init__(data.validation, recipe, start, deadline)
        self.network = model
        self.twin = model  # the network that is trained
        if len(data.validation):
            began = time.perf_counter()
            scores = score(self.answer(model), data.validation.labels)
            if self.pace:
                self.pace.note_answers(len(data.validation), time.perf_counter() - began)
            start.history[0] |= {"validation_accuracy": scores["accuracy"], "validation_loss": scores["loss"]}
            self._best_accuracy = scores["accuracy"]
        self._started = time.perf_counter() - start.seconds
        self._first = start.weights

    def answer(self, network: keras.Model) -> npt.NDArray[np.float32]:
        return predict_quickly(network, self._validation.images)

    def candidate(self) -> tuple[keras.Model, list[Any]]:
        weights = self.twin.get_weights()
        self.network.set_weights(weights)
        return self.network, weights

    def try_means(self) -> float:
        """Keep a mean of the first and last weights if it is better. Returns the last weights' share in it."""
        kept, last = 1.0, self.twin.get_weights()
        for share in MEANS if len(self._validation) else ():
            check_stop()
            weights = [share * new + (1 - share) * old for new, old in zip(last, self._first, strict=True)]
            self.network.set_weights(weights)
            accuracy = score(self.answer(self.network), self._validation.labels)["accuracy"]
            if accuracy > self._best_accuracy:
                kept, self._best_accuracy, self.fitted.weights = share, accuracy, weights
                self.fitted.best_epoch = len(self.fitted.history)
        return kept

    @property
    def enough(self) -> bool:
        """Whether training is finished: the minutes are over, or the accuracy is reached."""
        if self.pace and self.pace.left < SHORTEST:
            return True
        return self._until is not None and self._best_accuracy >= self._until


@dataclass
class _Training:
    """The training of all layers."""

    keeper: _BestOfTuned
    data: Dataset
    recipe: Recipe
    seed: int
    callbacks: Sequence[keras.callbacks.Callback]

    def choose_precision(self, measure: bool) -> dict[str, str]:
        """Create the network to train, in the faster precision. Returns the precision and the reason."""
        model, recipe = self.keeper.network, self.recipe
        precision, reason = resolve_precision(recipe)
        if precision == "bfloat16" and recipe.precision == "auto":
            precision, reason = "float32", "bfloat16 is slower for depthwise convolutions; not measured here"
            if measure:
                precision, reason = self._measure_precisions()
        self.keeper.twin = resizable(model, precision)
        return {"precision": precision, "precision_reason": reason}

    def _measure_precisions(self) -> tuple[str, str]:
        names = ("float32", "bfloat16")
        twins = [resizable(self.keeper.network, name) for name in names]
        for twin in twins:
            compile_for(twin, self.recipe)
        timed = time_fits(twins, self._batches(range(MEASURED_STEPS), self._sides[0]), rounds=1)
        speeds = [self.recipe.batch_size / seconds[0] for seconds in timed]
        told = ", ".join(f"{speed:.0f} in {name}" for speed, name in zip(speeds, names, strict=True))
        return names[int(np.argmax(speeds))], f"pictures per second, measured: {told}"

    def train(self) -> dict[str, Any]:
        """Train the whole network on growing pictures."""
        self.keeper.schedule = compile_for(self.keeper.twin, self.recipe)
        if self.keeper.pace:
            self._train_for_minutes(self.keeper.pace)
        else:
            self._train_for_epochs()
        pictures = self._steps_done * self.recipe.batch_size
        return {"sides": [size[0] for size in self._sides], "pictures": pictures}

    def _train_for_epochs(self) -> None:
        count = len(self.data.train)
        steps = max(1, round(self.recipe.epochs * count / self.recipe.batch_size))
        epochs = max(1, round(steps * self.recipe.batch_size / count))
        steps_an_epoch = -(-steps // epochs)
        borders = [round(epochs * steps_an_epoch * part / len(self._sides)) for part in range(len(self._sides) + 1)]
        parts = map(range, borders[:-1], borders[1:])
        if self.keeper.schedule:
            self.keeper.schedule.span(epochs * steps_an_epoch)
        self._fit(list(zip(self._sides, parts, strict=True)), epochs, steps_an_epoch)

    def _train_for_minutes(self, pace: Pace) -> None:
        """Give each size a share of the time for about as many steps. Its first steps show how many fit."""
        areas = [math.prod(size) for size in self._sides]
        steps_an_epoch = -(-len(self.data.train) // self.recipe.batch_size)
        for number, size in enumerate(self._sides):
            done = self._steps_done
            pace.begin_part(done, areas[number] / sum(areas[number:]), len(areas) - number - 1)
            if pace.over:
                break
            none = [(other, range(0)) for other in self._sides]
            self._fit([*none, (size, range(done, ENOUGH_STEPS))], ENDLESS, steps_an_epoch)

    def _fit(self, parts: Sequence[tuple[tuple[int, int], range]], epochs: int, steps_an_epoch: int) -> None:
        """Train on the sizes one after the other. All sizes are declared, so that one trace serves all."""
        done = len(self.keeper.fitted.history)
        batches = [self._batches(steps, size) for size, steps in parts]
        self.keeper.twin.fit(
            functools.reduce(lambda first, second: first.concatenate(second), batches),
            initial_epoch=done,
            epochs=done + epochs,
            steps_per_epoch=steps_an_epoch,
            callbacks=list(self.callbacks),
            shuffle=False,
            verbose=0,
        )

    @property
    def _steps_done(self) -> int:
        return int(self.keeper.twin.optimizer.iterations)

    @property
    def _sides(self) -> list[tuple[int, int]]:
        return sides_of(self.data.input_shape)

    def _batches(self, steps: range, size: tuple[int, int]) -> Any:
        """Augmented batches with three channels."""
        batches = training_batches(self.data.train, self.data.num_classes, self.recipe, steps, self.seed, size)
        if self.data.input_shape[2] == 3:
            return batches
        return batches.map(lambda pixels, *others: (tf.image.grayscale_to_rgb(pixels), *others))


def _to_solve(data: Dataset) -> Dataset:
    """The data for solving the head: all, so that cached features of `transfer` are used, or at most MOST_SOLVED."""
    if len(data.train) <= MOST_SOLVED:
        return data
    count = min(MOST_SOLVED, SOLVED_BYTES // math.prod(data.input_shape))
    rows = np.sort(np.random.default_rng(0).permutation(len(data.train))[:count])
    train, test = data.train, data.test
    return replace(
        data, train=Split(train.images[rows], train.labels[rows]), test=Split(test.images[:0], test.labels[:0])
    )
