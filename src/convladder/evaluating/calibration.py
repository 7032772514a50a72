"""Calibration: does what is said with 90 % come true in nine of ten cases, and what should not be said at all?

Guo et al. 2017, arXiv:1706.04599, for temperature and expected calibration error; Geifman and El-Yaniv 2017,
arXiv:1705.08500, for abstention.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.evaluating.few import FEW, FEW_FOR_DETAIL

VALUES_A_SLICE = 1 << 20  # of the probabilities: what is computed of them takes tens of bytes for each
BINS = 15
FOLDS = 5
BEYOND_CHANCE = 2.0  # standard errors, by which what is fitted must help images that it was not fitted to
TEMPERATURES = (0.05, 20.0)  # the range in which the best is looked for
SMALLEST = 1e-30  # of a probability, before its logarithm is taken


def temper(probabilities: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """The probabilities that a network gives whose logits are divided by a temperature, from those it gives without.

    Shape (count, num_classes), as given: probabilities are the softmax of their own logarithms, so these stand for
    the logits.
    """
    from scipy.special import softmax

    return np.asarray(softmax(_logarithms(probabilities) / temperature, axis=1))


def fit_temperature(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The temperature at which the cross-entropy is smallest.

    Args:
        probabilities: Of validation images, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Above 1 where the network was too sure of itself, below 1 where it was not sure enough. The right class counts
        as (count + 1) / (count + 2) and not as 1 (Platt 1999): else the best network on few images, none of which it
        gets wrong, would be made as sure as it can be.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    count, classes = probabilities.shape
    left = 1 / (count + 2)

    def cross_entropy(logarithm: float) -> float:
        losses = np.empty(count)
        for rows in row_slices(probabilities):
            scaled = _logarithms(probabilities[rows]) / np.exp(logarithm)
            wanted = np.full(scaled.shape, left / max(1, classes - 1))
            wanted[np.arange(len(wanted)), labels[rows]] = 1 - left
            losses[rows] = logsumexp(scaled, axis=1) - (wanted * scaled).sum(axis=1)
        return float(losses.mean())

    best = minimize_scalar(cross_entropy, bounds=np.log(TEMPERATURES), method="bounded")
    return float(np.exp(best.x))


def choose_temperature(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], images: str = "validation images"
) -> tuple[float, str]:
    """The temperature to use, and why: the best, if cross-validation shows that it helps; else 1.

    Fitted on 60 images of networks that need none, it doubled the calibration error. So it is taken where the mean
    cross-entropy of images that it was not fitted to falls by two standard errors or more, and there are 30 of them.

    Args:
        probabilities: As `fit_temperature` takes them.
        labels: The same.
        images: What they are called in the reason.
    """
    count = len(labels)
    if count < FEW:
        return 1.0, f"1, since {FEW} {images} are needed to fit one, and there are {count}"
    saved = np.empty(count)
    for rest, fold in _folds(count):
        temperature = fit_temperature(probabilities[rest], labels[rest])
        said = probabilities[fold], temper(probabilities[fold], temperature)
        before, after = (np.log(np.maximum(one[np.arange(len(fold)), labels[fold]], SMALLEST)) for one in said)
        saved[fold] = after - before
    if not _helps(saved):
        return 1.0, f"1, since by cross-validation on {count:,} {images} no other helps beyond chance"
    return fit_temperature(probabilities, labels), f"fitted on {count:,} {images}"


def _folds(count: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Rows to fit to, and rows to judge on."""
    from sklearn.model_selection import KFold

    yield from KFold(FOLDS, shuffle=True, random_state=0).split(np.empty(count))


def _helps(gains: npt.NDArray[np.float64]) -> bool:
    """Whether the mean of what each image gains is above 0 by more than chance."""
    return bool(gains.mean() > BEYOND_CHANCE * gains.std(ddof=1) / len(gains) ** 0.5)


def reliability(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """How far what is said and what comes true lie apart.

    Args:
        probabilities: Shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        `ece`: the expected calibration error over 15 bins of the answer's probability; `bins`: those that are not
        empty, each with `low`, `high`, `images`, mean `confidence` and `accuracy`.
    """
    from sklearn.calibration import calibration_curve

    confidence = np.clip(probabilities.max(axis=1).astype(np.float64), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    accuracies, confidences = calibration_curve(correct, confidence, n_bins=BINS, pos_label=True)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)  # as calibration_curve does
    filled = np.flatnonzero(counts)
    return {
        "ece": float((counts[filled] * np.abs(accuracies - confidences)).sum() / len(labels)),
        "bins": [
            {
                "low": float(edges[number]),
                "high": float(edges[number + 1]),
                "images": int(counts[number]),
                "confidence": float(said),
                "accuracy": float(true),
            }
            for number, said, true in zip(filled, confidences, accuracies, strict=True)
        ],
    }


def choose_threshold(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, str]:
    """The threshold to use, and why: that of `fit_threshold`, if cross-validation shows that it helps; else 0.

    It helps where what is answered, of images that it was not fitted to, is less often wrong than all by two standard
    errors or more.
    """
    count = len(labels)
    if count < FEW_FOR_DETAIL:
        return 0.0, f"{FEW_FOR_DETAIL} validation images are needed to choose one, and there are {count}"
    threshold = fit_threshold(probabilities, labels)
    if not threshold:
        return 0.0, "none halves the errors on the validation images"
    wrong = (probabilities.argmax(axis=1) != labels).astype(np.float64)
    gains = np.empty(count)
    for rest, fold in _folds(count):
        answered = probabilities[fold].max(axis=1) >= _fit_threshold(probabilities[rest], labels[rest])
        gains[fold] = answered * (wrong.mean() - wrong[fold])
    if not _helps(gains):
        return 0.0, f"by cross-validation on {count:,} validation images none helps beyond chance"
    return threshold, f"fitted on {count:,} validation images"


def fit_threshold(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The smallest probability below which to abstain so that what is answered is wrong half as often.

    Args:
        probabilities: Of validation images, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Half-way between two probabilities that were given, so that rounding does not matter; 0 where nothing is wrong,
        where no threshold halves the errors, or where there are fewer than 100 images.
    """
    return _fit_threshold(probabilities, labels) if len(labels) >= FEW_FOR_DETAIL else 0.0


def _fit_threshold(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    confidence, correct = confidence[order].astype(np.float64), correct[order]
    answered = np.arange(1, len(labels) + 1)
    wrong = np.cumsum(~correct)
    # One may stop after an image only where the next one is less probable: equal ones are answered, or not, alike.
    stops = np.append(confidence[:-1] > confidence[1:], True)
    halved = np.flatnonzero(stops & (wrong / answered <= (~correct).mean() / 2))
    if not len(halved) or halved[-1] == len(labels) - 1:
        return 0.0
    return float(confidence[halved[-1] : halved[-1] + 2].mean())


def abstention(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """What a threshold costs and buys: `threshold`, `coverage`, the share answered, and the `accuracy` of that share.

    The accuracy is none where nothing is answered.
    """
    answered = probabilities.max(axis=1) >= threshold
    correct = probabilities.argmax(axis=1) == labels
    return {
        "threshold": threshold,
        "coverage": float(answered.mean()),
        "accuracy": float(correct[answered].mean()) if answered.any() else None,
    }


def row_slices(probabilities: npt.NDArray[np.float32]) -> Iterator[slice]:
    """Rows in order, about a million values at a time."""
    size = max(1, VALUES_A_SLICE // probabilities.shape[1])
    for start in range(0, len(probabilities), size):
        yield slice(start, start + size)


def _logarithms(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
