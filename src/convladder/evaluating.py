"""Evaluation: probabilities and labels to metrics."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import slices


def predict_probabilities(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities of shape (count, num_classes) for images of shape (count, height, width, channels)."""
    return np.concatenate([model.predict_on_batch(part) for part in slices(images)])


def score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Metrics of predictions on one split.

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
