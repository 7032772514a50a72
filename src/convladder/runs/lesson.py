"""lesson.json: the digits that the lesson shows, and the kernels of the models."""

import base64
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from convladder.inference.artifact import read_artifact
from convladder.inference.classifier import Classifier
from convladder.runs.catalogue import find_examples
from convladder.runs.examples import Examples, choose_examples

DIGITS = 20
DIGIT_SHAPE = (28, 28, 1)
CLASS_NAMES = tuple("0123456789")
MOST_KERNELS = 16


def describe_lesson(classifiers: Mapping[str, Classifier]) -> dict[str, Any]:
    """What lesson.json says.

    Args:
        classifiers: By the names that the lesson shows; none are needed.

    Returns:
        `digits`: pixels, base64 of a byte a pixel, one image after the other, and labels; of the first classifier
        for digits that has test images, else of MNIST. `learnt`: a list of names and kernels, rows of numbers.
    """
    examples = _digits(classifiers)
    learnt = [{"name": name, "kernels": kernels} for name, one in classifiers.items() if (kernels := _kernels(one))]
    pixels = base64.b64encode(examples.images[:DIGITS].tobytes()).decode()
    return {"digits": {"pixels": pixels, "labels": examples.labels[:DIGITS].tolist()}, "learnt": learnt}


def _digits(classifiers: Mapping[str, Classifier]) -> Examples:
    for classifier in classifiers.values():
        if tuple(classifier.input_shape) == DIGIT_SHAPE and tuple(classifier.class_names) == CLASS_NAMES:
            found = find_examples(classifier)
            if found:
                return found
    with np.load(Path(str(files("convladder.data") / "mnist.npz")), allow_pickle=False) as archive:
        images, labels = archive["x_test"][..., np.newaxis], archive["y_test"].astype(np.int64)
    return choose_examples(images, labels, labels)


def _kernels(classifier: Classifier) -> list[list[float]]:
    """The kernels of the first convolution as they act on a gray picture: the channels of colours are added."""
    try:
        kernels = read_artifact(classifier.path).first_kernels
    except (ValueError, LookupError):  # the file has changed since, or its weights do not fit their shape
        return []
    if kernels is None or kernels.ndim != 4 or kernels.shape[2] != kernels.shape[3] or not np.isfinite(kernels).all():
        return []
    flat = kernels.sum(axis=1).reshape(len(kernels), -1)[:MOST_KERNELS]
    return [[round(float(weight), 4) for weight in kernel] for kernel in flat]
