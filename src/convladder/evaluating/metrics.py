"""Metrics: probabilities and labels to numbers, by scikit-learn where it has them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import slices
from convladder.errors import ConvladderError
from convladder.evaluating.calibration import abstention, reliability, row_slices

if TYPE_CHECKING:
    import keras

TOP_K = (1, 2, 3, 5)
WIDEST_STORED_MATRIX = 500  # classes; of 9,000 a confusion matrix is a file of a gigabyte, with hardly anything in it


def predict_probabilities(model: "keras.Model", images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities of shape (count, num_classes) for images of shape (count, height, width, channels)."""
    return np.concatenate([model.predict_on_batch(part) for part in slices(images)])


def score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Metrics of predictions on one split, as cheap as every epoch wants them.

    Args:
        probabilities: Shape (count, num_classes), each row summing to 1.
        labels: Shape (count,).

    Returns:
        `images`: how many; `accuracy`, with `low` and `high`, its 95 % interval as `share_interval` gives it; `loss`:
        the mean cross-entropy in nats.

    Raises:
        ConvladderError: A probability is no number; exit status 1.
    """
    from scipy.special import xlogy

    losses = np.empty(len(labels))
    for rows in row_slices(probabilities):
        exact = probabilities[rows].astype(np.float64)
        said = exact[np.arange(len(exact)), labels[rows]]
        said /= exact.sum(axis=1)  # float32 rows sum to 1 but for rounding
        smallest = np.finfo(np.float64).eps
        losses[rows] = -xlogy(1.0, np.clip(said, smallest, 1 - smallest))
    if np.isnan(losses).any():
        raise ConvladderError(
            "The network answers with NaN, which is no probability. Expected numbers from 0 to 1: lower the learning "
            "rate, and look for NaN in its weights.",
            exit_status=1,
        )
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    return {"images": len(labels)} | share_right(correct, len(labels)) | {"loss": float(losses.mean())}


def share_right(right: int, images: int) -> dict[str, float]:
    """`accuracy`, `low` and `high`: the share of images that are answered rightly, and its 95 % interval."""
    low, high = share_interval(right, images)
    return {"accuracy": right / images, "low": low, "high": high}


def without(
    rows: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """`without_leaks`: `images`, `accuracy`, `low` and `high` of all but these rows; nothing where there are none.

    Where no others are left, these are none.
    """
    if not len(rows):
        return {}
    right = np.delete(probabilities.argmax(axis=1) == labels, rows)
    scores = share_right(int(right.sum()), len(right)) if len(right) else dict.fromkeys(("accuracy", "low", "high"))
    return {"without_leaks": {"images": len(right), **scores}}


def share_interval(right: float, images: float, alpha: float = 0.05) -> tuple[float, float]:
    """The interval of a share by the mid-P test: it leaves out the truth with probability `alpha`, half on either side.

    Near 1, Wilson's leaves it out up to three times as often (Agresti and Gottard 2007, on why mid-P).
    Counts may be fractions: effective ones, of answers that hang together.
    """
    from scipy.optimize import brentq
    from scipy.special import betainc

    wrong = images - right

    def below(share: float) -> float:  # the mean of the two tails that Clopper and Pearson take
        at_least = betainc(right, wrong + 1, share) if right > 0 else 1.0
        more = betainc(right + 1, wrong, share) if wrong > 0 else 0.0
        return float(at_least + more) / 2

    low = float(brentq(lambda share: below(share) - alpha / 2, 0, 1)) if right > 0 else 0.0
    high = float(brentq(lambda share: below(share) - 1 + alpha / 2, 0, 1)) if wrong > 0 else 1.0
    return low, high


def describe_predictions(
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
        each class, a row each, were taken for each class, a column each, or none of more than 500 classes;
        `confusions`: the wrong ones, as [label, answer, images] of each pair that occurs, the most frequent first;
        `calibration`: as `reliability` gives it; `abstention`: as `abstention` gives it.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

    classes = range(len(class_names))

    def count_among_top(k: int) -> float:
        return sum(
            top_k_accuracy_score(labels[rows], probabilities[rows], k=k, labels=classes, normalize=False)
            for rows in row_slices(probabilities)
        )

    answers = probabilities.argmax(axis=1)
    by_class = precision_recall_fscore_support(labels, answers, labels=classes, zero_division=math.nan)
    return score(probabilities, labels) | {
        "top_k": [
            # Of two classes scikit-learn takes one column, and of them nothing but k = 1 tells anything.
            {"k": k, "accuracy": float((answers == labels).mean())}
            if k == 1
            else {"k": k, "accuracy": float(count_among_top(k) / len(labels))}
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
        "confusion": confusion_matrix(labels, answers, labels=classes).tolist()
        if len(class_names) <= WIDEST_STORED_MATRIX
        else None,
        "confusions": count_confusions(labels, answers),
        "calibration": reliability(probabilities, labels),
        "abstention": abstention(probabilities, labels, threshold),
    }


def count_confusions(labels: npt.NDArray[np.int64], answers: npt.NDArray[np.int64]) -> list[list[int]]:
    """Each pair of a label and an answer that differ, and how often it occurs, the most frequent first."""
    wrong = labels != answers
    pairs, counts = np.unique(np.stack([labels[wrong], answers[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.concatenate([pairs, counts[np.newaxis]])[:, order].T.tolist()
