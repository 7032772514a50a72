"""Metrics: probabilities and labels to numbers, by scikit-learn where it has them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import slices
from convladder.evaluating.calibration import abstention, reliability

if TYPE_CHECKING:
    import keras

TOP_K = (1, 2, 3, 5)


def predict_probabilities(model: "keras.Model", images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities of shape (count, num_classes) for images of shape (count, height, width, channels)."""
    return np.concatenate([model.predict_on_batch(part) for part in slices(images)])


def score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Metrics of predictions on one split, as cheap as every epoch wants them.

    Args:
        probabilities: Shape (count, num_classes), each row summing to 1.
        labels: Shape (count,).

    Returns:
        `images`: how many; `accuracy`, with `low` and `high`, its 95 % interval for as many images as these
        (Wilson 1927); `loss`: the mean cross-entropy in nats.
    """
    from scipy.stats import binomtest
    from sklearn.metrics import log_loss

    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)  # float32 rows sum to 1 but for rounding
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    interval = binomtest(correct, len(labels)).proportion_ci(method="wilson")
    return {
        "images": len(labels),
        "accuracy": correct / len(labels),
        "low": float(interval.low),
        "high": float(interval.high),
        "loss": float(log_loss(labels, exact, labels=range(exact.shape[1]))),
    }


def describe(
    probabilities: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str],
    threshold: float = 0.0,
) -> dict[str, Any]:
    """All metrics of predictions on one split.

    Args:
        probabilities: Shape (count, num_classes), each row summing to 1.
        labels: Shape (count,).
        class_names: One a column.
        threshold: The probability below which nothing is answered.

    Returns:
        What `score` gives, and `top_k`: how often the label is among the k most probable; `per_class`: precision,
        recall and F1, none where a class has no image or no answer, and support; `confusion`: how many images of
        each class, a row each, were taken for each class, a column each; `calibration`: as `reliability` gives it;
        `abstention`: as `abstention` gives it.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    classes = range(len(class_names))
    answers = probabilities.argmax(axis=1)
    by_class = precision_recall_fscore_support(labels, answers, labels=classes, zero_division=math.nan)
    return score(probabilities, labels) | {
        "top_k": [
            # Of two classes scikit-learn takes one column, and of them nothing but k = 1 tells anything.
            {"k": k, "accuracy": float((answers == labels).mean())}
            if k == 1
            else {"k": k, "accuracy": float(top_k_accuracy_score(labels, probabilities, k=k, labels=classes))}
            for k in TOP_K
            if k < len(class_names)
        ],
        "per_class": [
            {
                "name": name,
                **{
                    title: None if math.isnan(value) else float(value)
                    for title, value in zip(("precision", "recall", "f1"), values, strict=True)
                },
                "support": int(support),
            }
            for name, *values, support in zip(class_names, *by_class, strict=True)
        ],
        "confusion": confusion_matrix(labels, answers, labels=classes).tolist(),
        "calibration": reliability(probabilities, labels),
        "abstention": abstention(probabilities, labels, threshold),
    }
