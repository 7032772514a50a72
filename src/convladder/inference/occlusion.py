"""Occlusion: finds the parts of a picture that an answer depends on by covering them one after the other.

Zeiler and Fergus 2014, arXiv:1311.2901. It needs only a network's answers, so it works for any network, without Keras
and TensorFlow.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError, check_range

PATCH = 1 / 5  # side of the covering patch, relative to the picture's
STEPS = 24  # along a side, at most
PLACES = 24 * 112  # steps times pixels per side, at most: 12 steps at 224 pixels take one second, 24 would take four
COVERED_AT_ONCE = 64  # covered pictures at a time


def occlude(
    predict: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    image: npt.NDArray[np.uint8],
    label: int | None = None,
) -> npt.NDArray[np.float32]:
    """Measure how much less probable an answer becomes when a part of the picture is covered.

    Args:
        predict: Function from pixels, shape (count, height, width, channels), to probabilities, shape (count,
            num_classes), such as a Classifier's `predict_probabilities`.
        image: Shape (height, width, channels).
        label: The class whose probability is measured; by default the most probable.

    Returns:
        Shape (height, width), −1 to 1: for each pixel the drop of the probability, averaged over the patches that
        cover the pixel. A patch's side is a fifth of the picture's; its colour is the median of the border.

    Raises:
        ConvladderError: The image has another shape, or the network does not have this label.
    """
    check_image(image)
    height, width = image.shape[:2]
    places, size = list_places(height, width)
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    ground = np.median(border, axis=0).astype(np.uint8)  # per channel
    answer = predict(image[np.newaxis])[0]
    if label is None:
        label = int(answer.argmax())
    check_range("label", label, 0, len(answer) - 1)
    lost: list[float] = []
    for start in range(0, len(places), COVERED_AT_ONCE):
        part = places[start : start + COVERED_AT_ONCE]
        covered = np.repeat(image[np.newaxis], len(part), axis=0)
        for row, (top, left) in enumerate(part):
            covered[row, max(0, top) : top + size, max(0, left) : left + size] = ground
        lost.extend(answer[label] - predict(covered)[:, label])
    total, times = np.zeros((2, height, width), np.float32)
    for loss, (top, left) in zip(lost, places, strict=True):
        pixels = slice(max(0, top), top + size), slice(max(0, left), left + size)
        total[pixels] += loss
        times[pixels] += 1
    return total / times


def check_image(image: npt.NDArray[np.uint8]) -> None:
    """Raise a ConvladderError unless these are the pixels of one picture."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or not image.size or image.dtype.kind not in "uif":
        given = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ConvladderError(
            f"The image is {given}. Expected an array of pixels, 0 to 255, of shape (height, width, channels), as a "
            "Classifier's decode returns it for a file."
        )


def list_places(height: int, width: int) -> tuple[list[tuple[int, int]], int]:
    """Positions of the patches (top, left), and their side."""
    size = max(2, round(PATCH * min(height, width)))
    tops, lefts = (_starts(side, size) for side in (height, width))
    return [(top, left) for top in tops for left in lefts], size


def _starts(side: int, size: int) -> list[int]:
    """Where patches start along a side. Some start before it, so that the border is covered as often as the middle."""
    step = max(1, -(-(side + size) // max(1, min(STEPS, PLACES // side))))
    return list(range(1 - size, side, step))
