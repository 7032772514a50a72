"""Robustness: how accuracy falls when images are shifted, rotated, noisy, blurred or faded.

After the benchmark of Hendrycks and Dietterich 2019, arXiv:1903.12261. The units of the severities do not depend on the
image size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import release
from convladder.evaluating.metrics import share_right

IMAGES = 1000  # at most, and fewer large ones, so that a large network takes tens of seconds, not minutes
MOST_PLACES = 1 << 22  # pixels of all images
SEED = 0
# Values per slice, because noise takes about 35 bytes per value. Multiples of 4 images: `shift` has four directions.
VALUES_A_SLICE = 1 << 21
FloatPixels = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """A way to make images harder.

    Attributes:
        name: Its name.
        unit: Unit of the severities.
        severities: From no change to too much.
        apply: Function from pixels, shape (count, height, width, channels), range 0–255, and a severity to changed
            pixels; noise also takes a generator.
    """

    name: str
    unit: str
    severities: tuple[float, ...]
    apply: Callable[..., FloatPixels]


def shift(pixels: FloatPixels, share: float) -> FloatPixels:
    """Shift the images by a share of their width: left, up, right and down in turn."""
    from scipy.ndimage import shift as move

    moved = np.empty_like(pixels)
    distance = share * pixels.shape[2]
    for turn, (down, right) in enumerate(((0, -1), (-1, 0), (0, 1), (1, 0))):
        by = (0, down * distance, right * distance, 0)
        move(pixels[turn::4], by, output=moved[turn::4], order=1, mode="nearest")
    return moved


def rotate(pixels: FloatPixels, degrees: float) -> FloatPixels:
    """Rotate the images around their center, half of them left and half right."""
    from scipy.ndimage import rotate as turn

    turned = np.empty_like(pixels)
    for half, sign in enumerate((1, -1)):
        turned[half::2] = turn(pixels[half::2], sign * degrees, axes=(2, 1), reshape=False, order=1, mode="nearest")
    return turned


def add_noise(pixels: FloatPixels, deviation: float, rng: np.random.Generator | None = None) -> FloatPixels:
    """Add independent normal noise to each value; the deviation is a share of the range."""
    noise = (rng or np.random.default_rng(SEED)).normal(0, 255 * deviation, pixels.shape)
    return np.asarray(pixels + noise, np.float32)


def blur(pixels: FloatPixels, share: float) -> FloatPixels:
    """Blur with a Gaussian; its deviation is a share of the width."""
    from scipy.ndimage import gaussian_filter

    deviation = share * pixels.shape[2]
    return np.asarray(gaussian_filter(pixels, deviation, axes=(1, 2), mode="nearest"))


def fade(pixels: FloatPixels, lost: float) -> FloatPixels:
    """Remove a share of the contrast: move every value towards its image's mean."""
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    return np.asarray(mean + (1 - lost) * (pixels - mean), np.float32)


NOISE = Change("noise", "share of the range", (0, 0.05, 0.1, 0.2, 0.3, 0.4), add_noise)
CHANGES = (
    Change("shift", "share of the width", (0, 0.04, 0.08, 0.12, 0.16, 0.2), shift),
    Change("rotation", "degrees", (0, 10, 20, 30, 45, 60), rotate),
    NOISE,
    Change("blur", "share of the width", (0, 0.02, 0.04, 0.06, 0.08, 0.1), blur),
    Change("contrast", "share lost", (0, 0.2, 0.4, 0.6, 0.8, 0.9), fade),
)


def count_images(images: npt.NDArray[np.uint8]) -> int:
    """How many images are used: 1,000 of up to 64×64, 83 of 224×224."""
    height, width = images.shape[1:3]
    return max(1, min(len(images), IMAGES, MOST_PLACES // (height * width)))


def measure_robustness(
    predict: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
) -> dict[str, Any]:
    """Accuracy at each severity of each change.

    Args:
        predict: Function from pixels to probabilities, for example a Classifier's `predict_probabilities`.
        images: Shape (count, height, width, channels). `count_images` of them, evenly spread, are used.
        labels: Shape (count,).

    Returns:
        `images`: number of images used; `seed`: of the noise; `curves`: for each change `name`, `unit`, and `points`
        with `severity`, `accuracy`, `low` and `high`, its 95 % interval.
    """
    chosen = np.unique(np.linspace(0, len(labels) - 1, count_images(images)).astype(int))
    size = max(4, VALUES_A_SLICE // int(np.prod(images.shape[1:])) // 4 * 4)
    right = {(change.name, severity): 0 for change in CHANGES for severity in change.severities}
    rngs = {severity: np.random.default_rng(SEED) for severity in NOISE.severities}  # continue from slice to slice
    for start in range(0, len(chosen), size):
        part = chosen[start : start + size]
        pixels, truths = images[part].astype(np.float32), labels[part]
        release(images)
        unchanged = int((predict(images[part]).argmax(axis=1) == truths).sum())
        for change in CHANGES:
            for severity in change.severities:
                if severity == 0:
                    right[change.name, severity] += unchanged
                    continue
                rng = (rngs[severity],) if change is NOISE else ()
                values = change.apply(pixels, severity, *rng)
                answers = predict(np.clip(np.rint(values), 0, 255).astype(np.uint8)).argmax(axis=1)
                right[change.name, severity] += int((answers == truths).sum())
    curves = [
        {
            "name": change.name,
            "unit": change.unit,
            "points": [
                {"severity": severity} | share_right(right[change.name, severity], len(chosen))
                for severity in change.severities
            ],
        }
        for change in CHANGES
    ]
    return {"images": len(chosen), "seed": SEED, "curves": curves}
