"""Adopting: checks and copies a network that the user built, so that training does not change the original."""

from typing import Any, NoReturn

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset
from convladder.errors import ConvladderError
from convladder.training.fused import clone

IMAGES_TRIED = 8
COPY_TOLERANCE = 1e-4  # between a copy's answers and the original's, and between the sum of probabilities and 1


def adopt(model: Any, data: Dataset) -> keras.Model:
    """Copy a network for training. The original keeps its weights, its frozen layers and its optimizer.

    Args:
        model: A network from pixels to class probabilities.
        data: The data that it will be trained on.

    Raises:
        ConvladderError: It is not a Sequential or functional model with one input and one output, does not match the
            data, does not return probabilities, has nothing to train, or cannot be copied.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ConvladderError(
            f"{getattr(model, 'name', model)!r} is a {type(model).__name__} with unknown layers. Expected a rung's "
            "name, or a Sequential or functional model that is built: keras.Model(inputs, outputs)."
        )

    def refuse(what: str, expected: str) -> NoReturn:
        raise ConvladderError(f"The network {model.name} {what}. Expected {expected}.")

    shape, classes = data.input_shape, data.num_classes
    pixels = f"one input of pixels, {'×'.join(map(str, shape))} as in {data.name}"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        refuse(f"has {len(model.inputs)} inputs and {len(model.outputs)} outputs", f"{pixels}, and one output")
    takes, gives = model.inputs[0].shape[1:], model.outputs[0].shape[1:]
    if len(takes) != 3 or any(side not in (None, wanted) for side, wanted in zip(takes, shape, strict=True)):
        refuse(f"takes arrays of {_in_words(takes)}", pixels)
    if gives != (classes,):
        refuse(f"gives arrays of {_in_words(gives)}", f"a probability for each of the {classes} classes of {data.name}")
    if not model.trainable_variables:
        refuse("has no weights to train: all are frozen", "at least one layer with trainable=True")
    images = data.train.images[:IMAGES_TRIED]
    answers = _answer(model, images)
    if not np.isfinite(answers).all():
        refuse("answers with NaN or infinity before any training", "finite weights, and layers that keep them so")
    if answers.min() < 0 or np.abs(answers.sum(axis=1) - 1).max() > 100 * COPY_TOLERANCE:
        refuse(
            f"does not return probabilities: they sum to {answers[0].sum():.3g} for an image",
            "a softmax at its end, as in Dense(classes, activation='softmax')",
        )
    copied = "layers with a complete get_config, as Keras needs to save and load them"
    try:
        copy = _copy(model, shape)
        difference = float(np.abs(_answer(copy, images) - answers).max())
    except Exception as error:
        refuse(f"cannot be copied ({' '.join(str(error).split())[:200].rstrip('.')})", copied)
    if difference > COPY_TOLERANCE:
        refuse(f"cannot be copied: the copy's answers differ by up to {difference:.1e}", copied)
    return copy


def _answer(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities. It calls the model, because `predict` would leave something behind in it."""
    (answers,) = keras.tree.flatten(model(_like_input(model, images), training=False))
    return np.asarray(answers, np.float32)


def _copy(model: keras.Model, shape: tuple[int, int, int]) -> keras.Model:
    """A functional copy with a known image size, and with a plain input and output instead of lists or dicts."""
    (pixels,) = model.inputs
    image = None
    if None in pixels.shape[1:]:
        image = _like_input(model, keras.Input(shape, dtype=pixels.dtype, name=pixels.name))
    copy = clone(model, "float32", image, fuse=False)
    if isinstance(copy, keras.Sequential) or keras.tree.is_nested(copy.input) or keras.tree.is_nested(copy.output):
        return keras.Model(copy.inputs[0], copy.outputs[0], name=model.name)
    return copy


def _like_input(model: keras.Model, value: Any) -> Any:
    """Wrap a value in a list or dict if the model's only input is in one."""
    return value if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, [value])


def _in_words(shape: tuple[int | None, ...]) -> str:
    return "×".join("any" if side is None else str(side) for side in shape) or "no dimension"
