"""Few images: how many are too few for what, and how numbers that come of them are said."""

from collections.abc import Mapping, Sequence
from typing import Any

FEW = 30  # images, below which a test tells little, and no temperature is fitted
FEW_FOR_DETAIL = 100  # below which errors are too few to choose a threshold by, or to tell how sure answers may be
FEW_TO_VALIDATE = 100  # validation pictures, below which they are pooled with the training pictures
MOST_DIGITS = 6  # of points, where a difference is told from zero


TRANSFER = " `train --model transfer`, where no folder names test images, tests on all, by cross-validation."


def points_digits(images: int) -> int:
    """How many decimal places of a percentage of so many images mean something: 95 % of 20, 99.12 % of 10,000."""
    return 0 if images < FEW_FOR_DETAIL else 2


def points_of(values: Sequence[float], images: int, *, nonzero: bool = False) -> list[str]:
    """Differences of shares of so many images, in points; with more digits where what is no zero would look like it."""
    digits = points_digits(images)
    while nonzero and digits < MOST_DIGITS and not all(round(100 * value, digits) for value in values):
        digits += 1
    return [f"{100 * value:.{digits}f}".replace("-", "−") for value in values]


def rounded(share: float, images: int) -> str:
    """A share of so many images with as many digits as mean something: 0.95 of 20, 0.9912 of 10,000."""
    return f"{share:.{2 + points_digits(images)}f}"


def leaks_in_words(test: Mapping[str, Any]) -> str:
    """How good a run is without the images of which it learned from copies, in a line; empty where there are none."""
    other = test.get("without_leaks")
    if other is None:
        return ""
    copies = test["images"] - other["images"]
    images = f"{copies:,} of the {test['images']:,} images {'is a copy' if copies == 1 else 'are copies'}"
    said = f"{images} of what was learned from, so that the accuracy is too good"
    if not other["images"]:
        return f"{said}: no others are left to tell."
    accuracy, low, high = (rounded(other[key], other["images"]) for key in ("accuracy", "low", "high"))
    return f"{said}: {accuracy} ({low} to {high}) for the {other['images']:,} others."


def caution(test: Mapping[str, Any], info: Mapping[str, Any] | None = None) -> str:
    """What a test on few images leaves open, in a line; an empty text where they are not few.

    Args:
        test: As `evaluating.describe` gives it.
        info: A run's, where these are its own test images: what would tell more is said as well.
    """
    images = test["images"]
    if images >= FEW:
        return ""
    pictures = f"{images} test images tell" if images != 1 else "1 test image tells"
    said = f"{pictures} little: of others like them, {test['low']:.0%} to {test['high']:.0%} may be right."
    commonest = max(test["per_class"], key=lambda row: int(row["support"]))
    if test["accuracy"] <= commonest["support"] / images:
        said += f" Always answering {commonest['name']} would be right at least as often."
    if info and info.get("photographs") and "tested_by" not in info:
        said += TRANSFER
    return said
