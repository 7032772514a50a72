"""Small test sets: what needs how many images, and how to state results from few."""

from collections.abc import Mapping, Sequence
from typing import Any

FEW = 30  # images: with fewer, a test shows little, and no temperature is fitted
FEW_FOR_DETAIL = 100  # images: with fewer, errors are too few to choose a threshold or to measure calibration
FEW_TO_VALIDATE = 100  # validation pictures: fewer are pooled with the training pictures
MOST_DIGITS = 6  # of percentage points, to show that a difference is not zero


TRANSFER = " `train --model transfer`, where no folder names test images, tests on all, by cross-validation."


def points_digits(images: int) -> int:
    """Significant decimal places of a percentage of so many images: 95 % of 20, 99.12 % of 10,000."""
    return 0 if images < FEW_FOR_DETAIL else 2


def points_of(values: Sequence[float], images: int, *, nonzero: bool = False) -> list[str]:
    """Differences of shares of so many images, in percentage points; `nonzero` adds digits until none looks like 0."""
    digits = points_digits(images)
    while nonzero and digits < MOST_DIGITS and not all(round(100 * value, digits) for value in values):
        digits += 1
    return [f"{100 * value:.{digits}f}".replace("-", "−") for value in values]


def rounded(share: float, images: int) -> str:
    """A share of so many images with its significant digits: 0.95 of 20, 0.9912 of 10,000."""
    return f"{share:.{2 + points_digits(images)}f}"


def leaks_in_words(test: Mapping[str, Any]) -> str:
    """A line with the accuracy without images whose copies were trained on; empty if there are none."""
    other = test.get("without_leaks")
    if other is None:
        return ""
    copies = test["images"] - other["images"]
    images = f"{copies:,} of the {test['images']:,} images {'is a copy' if copies == 1 else 'are copies'}"
    said = f"{images} of training images, so the accuracy is too high"
    if not other["images"]:
        return f"{said}: no other images are left."
    accuracy, low, high = (rounded(other[key], other["images"]) for key in ("accuracy", "low", "high"))
    return f"{said}: {accuracy} ({low} to {high}) for the {other['images']:,} others."


def caution(test: Mapping[str, Any], info: Mapping[str, Any] | None = None) -> str:
    """A line on how little a test on few images shows; empty if they are not few.

    Args:
        test: As `evaluating.describe` returns it.
        info: The run's, if these are its own test images; then the line also says what would show more.
    """
    images = test["images"]
    if images >= FEW:
        return ""
    pictures = f"{images} test images tell" if images != 1 else "1 test image tells"
    said = f"{pictures} little: on other images like them, the accuracy may be {test['low']:.0%} to {test['high']:.0%}."
    commonest = max(test["per_class"], key=lambda row: int(row["support"]))
    if test["accuracy"] <= commonest["support"] / images:
        said += f" Always answering {commonest['name']} would be at least as accurate."
    if info and info.get("photographs") and "tested_by" not in info:
        said += TRANSFER
    return said
