"""Calibration and abstention: are answers with 90 % correct nine times out of ten, and which should be withheld?

Guo et al. 2017, arXiv:1706.04599, for temperature and expected calibration error; Geifman and El-Yaniv 2017,
arXiv:1705.08500, for abstention.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.evaluating.few import FEW, FEW_FOR_DETAIL

VALUES_A_SLICE = 1 << 20  # probabilities at a time: computing with them takes tens of bytes for each
BINS = 15
FOLDS = 5
BEYOND_CHANCE = 2.0  # standard errors: the gain on held-out images that a fitted value must show
TEMPERATURES = (0.05, 20.0)  # the range of the search
SMALLEST = 1e-30  # the smallest probability whose logarithm is taken


def temper(probabilities: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Apply a temperature to probabilities, as if the network's logits were divided by it.

    Probabilities are the softmax of their own logarithms, so these can replace the logits. Shape (count, num_classes).
    """
    from scipy.special import softmax

    return np.asarray(softmax(_logarithms(probabilities) / temperature, axis=1))


def fit_temperature(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    """The temperature with the smallest cross-entropy.

    Args:
        probabilities: For validation images, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Above 1 if the network is overconfident, below 1 if it is underconfident. The target of the right class is
        (count + 1) / (count + 2) instead of 1 (Platt 1999). Otherwise a network without errors on few images would
        become as sure as possible.
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
    """The temperature to use, and the reason: the best one if cross-validation shows that it helps, else 1.

    Fitted on 60 images of networks that need none, a temperature doubled the calibration error. So it must reduce the
    mean cross-entropy on held-out images by at least two standard errors, with at least 30 images.

    Args:
        probabilities: As in `fit_temperature`.
        labels: As in `fit_temperature`.
        images: Name of the images in the reason.
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
    """Yield rows to fit on, and rows to test on."""
    from sklearn.model_selection import KFold

    yield from KFold(FOLDS, shuffle=True, random_state=0).split(np.empty(count))


def _helps(gains: npt.NDArray[np.float64]) -> bool:
    """Whether the mean gain per image is above 0 by more than chance."""
    return bool(gains.mean() > BEYOND_CHANCE * gains.std(ddof=1) / len(gains) ** 0.5)


def reliability(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Compare predicted probabilities with accuracies.

    Args:
        probabilities: Shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        `ece`: the expected calibration error over 15 bins of the answer's probability; `bins`: the bins that are not
        empty, each with `low`, `high`, `images`, mean `confidence` and `accuracy`.
    """
    from sklearn.calibration import calibration_curve

    confidence = np.clip(probabilities.max(axis=1).astype(np.float64), 0, 1)
    correct = probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, BINS + 1)
    accuracies, confidences = calibration_curve(correct, confidence, n_bins=BINS, pos_label=True)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)  # like calibration_curve
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
    """The threshold to use, and the reason: that of `fit_threshold` if cross-validation shows that it helps, else 0.

    It helps if, on held-out images, the given answers have a lower error rate than all answers, by at least two
    standard errors.
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
    """The smallest threshold of abstention that halves the error rate of the answers.

    Args:
        probabilities: For validation images, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Half-way between two of the probabilities, so that rounding does not matter. 0 if there are no errors, if no
        threshold halves the error rate, or if there are fewer than 100 images.
    """
    return _fit_threshold(probabilities, labels) if len(labels) >= FEW_FOR_DETAIL else 0.0


def _fit_threshold(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> float:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    confidence, correct = confidence[order].astype(np.float64), correct[order]
    answered = np.arange(1, len(labels) + 1)
    wrong = np.cumsum(~correct)
    # A threshold must lie between different probabilities, because images with equal ones are treated alike.
    stops = np.append(confidence[:-1] > confidence[1:], True)
    halved = np.flatnonzero(stops & (wrong / answered <= (~correct).mean() / 2))
    if not len(halved) or halved[-1] == len(labels) - 1:
        return 0.0
    return float(confidence[halved[-1] : halved[-1] + 2].mean())


def abstention(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], threshold: float
) -> dict[str, Any]:
    """The effect of a threshold: `threshold`, `coverage` (the share that is answered) and `accuracy` of that share.

    The accuracy is None if nothing is answered.
    """
    answered = probabilities.max(axis=1) >= threshold
    correct = probabilities.argmax(axis=1) == labels
    return {
        "threshold": threshold,
        "coverage": float(answered.mean()),
        "accuracy": float(correct[answered].mean()) if answered.any() else None,
    }


def row_slices(probabilities: npt.NDArray[np.float32]) -> Iterator[slice]:
    """Slices of rows in order, about a million values each."""
    size = max(1, VALUES_A_SLICE // probabilities.shape[1])
    for start in range(0, len(probabilities), size):
        yield slice(start, start + size)


def _logarithms(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
