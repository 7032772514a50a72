"""Keeping: what a fitting keeps while it goes on: the best weights, the history, the schedule and checkpoints."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from convladder.data.dataset import Split
from convladder.evaluating.metrics import predict_probabilities, score
from convladder.signals import check_stop
from convladder.training.checkpoint import Checkpoint, Part, put_back
from convladder.training.divergence import check_answers, check_loss, check_weights
from convladder.training.pacing import Deadline, Pace
from convladder.training.recipes import Recipe


@dataclass
class Fitted:
    """The result of fitting.

    Attributes:
        weights: Weights of the epoch with the best validation accuracy; of the last epoch without validation images.
        best_epoch: Counted from 1.
        history: One row per epoch.
        seconds: Wall time of fitting, with tracing, without evaluation.
    """

    weights: list[Any] = field(default_factory=list)
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class OneCycle:
    """A learning rate that rises to its peak and falls to zero. The number of steps can be set after tracing.

    The shape is Keras's CosineDecay with warm-up. The lengths are variables, so that adapting them to the remaining
    time does not trace the graph again.
    """

    def __init__(self, peak: float) -> None:
        self._warmup, self._decay = tf.Variable(1.0, trainable=False), tf.Variable(1.0, trainable=False)
        self.rate = keras.optimizers.schedules.CosineDecay(
            peak / 10, self._decay, warmup_target=peak, warmup_steps=self._warmup
        )

    @property
    def variables(self) -> list[Any]:
        """The lengths, for a checkpoint."""
        return [self._warmup, self._decay]

    def span(self, steps: int) -> None:
        """Rise over the first quarter of the steps, fall over the rest."""
        self._warmup.assign(max(1.0, 0.25 * steps))
        self._decay.assign(max(1.0, 0.75 * steps))


class BestWeights(keras.callbacks.Callback):
    """Scores each epoch on the validation images, keeps the best weights and the history, and times the fitting.

    It also writes the checkpoints, and goes on from one.

    Raises:
        Stopped: A signal came; raised after the step.
        ConvladderError: The training has diverged.
    """

    later_of_equals = False  # whether the last of epochs with equal accuracy is the best, or the first
    scored_after = 1  # how often the validation images are scored after the minutes are over

    def __init__(
        self,
        validation: Split,
        recipe: Recipe,
        start: Fitted | None = None,
        deadline: Deadline | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.begun = checkpoint.take() if checkpoint else None  # where the checkpoint of a resumed run stood
        self.fitted = start or Fitted()  # what was fitted before, with its seconds
        self.schedule: OneCycle | None = None  # the learning rate's schedule, if the time limit determines its length
        self.pace: Pace | None = None
        if recipe.minutes is not None:
            deadline = deadline or Deadline.in_minutes(recipe.minutes)
            self.pace = Pace(deadline, recipe.batch_size, self.scored_after * len(validation))
        self._validation, self._until = validation, recipe.until
        self._recipe, self._epoch = recipe, 0
        self._ends: list[int] = []  # steps before the end of each trained epoch; the solved head's takes none
        self._metrics: list[npt.NDArray[Any]] | None = None  # of the begun epoch of a checkpoint
        self._logs: dict[str, float] = {}  # of the last look
        self._can_save = False
        self._best_accuracy = -1.0
        self._evaluated = 0.0
        self._started = time.perf_counter() - self.fitted.seconds

    def candidate(self) -> tuple[keras.Model, list[Any]]:
        """The network to score, and its weights, which can become the best."""
        return self.model, self.model.get_weights()

    def answer(self, network: keras.Model) -> npt.NDArray[np.float32]:
        """The network's answers for the validation images."""
        return predict_probabilities(network, self._validation.images)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Tell the other callbacks which epochs a resumed run has: their steps, and rows of the history."""
        ends = self._ends
        self.params["before"] = list(
            zip(ends, self.fitted.history[len(self.fitted.history) - len(ends) :], strict=True)
        )

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the epoch, or go on with it."""
        self._epoch, self._can_save = epoch, True
        if self._metrics is not None:  # restored here, because Keras resets them before
            put_back(self.model.metrics_variables, self._metrics)
            self._metrics = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the time, in case this was the last step. Stop if the minutes are over or a signal came."""
        self._logs = dict(logs or {})
        check_stop()
        check_loss(logs, f"in epoch {self._epoch + 1}, by step {batch + 1}", self._recipe)
        self.fitted.seconds = time.perf_counter() - self._started - self._evaluated
        if self.pace is not None:
            self._follow(self.pace)
        if self.checkpoint and not self.model.stop_training:  # else the end of the epoch follows
            self._save_if_due()

    def _follow(self, pace: Pace) -> None:
        """Adapt the length of the training to what is left of its minutes."""
        done = int(self.model.optimizer.iterations)
        left = pace.steps_left(done)
        if left is not None:
            self.params["total"] = done + math.ceil(left)  # for the progress bar
            if self.schedule:
                self.schedule.span(self.params["total"])
        if pace.over:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the epoch, keep the best weights, and pass the results to later callbacks in `logs`."""
        began = time.perf_counter()
        self.fitted.seconds = began - self._started - self._evaluated
        logs = {} if logs is None else logs
        logs["seconds"] = self.fitted.seconds
        accuracy = float(epoch)  # without validation images, later epochs count as better
        network, weights = self.candidate()
        check_weights(weights, place := f"after epoch {epoch + 1}", self._recipe)
        if len(self._validation):
            answers = self.answer(network)
            check_answers(answers, "validation images", place, self._recipe)
            scores = score(answers, self._validation.labels)
            accuracy = scores["accuracy"]
            logs |= {"validation_accuracy": accuracy, "validation_loss": scores["loss"]}
            if self._until is not None and accuracy >= self._until:
                self.model.stop_training = True
        if accuracy > self._best_accuracy or (self.later_of_equals and accuracy == self._best_accuracy):
            self._best_accuracy, self.fitted.best_epoch = accuracy, epoch + 1
            self.fitted.weights = weights
        self.fitted.history.append({"epoch": epoch + 1} | {key: float(value) for key, value in logs.items()})
        self._ends.append(int(self.model.optimizer.iterations))
        seconds = time.perf_counter() - began
        self._evaluated += seconds
        if self.pace and len(self._validation):
            self.pace.note_answers(len(self._validation), seconds)
        self._save_if_due()

    def fit(
        self,
        batches: Callable[[int], Any],
        epochs: int,
        steps_an_epoch: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """Train the model until `epochs` are done, with Keras's `fit`; from a checkpoint, first the rest of its epoch.

        Args:
            batches: From a step to a tf.data.Dataset of the batches from there on.
            epochs: Number of all epochs, with those in the history.
            steps_an_epoch: Number of steps.
            callbacks: Callbacks besides this one.
        """
        model = self.model
        within = int(model.optimizer.iterations) - self._epoch_began
        if within == steps_an_epoch or (within and model.stop_training):  # a signal came while the epoch was scored
            self.on_epoch_end(len(self.fitted.history), dict(self._logs))
            within, self._metrics = 0, None
        looking = [self, *callbacks]
        done = True
        for steps in [steps_an_epoch - within, steps_an_epoch] if within else [steps_an_epoch]:
            first = len(self.fitted.history)
            last = first + 1 if steps < steps_an_epoch else epochs
            if first < last and not model.stop_training:
                done = False
                model.fit(
                    batches(int(model.optimizer.iterations)),
                    initial_epoch=first,
                    epochs=last,
                    steps_per_epoch=steps,
                    callbacks=looking,
                    shuffle=False,  # the batches are shuffled already
                    verbose=0,
                )
        if done:  # before the run was ended: who looks on sees the last network
            told = keras.callbacks.CallbackList(looking, model=model, epochs=epochs, steps=steps_an_epoch)
            told.on_train_begin()
            told.on_train_end()

    def save(self) -> None:
        """Write a checkpoint now, unless nothing has changed since the last one was read."""
        if self.checkpoint and self._can_save:
            self.checkpoint.save(self.part())

    def _save_if_due(self) -> None:
        if self.checkpoint and self.checkpoint.is_due(self._size):
            self.save()

    @property
    def _size(self) -> int:
        """About the bytes of a checkpoint: the weights, Adam's two averages of each, and the best weights."""
        return 4 * 4 * self.model.count_params()

    @property
    def _epoch_began(self) -> int:
        """Steps before the current epoch."""
        return self._ends[-1] if self._ends else 0

    def part(self) -> Part:
        """Where the training stands, for a checkpoint."""
        state = {
            "ends": self._ends,
            "best_accuracy": self._best_accuracy,
            "best_epoch": self.fitted.best_epoch,
            "history": self.fitted.history,
            "seconds": self.fitted.seconds,
            "logs": {key: float(value) for key, value in self._logs.items()},
            "stopped": bool(self.model.stop_training),
            "pace": self.pace and self.pace.state,
        }
        arrays = {"variables": self._state_variables(self.model), "metrics": self.model.metrics_variables}
        values = {name: [variable.numpy() for variable in variables] for name, variables in arrays.items()}
        return Part(state, values | {"best": self.fitted.weights})

    def _state_variables(self, model: keras.Model) -> list[Any]:
        return [*model.variables, *model.optimizer.variables, *(self.schedule.variables if self.schedule else ())]

    def resume(self, model: keras.Model) -> None:
        """Take a compiled model as the one to train, and give it the state of the checkpoint, if there is one."""
        self.set_model(model)
        model.stop_training = False
        if self.begun is None:
            return
        state, arrays = self.begun.state, self.begun.arrays
        put_back(self._state_variables(model), arrays["variables"])
        step = int(model.optimizer.iterations)
        self._ends, self._best_accuracy, self._logs = (state[name] for name in ("ends", "best_accuracy", "logs"))
        if step > self._epoch_began:
            self._metrics = arrays["metrics"]
            answers = tf.zeros((1, model.output_shape[1]))
            model.compute_metrics(None, answers, answers)  # Keras makes their variables with the first answers
        best = arrays.get("best", self.fitted.weights)
        self.fitted = Fitted(best, state["best_epoch"], state["history"], state["seconds"])
        self._started, self._evaluated = time.perf_counter() - state["seconds"], 0.0
        model.stop_training = state["stopped"]
        if self.pace:
            self.pace.resume(state["pace"], step)
        self.begun = None
