"""The learning curve: the accuracy of a head with few and many pictures, and the expected gain from twice as many.

It uses cached features and takes seconds. It needs no run.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset
from convladder.data.features import Features
from convladder.errors import ConvladderError
from convladder.evaluating.significance import mean_accuracy
from convladder.training.head import USUAL, Labels, Rows, judge

SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # pictures per class
FEWEST_A_CLASS = 4  # pictures; smaller classes are left out
FOLDS = 5
DRAWS = 5  # repetitions for small samples, because these vary; large samples need fewer
DRAWS_OF_MANY = 2
MANY = 500
PLENTY = 6000  # pictures: with more, one fold is enough to test on
FIT_POINTS = 4  # sizes, at least, to fit a law with three parameters
RESAMPLES = 100
FEWEST_TESTED = 50  # pictures: with fewer, resampling underestimates the uncertainty
WIDEST = 0.08  # width of the gain's interval: a wider one says nothing


@dataclass(frozen=True)
class Point:
    """The accuracy of heads with a number of pictures.

    Attributes:
        most: Pictures drawn per class, or all of a smaller class; for the last point, all but the tested ones.
        pictures_a_class: Mean number of pictures per class.
        draws: Number of draws for each test fold.
        accuracy: Mean over draws and test pictures.
        low: Lower end of the 95 % interval over other draws and other test pictures.
        high: Upper end.
    """

    most: int
    pictures_a_class: float
    draws: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Doubling:
    """The expected gain from twice as many pictures, by a power law fitted to the points.

    Attributes:
        pictures_a_class: Mean number of pictures per class, with twice as many.
        accuracy: Expected accuracy: the last measured one plus the gain from the law.
        gain: Expected accuracy minus the current one.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
    """

    pictures_a_class: float
    accuracy: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassErrors:
    """The errors of a class with all pictures.

    Attributes:
        name: The class.
        recall: Share of its pictures that is classified correctly.
        involved: Share of all errors that involve it: its pictures classified as another class, or another class's
            pictures classified as it.
        confused_with: The class that it is confused with most often; empty if there are no errors.
    """

    name: str
    recall: float
    involved: float
    confused_with: str


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy against the number of pictures.

    Attributes:
        pictures: Number of pictures in the classes that are used.
        pictures_a_class: Mean number per class.
        tested: Number of test pictures, each tested with heads that were not trained on it.
        points: From few pictures per class to all.
        doubling: None if it cannot be estimated.
        reason: Why it cannot be estimated.
        classes: The classes that are used, in the order of the labels.
        left_out: Classes with fewer than four pictures.
        commonest: Share of the most frequent class among the test pictures.
    """

    pictures: int
    pictures_a_class: float
    tested: int
    points: tuple[Point, ...]
    doubling: Doubling | None
    reason: str
    classes: tuple[ClassErrors, ...]
    left_out: tuple[str, ...]
    commonest: float

    @property
    def worst(self) -> ClassErrors:
        """The class with the lowest recall."""
        return min(self.classes, key=lambda one: one.recall)

    @property
    def most_involved(self) -> ClassErrors:
        """The class that is involved in the most errors: more pictures of it can help most."""
        return max(self.classes, key=lambda one: one.involved)

    def as_dict(self) -> dict[str, Any]:
        """The curve as JSON values."""
        return asdict(self) | {"worst_class": self.worst.name, "most_helped_by": self.most_involved.name}

    def lines(self) -> list[str]:
        """A summary, one sentence per line."""
        now = f"{self.pictures_a_class:.0f} pictures per class"
        if self.doubling is None:
            lines = [f"Cannot estimate the gain from twice as many as {now}: {self.reason}."]
        else:
            gain, low, high = (100 * value for value in (self.doubling.gain, self.doubling.low, self.doubling.high))
            lines = [
                f"With twice as many as {now}, expect {gain:.1f} points more ({low:.1f} to {high:.1f}): "
                f"an accuracy of {self.doubling.accuracy:.3f}."
            ]
        worst, involved = self.worst, self.most_involved
        lines.append(f"Worst class: {worst.name}, with a recall of {worst.recall:.0%}.")
        if involved.involved:
            lines.append(
                f"More pictures of {involved.name} help most: {involved.involved:.0%} of the errors involve it, "
                f"most often with {involved.confused_with}."
            )
        if self.left_out:
            lines.append(
                f"Left out, because they have fewer than {FEWEST_A_CLASS} pictures: {', '.join(self.left_out)}."
            )
        return lines


def measure_learning_curve(dataset: Dataset, features: Features, labels: Labels) -> LearningCurve:
    """Fit heads to few and many pictures, drawn several times, and test them on the pictures of another fold.

    Args:
        dataset: Pictures in files.
        features: Their features from all splits, as `pool_features` returns them, shape (2, count, 1280).
        labels: Shape (count,).

    Raises:
        ConvladderError: Fewer than two classes have at least four pictures.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels, minlength=dataset.num_classes)
    present = np.flatnonzero(counts >= FEWEST_A_CLASS)
    if len(present) < 2:
        raise ConvladderError(
            f"{dataset.name} has {len(present)} classes with at least {FEWEST_A_CLASS} pictures. Expected at least 2 "
            "for a learning curve: add pictures."
        )
    rows = np.flatnonzero(np.isin(labels, present))
    features, labels = features[:, rows], np.searchsorted(present, labels[rows])
    folds = StratifiedKFold(min(FOLDS, int(counts[present].min())), shuffle=True, random_state=0)
    parts = list(folds.split(labels, labels))[: 1 if len(labels) > PLENTY else None]
    tested = np.concatenate([fold for _, fold in parts])
    answers = dict(_answer(features, labels, parts, len(present)))
    right = [one == labels[tested] for one in answers.values()]  # (draws, tested), for each size
    drawn = [_mean_drawn(most, labels, parts, len(present)) for most in answers]
    points = [
        Point(most, number, len(one), *mean_accuracy(one))
        for most, number, one in zip(answers, drawn, right, strict=True)
    ]
    now = len(labels) / len(present)
    doubling, reason = _expect(drawn, right, now)
    names = [dataset.class_names[label] for label in present]
    return LearningCurve(
        pictures=len(labels),
        pictures_a_class=now,
        tested=len(tested),
        points=tuple(points),
        doubling=doubling,
        reason=reason,
        classes=tuple(_describe_classes(labels[tested], answers[max(answers)], names)),
        left_out=tuple(name for name, count in zip(dataset.class_names, counts, strict=True) if count < FEWEST_A_CLASS),
        commonest=float(np.bincount(labels[tested]).max() / len(tested)),
    )


def _answer(
    features: Features, labels: Labels, parts: Sequence[tuple[Rows, Rows]], num_classes: int
) -> Iterator[tuple[int, Labels]]:
    """For each size the answers for the test pictures, in the order of the parts: shape (draws, tested)."""
    all_of_them = max(int(np.bincount(labels[rest]).max()) for rest, _ in parts)
    for most in [*(size for size in SIZES if size <= all_of_them / 1.2), all_of_them]:
        total = np.minimum(np.bincount(labels[parts[0][0]]), most).sum()
        draws = 1 if most == all_of_them else DRAWS if total < MANY else DRAWS_OF_MANY
        drawn = [
            (_draw(rest, labels, most, np.random.default_rng((draw, number))), fold)
            for draw in range(draws)
            for number, (rest, fold) in enumerate(parts)
        ]
        judged = [one.argmax(axis=1) for (one,) in judge(features, labels, num_classes, len(features), drawn, [USUAL])]
        yield most, np.concatenate(judged).reshape(draws, -1)


def _draw(rows: Rows, labels: Labels, most: int, random: np.random.Generator) -> Rows:
    """Draw at most `most` rows per class. All sizes draw from the same order, so that they differ only in size."""
    order = random.permutation(rows)
    return np.concatenate([order[labels[order] == label][:most] for label in np.unique(labels)])


def _mean_drawn(most: int, labels: Labels, parts: Sequence[tuple[Rows, Rows]], num_classes: int) -> float:
    totals = [np.minimum(np.bincount(labels[rest]), most).sum() for rest, _ in parts]
    return float(np.mean(totals)) / num_classes


def _expect(
    numbers: Sequence[float], right: Sequence[npt.NDArray[np.bool_]], now: float
) -> tuple[Doubling | None, str]:
    """The gain that a power law predicts for twice as many pictures; or the reason why it predicts none.

    The law is error = floor + scale · number^−exponent (Hestness et al. 2017, arXiv:1712.00409). Its interval comes
    from the bootstrap: the law is fitted again to other test pictures and other draws.
    """
    if len(numbers) < FIT_POINTS:
        return None, f"a power law needs at least {FIT_POINTS} sizes, and there are {len(numbers)}"
    at = np.array(numbers)
    random = np.random.default_rng(0)
    tested = right[0].shape[1]
    if tested < FEWEST_TESTED:
        return None, f"{tested} test pictures are too few, at least {FEWEST_TESTED} are needed"
    errors = np.empty((RESAMPLES, len(at)))
    for resample in errors:
        pictures = random.integers(0, tested, tested)
        for place, one in enumerate(right):
            draws = random.integers(0, len(one), len(one))
            resample[place] = 1 - one[draws].mean(axis=0)[pictures].mean()
    measured = np.array([1 - one.mean() for one in right])
    deviations = np.maximum(errors.std(axis=0), 0.5 / tested)
    if (measured <= 0.5 / tested).any():
        return None, "some heads made no errors on the test pictures, so no gain can be measured"
    laws = [_fit_law(at, one, deviations) for one in errors]
    gains = [law(now) - law(2 * now) for law in laws]
    low, high = np.quantile(gains, [0.025, 0.975])
    if high - low > WIDEST:
        return None, f"it could be anything from {100 * low:.0f} to {100 * high:.0f} points"
    law = _fit_law(at, measured, deviations)
    astray = any(abs(law(x) - y) > 3 * width for x, y, width in zip(at, measured, deviations, strict=True))
    if len(at) > FIT_POINTS:  # would it have predicted the last size from those before it?
        before = [_fit_law(at[:-1], one[:-1], deviations[:-1])(at[-1]) - one[-1] for one in errors]
        least, most = np.quantile(before, [0.005, 0.995])
        astray |= not least <= 0 <= most
    if astray:
        return None, "accuracy does not follow a power law"
    gain, accuracy = law(now) - law(2 * now), 1 - measured[-1] + law(at[-1]) - law(2 * now)
    return Doubling(2 * now, min(1.0, float(accuracy)), gain, min(float(low), gain), max(float(high), gain)), ""


@dataclass(frozen=True)
class PowerLaw:
    """The error as a function of the pictures per class."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, number: float) -> float:
        """The error with `number` pictures per class."""
        return self.floor + self.scale * number**-self.exponent


def _fit_law(numbers: npt.NDArray[np.float64], errors: npt.NDArray[np.float64], deviations: Any) -> PowerLaw:
    from scipy.optimize import least_squares

    def residuals(values: npt.NDArray[np.float64]) -> Any:
        floor, scale, exponent = values
        return (floor + scale * numbers**-exponent - errors) / deviations

    start = [0.5 * errors.min(), max(errors[0], 1e-3), 0.5]
    found = least_squares(residuals, start, bounds=([0, 0, 0.05], [1, math.inf, 2]))
    return PowerLaw(*map(float, found.x))


def _describe_classes(labels: Labels, answers: Labels, names: Sequence[str]) -> Iterator[ClassErrors]:
    confusion = np.zeros((len(names), len(names)))
    for answer in answers:
        np.add.at(confusion, (labels, answer), 1 / len(answers))
    recalls = confusion.diagonal() / confusion.sum(axis=1)
    np.fill_diagonal(confusion, 0)
    shared = confusion + confusion.T
    for name, recall, errors in zip(names, recalls, shared, strict=True):
        share = float(errors.sum() / max(confusion.sum(), 1e-9))
        yield ClassErrors(name, float(recall), share, names[int(errors.argmax())] if share else "")
