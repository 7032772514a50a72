"""Changes of images for the measurement of robustness stay within the range of pixels."""

import numpy as np
import numpy.typing as npt

from convladder.evaluating.robustness import measure_robustness


def test_no_change_turns_white_into_black() -> None:
    """A value beyond 255 that is not clipped would begin again at 0."""
    shares: list[float] = []

    def predict(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        shares.append(float((images == 0).mean()))
        return np.eye(2, dtype=np.float32)[np.zeros(len(images), int)]

    measured = measure_robustness(predict, np.full((8, 16, 16, 1), 255, np.uint8), np.zeros(8, np.int64))
    assert len(shares) > len(measured["curves"])
    assert max(shares) < 0.02  # of the strongest noise some values are black
