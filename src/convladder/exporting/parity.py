"""The parity gate: what is exported answers as Keras does, or is not written."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder.data import Dataset
from convladder.data.dataset import slices
from convladder.errors import ConvladderError

LARGEST_DIFFERENCE = 1e-4
PARITY_IMAGES = 1000

# From pixels, uint8 (count, height, width, channels), to probabilities, float32 (count, num_classes).
Answer: TypeAlias = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def parity_images(data: Dataset) -> npt.NDArray[np.uint8]:
    """1,000 images: the first of the test images and, where these are fewer, of the others; at most all there are."""
    left, parts = PARITY_IMAGES, []
    for split in (data.test, data.validation, data.train):
        parts.append(split.images[:left])
        left -= len(parts[-1])
    return np.concatenate(parts)


def check_parity(
    answer: Answer, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32], what: str = "The exported model"
) -> dict[str, Any]:
    """Compare answers with Keras's, or refuse what gave them.

    Returns:
        `images`: how many; `largest_difference` of two probabilities; `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    answered = np.concatenate([answer(part) for part in slices(images)])
    difference = float(np.abs(answered - expected).max())
    flips = int((answered.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if not difference <= LARGEST_DIFFERENCE or flips:
        raise ConvladderError(
            f"{what} differs from Keras by up to {difference:.1e} and flips {flips} of {len(images)} "
            f"labels. Expected at most {LARGEST_DIFFERENCE:.0e} and none, so nothing was written.",
            exit_status=3,
        )
    return {"images": len(images), "largest_difference": difference, "label_flips": flips}
