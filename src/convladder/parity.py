"""The parity gate: what is shipped answers as Keras does, or is not written."""

from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError

LARGEST_DIFFERENCE = 1e-4
PARITY_IMAGES = 1000


def check_answers(answered: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Compare probabilities, shape (count, num_classes), with Keras's.

    Returns:
        The gate's account: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    difference = float(np.abs(answered - expected).max())
    flips = int((answered.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if not difference <= LARGEST_DIFFERENCE or flips:
        raise ConvladderError(
            f"The exported model differs from Keras by up to {difference:.1e} and flips {flips} of {len(expected)} "
            f"labels. Expected at most {LARGEST_DIFFERENCE:.0e} and none, so nothing was written.",
            exit_status=3,
        )
    return {"images": len(expected), "largest_difference": difference, "label_flips": flips}
