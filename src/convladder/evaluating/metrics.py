"""Metrics from probabilities and labels, with scikit-learn where it has them."""

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import slices
from convladder.errors import ConvladderError
from convladder.evaluating.calibration import abstention, reliability, row_slices

if TYPE_CHECKING:
    import keras

TOP_K = (1, 2, 3, 5)
WIDEST_STORED_MATRIX = 500  # classes; the confusion matrix of 9,000 would be a nearly empty file of a gigabyte


def predict_probabilities(model: "keras.Model", images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities of shape (count, num_classes) for images of shape (count, height, width, channels)."""
    return np.concatenate([model.predict_on_batch(part) for part in slices(images)])


def score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Metrics of predictions on one split, cheap enough for every epoch.

    Args:
        probabilities: Shape (count, num_classes), each row summing to 1.
        labels: Shape (count,).

    Returns:
        `images`: their number; `accuracy`, with `low` and `high`, its 95 % interval from `share_interval`; `loss`:
        the mean cross-entropy in nats.

    Raises:
        ConvladderError: A probability is NaN; exit status 1.
    """
    from scipy.special import xlogy

    losses = np.empty(len(labels))
    for rows in row_slices(probabilities):
        exact = probabilities[rows].astype(np.float64)
        said = exact[np.arange(len(exact)), labels[rows]]
        said /= exact.sum(axis=1)  # float32 rows sum to 1 except for rounding
        smallest = np.finfo(np.float64).eps
        losses[rows] = -xlogy(1.0, np.clip(said, smallest, 1 - smallest))
    if np.isnan(losses).any():
        raise ConvladderError(
            "The network answers with NaN instead of probabilities. Expected numbers from 0 to 1: lower the learning "
            "rate, and look for NaN in its weights.",
            exit_status=1,
        )
    correct = int((probabilities.argmax(axis=1) == labels).sum())
    return {"images": len(labels)} | share_right(correct, len(labels)) | {"loss": float(losses.mean())}


def share_right(right: int, images: int) -> dict[str, float]:
    """`accuracy`, `low` and `high`: the share of correct answers, and its 95 % interval."""
    low, high = share_interval(right, images)
    return {"accuracy": right / images, "low": low, "high": high}


def without(
    rows: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """`without_leaks`: `images`, `accuracy`, `low` and `high` without these rows; empty if there are no such rows.

    If no other rows are left, the accuracy and its interval are None.
    """
    if not len(rows):
        return {}
    right = np.delete(probabilities.argmax(axis=1) == labels, rows)
    scores = share_right(int(right.sum()), len(right)) if len(right) else dict.fromkeys(("accuracy", "low", "high"))
    return {"without_leaks": {"images": len(right), **scores}}


def share_interval(right: float, images: float, alpha: float = 0.05) -> tuple[float, float]:
    """The mid-P interval of a share: it misses the truth with probability `alpha`, half of it on either side.

    Near 1, Wilson's interval misses it up to three times as often (Agresti and Gottard 2007, on why mid-P).
    Counts can be fractions: the effective counts of correlated answers.
    """
    from scipy.optimize import brentq
    from scipy.special import betainc

    wrong = images - right

    def below(share: float) -> float:  # the mean of the two tails of Clopper and Pearson
        at_least = betainc(right, wrong + 1, share) if right > 0 else 1.0
        more = betainc(right + 1, wrong, share) if wrong > 0 else 0.0
        return float(at_least + more) / 2

    low = float(brentq(lambda share: below(share) - alpha / 2, 0, 1)) if right > 0 else 0.0
    high = float(brentq(lambda share: below(share) - 1 + alpha / 2, 0, 1)) if wrong > 0 else 1.0
    return low, high


@contextlib.contextmanager
def _few_images_a_class() -> Iterator[None]:
    """Silence scikit-learn before 1.8, which takes many classes with few images each for a regression."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The number of unique classes is greater")
        yield


@_few_images_a_class()
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
        class_names: One per column.
        threshold: The model abstains below this probability.

    Returns:
        The result of `score`, and `top_k`: how often the label is among the k most probable classes; `per_class`:
        precision, recall and F1 (None for a class without images or answers) and support; `confusion`: the confusion
        matrix, rows are labels and columns answers, None for more than 500 classes; `confusions`: the errors as
        [label, answer, images], the most frequent first; `calibration`: the result of `reliability`; `abstention`: the
        result of `abstention`.
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
            # For two classes scikit-learn wants one column, and only k = 1 is informative.
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
    """Each pair of a label and a wrong answer with its count, the most frequent first."""
    wrong = labels != answers
    pairs, counts = np.unique(np.stack([labels[wrong], answers[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return np.concatenate([pairs, counts[np.newaxis]])[:, order].T.tolist()
