"""Filming: a callback that keeps what a network is, at some forty moments of its training, for 1 % of the run's time.

Each moment holds the first layer's weights, and what the network makes of a few fixed test images. The test images are
only looked at: nothing of the training, not even the best epoch, is chosen by them.

The moments are dense at the start, where most changes: each comes at least 5 % later than the one before. What would
take more than its share of the time is left out, so a network that is fitted in two seconds has a shorter film.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image

from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError
from convladder.files import write_arrays
from convladder.models.blocks import flatten
from convladder.runs.examples import choose_examples
from convladder.runs.film import BY_MOMENT, FILM, load_film
from convladder.training.finetuning import sides_of
from convladder.training.progress import unfailing
from convladder.training.recipes import Recipe

SHARE = 0.01  # of the run's time, at most
SECONDS_AROUND = 3.0  # of a run before and after the fitting, at least
WRITES_APART = 400  # times as long as the last write took; at least a second
GROWTH = 1.05  # of the steps, from a moment to the next
MOST_MOMENTS = 48
THINNED = 40  # moments when there are more; the steps of the i-th are as i²
MOST_EPOCHS = 200  # rows of curves

IMAGES = 10
ANSWERS = 4000  # probabilities of a moment, at most
THUMBNAIL = 40  # pixels, the longer side
MAPPED = 2  # images whose feature maps are kept
MAPS = 8
MAP_SIDE = 14
FILTERS = 16
FILTER_SIDE = 28  # of a dense layer's units, which are as large as the image
BYTES = 4800  # of a moment's filters, at most
BYTES_BESIDE_MAPS = 1600


class Camera(keras.callbacks.Callback):
    """Films a training into film.npz. It must come after what adds validation scores to the logs.

    Args:
        folder: The run folder.
        data: Its test images are filmed: the first of each class, then the second, ten in all.
        recipe: Its batch size tells how much of an epoch a step is.

    Attributes:
        seconds: What the film took so far.
    """

    def __init__(self, folder: Path, data: Dataset, recipe: Recipe) -> None:
        super().__init__()
        self.seconds = 0.0
        self._path = folder / FILM
        self._test = data.test
        self._epochs_a_step = recipe.batch_size / len(data.train)
        self._moments: list[dict[str, Any]] = []
        self._epochs: list[list[float]] = []
        self._logs: Mapping[str, float] = {}
        self._cost = 0.0  # seconds of a moment, once known
        self._started = self._written = 0.0
        self._write_cost = 0.0
        unfailing(self)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Film the network before its first step. `finetune` may begin several times."""
        if self._moments:
            return
        self._started = began = time.perf_counter()
        self._open()
        self._take_up()
        if not self._moments:
            self._film()
        self.seconds += time.perf_counter() - began
        self._write()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Film the network if enough steps have passed and the share of the time allows it."""
        began = time.perf_counter()
        self._logs = logs or {}
        due = int(self.model.optimizer.iterations) >= GROWTH * self._moments[-1]["step"]
        if not due or self.seconds + self._cost > SHARE * (began - self._started + SECONDS_AROUND):
            return
        self._film()
        now = time.perf_counter()
        self._cost = now - began
        self.seconds += self._cost
        if now - self._written > max(1.0, WRITES_APART * self._write_cost):
            self._write()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Note the epoch's loss and accuracy, on training and validation images."""
        self._epochs.append(_epoch(epoch + 1, int(self.model.optimizer.iterations), logs or {}))
        if len(self._epochs) > MOST_EPOCHS:  # every second, and the lowest validation loss
            lowest = min(self._epochs, key=lambda row: row[4])
            self._epochs = [row for number, row in enumerate(self._epochs) if number % 2 == 0 or row is lowest]

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Film the network as it ends, and write the film. Called when a training is interrupted or fails, too."""
        if not self._moments:
            return
        began = time.perf_counter()
        if int(self.model.optimizer.iterations) > self._moments[-1]["step"]:
            self._film()
        self.seconds += time.perf_counter() - began
        self._write()

    def _open(self) -> None:
        """Choose the images, and find the first layer that has a kernel."""
        count = min(IMAGES, max(2, ANSWERS // self.model.outputs[0].shape[-1]))
        examples = choose_examples(self._test.images, self._test.labels, self._test.labels)
        self._images, self._labels = examples.images[:count], examples.labels[:count]
        first = next((layer for layer in flatten(self.model) if hasattr(layer, "kernel")), None)
        outputs = [output for output in [_maps_of(self.model, first)] if output is not None]
        self._kernel = _kernel_of(first, self._images.shape[1:])
        self._viewer = keras.Model(self.model.inputs[0], [*outputs, self.model.outputs[0]])
        self._seen = tf.convert_to_tensor(self._as_input())
        filters = self._kernel.shape[-1] if self._kernel is not None else 0
        maps = outputs[0].shape[-1] if outputs else 0
        self._counts = np.array([filters, maps])
        self._thumbnails = np.stack([_thumbnail(image) for image in self._images])

    def _take_up(self) -> None:
        """Go on with the film that a run has which is resumed, up to the step that it is resumed from."""
        self._epochs = [_epoch(row["epoch"], step, row) for step, row in (self.params or {}).get("before", ())]
        if not self._path.exists():
            return
        with contextlib.suppress(ConvladderError):  # a damaged one is replaced
            film = load_film(self._path, self.model.outputs[0].shape[-1])
            count = int((film.step <= int(self.model.optimizer.iterations)).sum())
            columns = {name: getattr(film, name) for name in BY_MOMENT}
            self._moments = [{name: values[moment] for name, values in columns.items()} for moment in range(count)]
            self.seconds = float(film.spent[0])
            if count:
                self._started -= float(film.seconds[count - 1])

    def _as_input(self) -> npt.NDArray[np.uint8]:
        """The images as the network takes them: `finetune` trains one that takes enlarged pictures with colours."""
        height, _, channels = self.model.inputs[0].shape[1:]
        images = self._images
        if height is not None:
            return images
        size = sides_of(images.shape[1:])[0]
        return np.repeat(tf.image.resize(images, size), channels // images.shape[3], axis=3)

    def _film(self) -> None:
        step = int(self.model.optimizer.iterations)
        outputs = keras.tree.flatten(self._viewer(self._seen, training=False))  # of a list of one it returns the one
        *seen, answers = (tf.cast(output, tf.float32).numpy() for output in outputs)
        probabilities = np.nan_to_num(answers)
        maps = _thin(seen[0][:MAPPED, ..., :MAPS], MAP_SIDE).transpose(0, 3, 1, 2) if seen else np.zeros((0, 0, 0, 0))
        filters, filter_peak = _quantize(self._filters(BYTES_BESIDE_MAPS if seen else BYTES))
        maps, map_peak = _quantize(maps)
        self._moments.append(
            {
                "step": step,
                "epoch": step * self._epochs_a_step,
                "seconds": time.perf_counter() - self._started,
                "loss": float(self._logs.get("loss", math.nan)),
                "accuracy": float(self._logs.get("accuracy", math.nan)),
                "answers": probabilities.argmax(axis=1),
                "probabilities": np.rint(255 * probabilities.clip(0, 1)).astype(np.uint8),
                "filters": filters,
                "filter_peaks": filter_peak,
                "maps": maps,
                "map_peaks": map_peak,
            }
        )
        if len(self._moments) > MOST_MOMENTS:
            self._moments = _spread(self._moments)

    def _filters(self, most: int) -> npt.NDArray[np.float32]:
        """Shape (filters, height, width, channels), of so many values at most; none where the first layer has none."""
        if self._kernel is None:
            return np.zeros((0, 0, 0, 0), np.float32)
        # (height, width, channels, filters), or (pixels, units)
        kernel = keras.ops.convert_to_numpy(self._kernel).astype(np.float32)
        if kernel.ndim == 2:
            kernel = kernel.reshape(*self._images.shape[1:], -1)
        kernel = _thin(kernel.transpose(3, 0, 1, 2), FILTER_SIDE)
        if kernel.shape[3] not in (1, 3):
            kernel = kernel.sum(axis=3, keepdims=True)
        return kernel[: max(1, min(FILTERS, most // math.prod(kernel.shape[1:])))]

    def _write(self) -> None:
        began = time.perf_counter()
        write_arrays(
            self._path,
            images=self._thumbnails,
            labels=self._labels,
            counts=self._counts,
            epochs=np.reshape(np.asarray(self._epochs, np.float64), (-1, 6)),
            spent=np.array([self.seconds]),
            **{name: np.stack([moment[name] for moment in self._moments]) for name in BY_MOMENT},
        )
        self._written = time.perf_counter()
        self._write_cost = self._written - began
        self.seconds += self._write_cost


def _epoch(number: float, step: int, scores: Mapping[str, float]) -> list[float]:
    """A row of the film's epochs."""
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    return [number, step, *(float(scores.get(name, math.nan)) for name in names)]


def _kernel_of(layer: Any, image: tuple[int, ...]) -> Any:
    """The kernel of a convolution, or of a dense layer that reads pixels; None for others."""
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel
    if isinstance(layer, keras.layers.Dense) and layer.kernel.shape[0] == math.prod(image):
        return layer.kernel
    return None


def _maps_of(model: keras.Model, layer: Any) -> Any:
    """The first layer's feature maps; none of a dense layer, of one within a nested model, or with channels first."""
    if layer not in model.layers or len(layer.output.shape) != 4:
        return None
    if getattr(layer, "data_format", None) == "channels_first":
        return None
    return layer.output


def _thin(pictures: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Every n-th row and column of (count, height, width, …), so that neither side is longer."""
    every = -(-max(pictures.shape[1:3]) // side)
    return pictures[:, ::every, ::every]


def _quantize(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], float]:
    """Values as whole numbers up to 127, which stands for the peak; and the peak."""
    values = np.nan_to_num(values)
    peak = float(np.abs(values).max(initial=0.0))
    return np.rint(values * (127 / peak if peak else 0)).astype(np.int8), peak


def _thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width, channels = image.shape
    scale = min(1.0, THUMBNAIL / max(height, width))
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    small = Image.fromarray(image[..., 0] if channels == 1 else image).resize(size)
    return np.asarray(small).reshape(size[1], size[0], channels)


def _spread(moments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most 41 of the moments, the first and the last among them, denser at the start."""
    last = moments[-1]["step"]
    by_place = {int(THINNED * math.sqrt(moment["step"] / last)): moment for moment in reversed(moments)}
    return [by_place[place] for place in sorted(by_place)]
