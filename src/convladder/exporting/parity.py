"""The parity gate: an exported model that does not agree with Keras is not written."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset, slices
from convladder.errors import ConvladderError

LARGEST_DIFFERENCE = 1e-4
PARITY_IMAGES = 1000
PARITY_PIXELS = 4_000_000  # pixels in all: 1,000 images of 63×63, 79 of 224×224

# From pixels, uint8 (count, height, width, channels), to probabilities, float32 (count, num_classes).
Predict: TypeAlias = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def parity_images(data: Dataset) -> npt.NDArray[np.uint8]:
    """The first 1,000 test images, or fewer large ones. If there are not enough, other images follow."""
    height, width, _ = data.input_shape
    left, parts = min(PARITY_IMAGES, PARITY_PIXELS // (height * width)), []
    for split in (data.test, data.validation, data.train):
        parts.append(split.images[:left])
        left -= len(parts[-1])
    return np.concatenate(parts)


def check_parity(
    answer: Predict, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32], what: str = "The exported model"
) -> dict[str, Any]:
    """Compare answers with Keras's, and refuse a model that does not agree.

    Returns:
        `images`: their number; `largest_difference` between two probabilities; `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    return check_agreement(np.concatenate([answer(part) for part in slices(images)]), expected, what)


def check_agreement(answered: npt.NDArray[np.float32], expected: npt.NDArray[np.float32], what: str) -> dict[str, Any]:
    """Like `check_parity`, for given answers, both of shape (count, num_classes)."""
    difference = float(np.abs(answered - expected).max())
    flips = int((answered.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if not difference <= LARGEST_DIFFERENCE or flips:
        raise ConvladderError(
            f"{what} differs from Keras by up to {difference:.1e} and flips {flips} of {len(expected)} "
            f"labels. Expected at most {LARGEST_DIFFERENCE:.0e} and none, so nothing was written.",
            exit_status=3,
        )
    return {"images": len(expected), "largest_difference": difference, "label_flips": flips}
