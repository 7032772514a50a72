"""Assembling: the fitted networks become the one model that is scored, saved and shipped.

Its probabilities are a mean over its members, where it is an ensemble, and over its views, where a picture is looked
at more than once; a temperature, fitted on validation images, is inside it.
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
from convladder.models.blocks import ALL_VIEWS, split_views


@dataclass(frozen=True)
class Calibration:
    """A temperature, why it is that, and what the model answered for the validation images before and after."""

    temperature: float
    reason: str
    before: npt.NDArray[np.float32] | None = None
    after: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Answers:
    """What a network answered, before any temperature, for pictures that it was not fitted to.

    Attributes:
        validation: Shape (count, num_classes).
        labels: Theirs, shape (count,).
        test: Of the test pictures.
        by_folds: Where the test pictures are fitted to as well, what networks answered, at their own temperatures,
            that had not seen them.
        folds: How many such networks there were.
    """

    validation: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    test: npt.NDArray[np.float32]
    by_folds: npt.NDArray[np.float32] | None = None
    folds: int = 0


def shift_tensor(image: Any, down: int, right: int) -> Any:
    """Move (batch, height, width, channels) by whole pixels; black comes in."""
    rows, columns = (max(down, 0), max(-down, 0)), (max(right, 0), max(-right, 0))
    return keras.layers.Cropping2D((rows[::-1], columns[::-1]))(keras.layers.ZeroPadding2D((rows, columns))(image))


def look_at_neighbours(image: Any) -> list[Any]:
    """The image, and moved by a pixel in each of four directions."""
    return [image, *(shift_tensor(image, down, right) for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)))]


def look_at_mirror_image(image: Any) -> list[Any]:
    """The image, and its left and right exchanged."""
    return [image, keras.ops.flip(image, axis=2)]


# By the name of what is averaged over at prediction: from an image to its views, and how many these are.
VIEWS: Mapping[str, tuple[Callable[[Any], list[Any]], int]] = {
    "none": (lambda image: [image], 1),
    "digits": (look_at_neighbours, 5),
    "photos": (look_at_mirror_image, 2),
}


def assemble(members: Sequence[keras.Model], views: str = "none", temperature: float = 1.0) -> keras.Model:
    """One model whose probabilities are the mean over members and views; the member itself where that is all.

    A mean's temperature stands behind it (Rahaman and Thiery 2020, arXiv:2007.08792): within the members it would
    change which class is the most probable.
    """
    if len(members) == 1 and views == "none":
        return members[0]
    image = keras.Input(members[0].input_shape[1:], name="image")
    named = [keras.Model(m.input, m.output, name=f"member{number}") for number, m in enumerate(members, start=1)]
    # All views are one batch, so that the network is called, traced and shipped once and not once a view.
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
    """Assemble a model, fit its temperature on validation images, and put that into it: all that comes after has it.

    A single network gets its layer `logits` divided by the temperature, which changes no order of its answers. What
    is known of its answers already is not computed again.
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
        if last is not logits and (last.weights or last.input is not logits.output):  # goes on behind its logits
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
        if logits:  # something else than a softmax comes after
            logits.set_weights(weights)
        return assemble(members, views), kept
    return model, Calibration(temperature, reason, before, after)
