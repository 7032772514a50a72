"""The head of a pretrained network: multinomial logistic regression on cached features, solved instead of trained.

Its strength, the inverse of the regularization, is chosen on validation pictures. If these are few, they are pooled
with the training pictures: cross-validation tests each with a head that was not fitted to it, and the shipped head is
fitted to all of them.
"""

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.data.features import Features
from convladder.evaluating.calibration import SMALLEST, choose_temperature, fit_temperature, temper
from convladder.evaluating.few import FEW, FEW_TO_VALIDATE
from convladder.processors import count_processors

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # scikit-learn's C
UNCHOSEN = 1.0  # if no class has two pictures, so that no choice is possible
USUAL = 0.01  # without a choice: within a point of the best for 2 to 120 photographs per class
FOLDS = 5
MOST_ITERATIONS = 300
TOLERANCE = 1e-3  # of the gradient; a hundredth of it changed none of 227 answers
NEVER = -30.0  # the logit of a class without pictures: a probability of 1e-13

Labels = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A linear layer under a softmax.

    Attributes:
        kernel: Shape (features, num_classes).
        bias: Shape (num_classes,).
    """

    kernel: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def predict(self, features: Features) -> Probabilities:
        """Probabilities of shape (count, num_classes), the mean over views, of features (views, count, features)."""
        from scipy.special import softmax

        return np.asarray(softmax(features @ self.kernel + self.bias, axis=-1).mean(axis=0), np.float32)


@dataclass(frozen=True)
class Solution:
    """A head, and how it was chosen.

    Attributes:
        head: The head, fitted to `seen` pictures.
        seen: Number of pictures: the training pictures, and few validation pictures too.
        strength: Scikit-learn's C.
        method: How it was chosen, in words.
        probabilities: For the pictures that it was chosen on, by heads that were not fitted to them; None if no class
            has two pictures.
        labels: Labels of these pictures.
    """

    head: Head
    seen: int
    strength: float
    method: str
    probabilities: Probabilities
    labels: Labels


def solve(
    train: Features, labels: Labels, validation: Features, validation_labels: Labels, num_classes: int, views: int
) -> Solution:
    """Fit a head. Its strength is chosen on pictures that it was not fitted to.

    Args:
        train: Features, shape (2, count, features), of pictures and their mirror images. Both are fitted.
        labels: Shape (count,).
        validation: Features of the validation pictures; there may be none.
        validation_labels: Labels of the validation pictures.
        num_classes: At least 2.
        views: Number of views, 1 or 2, that an answer averages over.
    """
    if len(validation_labels) >= FEW_TO_VALIDATE:
        with _one_thread():
            heads = list(_fit_path(train, labels, num_classes))
        answers = [head.predict(validation[:views]) for head in heads]
        best = _choose(answers, validation_labels)
        method = f"chosen on {len(validation_labels):,} validation pictures"
        return Solution(heads[best], len(labels), STRENGTHS[best], method, answers[best], validation_labels)
    pooled, known = np.concatenate([train, validation], axis=1), np.concatenate([labels, validation_labels])
    parts = split_folds(known)
    judged = np.sort(np.concatenate([fold for _, fold in parts])) if parts else known[:0]
    answers = [answer[judged] for answer in cross_validate(pooled, known, num_classes, views)]
    best = _choose(answers, known[judged]) if parts else STRENGTHS.index(UNCHOSEN)
    with _one_thread():
        (head,) = _fit_path(pooled, known, num_classes, STRENGTHS[best : best + 1])
    method = f"chosen by {len(parts)}-fold cross-validation of {len(judged):,} pictures"
    if not parts:
        method = "scikit-learn's default, since no class has two pictures"
    return Solution(head, len(known), STRENGTHS[best], method, answers[best], known[judged])


def judge_by_folds(features: Features, labels: Labels, num_classes: int, views: int) -> tuple[Probabilities, int]:
    """Classify every picture with a head that was fitted, and its strength and temperature chosen, without it.

    Args:
        features: As in `solve`.
        labels: Shape (count,). A picture that is alone in its class is left out.
        num_classes: At least 2.
        views: As in `solve`.

    Returns:
        Probabilities of the classified pictures, in their order, and the number of folds.
    """
    answers = np.zeros((len(labels), num_classes), np.float32)
    parts = split_folds(labels)
    for rest, fold in parts:
        part = solve(features[:, rest], labels[rest], features[:, :0], labels[:0], num_classes, views)
        temperature, _ = choose_temperature(part.probabilities, part.labels)
        answers[fold] = temper(part.head.predict(features[:views, fold]), temperature)
    return answers[np.sort(np.concatenate([fold for _, fold in parts]))], len(parts)


def split_folds(labels: Labels, seed: int = 0) -> list[tuple[Rows, Rows]]:
    """Up to 5 pairs of rows, to fit and to test, stratified by class; no pairs if no class has two pictures.

    A picture that is alone in its class is always fitted, because otherwise the class could not be answered.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels)
    alone, others = (np.flatnonzero(chosen) for chosen in (counts[labels] == 1, counts[labels] > 1))
    if not len(others):
        return []
    folds = StratifiedKFold(min(FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes with fewer pictures than folds: each picture is in another fold
        parts = list(folds.split(others, labels[others]))
    return [(np.sort(np.concatenate([alone, others[rest]])), others[fold]) for rest, fold in parts]


def cross_validate(
    features: Features,
    labels: Labels,
    num_classes: int,
    views: int,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> list[Probabilities]:
    """For each strength, the probabilities of each picture from a head that was fitted to the other folds.

    For a picture that is alone in its class, all classes are equally probable.
    """
    answers = [np.full((len(labels), num_classes), 1 / num_classes, np.float32) for _ in strengths]
    parts = split_folds(labels, seed)
    for (_, fold), judged in zip(parts, judge(features, labels, num_classes, views, parts, strengths), strict=True):
        for answer, probabilities in zip(answers, judged, strict=True):
            answer[fold] = probabilities
    return answers


def judge(
    features: Features,
    labels: Labels,
    num_classes: int,
    views: int,
    parts: Sequence[tuple[Rows, Rows]],
    strengths: Sequence[float] = STRENGTHS,
) -> Iterator[list[Probabilities]]:
    """For each part, rows to fit and rows to test, the latter's probabilities from heads of each strength."""

    def judge_part(part: tuple[Rows, Rows]) -> list[Probabilities]:
        rest, fold = part
        heads = _fit_path(features[:, rest], labels[rest], num_classes, strengths)
        return [head.predict(features[:views, fold]) for head in heads]

    with _one_thread(), ThreadPoolExecutor(count_processors()) as threads:
        yield from threads.map(judge_part, parts)


def _fit_path(
    features: Features, labels: Labels, num_classes: int, strengths: Sequence[float] | None = None
) -> Iterator[Head]:
    """A head for each strength. Each fit starts from the one before."""
    from sklearn.linear_model import LogisticRegression

    views, count, width = features.shape
    flat, known = features.reshape(views * count, width), np.tile(labels, views)
    present = np.unique(labels)
    kernel, bias = np.zeros((width, num_classes), np.float32), np.full(num_classes, NEVER, np.float32)
    bias[present] = 0
    model = LogisticRegression(max_iter=MOST_ITERATIONS, tol=TOLERANCE, warm_start=True)
    for strength in strengths or STRENGTHS:
        if len(present) > 1:  # otherwise there is nothing to fit
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the last iterations, which change little
                model.set_params(C=strength).fit(flat, known)
            if len(present) == 2:  # for two classes it returns the logit of the second
                kernel[:, present[1]], bias[present[1]] = model.coef_[0], model.intercept_[0]
            else:
                kernel[:, present], bias[present] = model.coef_.T, model.intercept_
        yield Head(kernel.copy(), bias.copy())


def _choose(answers: Sequence[Probabilities], labels: Labels) -> int:
    """Which answers have the smallest cross-entropy at their best temperature, because the model gets one later.

    Without it, a stronger penalty would lose only because it is less confident: on 1,515 photographs, the most accurate
    heads came fourth and sixth of seven.
    """
    few = len(labels) < FEW
    tempered = [temper(answer, 1.0 if few else fit_temperature(answer, labels)) for answer in answers]
    losses = [-np.log(np.maximum(answer[np.arange(len(labels)), labels], SMALLEST)).mean() for answer in tempered]
    return int(np.argmin(losses))


def _one_thread() -> Any:
    """One BLAS thread for each of ours, because more would wait for one another longer than they compute."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")
