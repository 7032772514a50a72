"""Assembling: makes the fitted networks one model that is scored, saved and shipped.

Its probabilities are the mean over the members of an ensemble and over the views of test-time augmentation. It contains
a temperature that was fitted on validation images.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Split
from convladder.evaluating.calibration import SMALLEST, choose_temperature, row_slices, temper
from convladder.exporting.parity import LARGEST_DIFFERENCE
from convladder.exporting.pretrained import predict_quickly
from convladder.models.blocks import ALL_VIEWS
from convladder.models.own_layers import split_views


@dataclass(frozen=True)
class Calibration:
    """A temperature, its reason, and the model's answers for the validation images before and after."""

    temperature: float
    reason: str
    before: npt.NDArray[np.float32] | None = None
    after: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Answers:
    """A network's answers, before any temperature, for pictures that it was not fitted to.

    Attributes:
        validation: Shape (count, num_classes).
        labels: Labels of the validation pictures, shape (count,).
        test: Answers for the test pictures.
        features: Those of the training, validation and test pictures, shape (count, features) each.
        by_folds: If the network is fitted to the test pictures too: the answers of other networks that are not, at
            their own temperatures.
        folds: Number of such networks.
    """

    validation: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    test: npt.NDArray[np.float32]
    features: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]
    by_folds: npt.NDArray[np.float32] | None = None
    folds: int = 0


def shift_tensor(image: Any, down: int, right: int) -> Any:
    """Shift (batch, height, width, channels) by whole pixels; fill with black."""
    rows, columns = (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))
    return keras.layers.Cropping2D((rows[::-1], columns[::-1]))(keras.layers.ZeroPadding2D((rows, columns))(image))


def look_at_neighbours(image: Any) -> list[Any]:
    """The image, and four copies shifted by a pixel in each direction."""
    return [image, *(shift_tensor(image, down, right) for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)))]


def look_at_mirror_image(image: Any) -> list[Any]:
    """The image and its mirror image."""
    return [image, keras.ops.flip(image, axis=2)]


# For each test-time augmentation: the function from an image to its views, and their number.
VIEWS: Mapping[str, tuple[Callable[[Any], list[Any]], int]] = {
    "none": (lambda image: [image], 1),
    "digits": (look_at_neighbours, 5),
    "photos": (look_at_mirror_image, 2),
}


def assemble(members: Sequence[keras.Model], views: str = "none", temperature: float = 1.0) -> keras.Model:
    """One model whose probabilities are the mean over members and views; a single member without views stays as it is.

    The temperature is applied to the mean (Rahaman and Thiery 2020, arXiv:2007.08792): in the members, it could change
    the most probable class.
    """
    if len(members) == 1 and views == "none":
        return members[0]
    image = keras.Input(members[0].input_shape[1:], name="image")
    named = [keras.Model(m.input, m.output, name=f"member{number}") for number, m in enumerate(members, start=1)]
    # All views are one batch, so that the network is called, traced and shipped once, not once per view.
    looks, count = VIEWS[views]
    seen = keras.layers.Concatenate(axis=0, name=ALL_VIEWS)(looks(image)) if count > 1 else image
    answers = keras.layers.Average()([member(seen) for member in named]) if len(named) > 1 else named[0](seen)
    mean = keras.ops.mean(split_views(answers, count), axis=0) if count > 1 else answers
    if temperature == 1:
        return keras.Model(image, mean, name=members[0].name)
    logarithms = keras.ops.log(keras.ops.maximum(mean, SMALLEST))
    x = keras.layers.Rescaling(1 / temperature, name="temperature")(logarithms)
    x = keras.layers.Activation("softmax", name="probabilities")(x)
    return keras.Model(image, x, name=members[0].name)


def calibrate(
    members: Sequence[keras.Model], views: str, validation: Split, answers: Answers | None = None
) -> tuple[keras.Model, Calibration]:
    """Assemble a model, fit its temperature on validation images, and build that into the model.

    In a single network the layer `logits` is divided by the temperature, which does not change the order of classes.
    Known answers are not computed again.
    """
    if answers is not None:
        seen = "pictures that the head had not seen"
        temperature, reason = choose_temperature(answers.validation, answers.labels, seen)
        if views == "none":
            logits = members[0].get_layer("logits")
            logits.set_weights([weight / temperature for weight in logits.get_weights()])
        model = assemble(members, views, temperature)
        if not len(answers.labels):
            return model, Calibration(temperature, reason)
        after = temper(answers.validation, temperature).astype(np.float32)
        return model, Calibration(temperature, reason, answers.validation, after)
    model = assemble(members, views)
    if not len(validation):
        return model, Calibration(1.0, "no validation images")
    before = predict_quickly(model, validation.images)
    kept = Calibration(1.0, "the network does not end with a layer called logits and a softmax", before, before)
    logits, weights = None, []
    if model is members[0]:
        logits = next((layer for layer in model.layers if layer.name == "logits"), None)
        last = model.layers[-1]
        if not isinstance(logits, keras.layers.Dense):
            return model, kept
        if last is not logits and (last.weights or last.input is not logits.output):  # layers follow its logits
            return model, kept
    temperature, reason = choose_temperature(before, validation.labels)
    if temperature == 1:
        return model, Calibration(1.0, reason, before, before)
    if logits is None:
        model = assemble(members, views, temperature)
    else:
        weights = logits.get_weights()
        logits.set_weights([weight / temperature for weight in weights])
    after = predict_quickly(model, validation.images)
    same_answers = (after.argmax(axis=1) == before.argmax(axis=1)).all()
    differences = [np.abs(after[rows] - temper(before[rows], temperature)).max() for rows in row_slices(before)]
    if not same_answers or max(differences) > LARGEST_DIFFERENCE:
        if logits:  # something other than a softmax follows
            logits.set_weights(weights)
        return assemble(members, views), kept
    return model, Calibration(temperature, reason, before, after)
