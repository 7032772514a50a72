"""The learning curve: how accurate a head is with few and with many pictures, and what twice as many would buy.

From kept features, in seconds, without any run.
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

SIZES = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # pictures a class
FEWEST_A_CLASS = 4  # pictures of a class that takes part
FOLDS = 5
DRAWS = 5  # where few pictures are drawn, which varies; of MANY or more in all, and where all are, fewer
DRAWS_OF_MANY = 2
MANY = 500
PLENTY = 6000  # pictures, of which a fifth is enough to test on
FIT_POINTS = 4  # sizes, or more, that a law of three numbers is fitted to
RESAMPLES = 100
FEWEST_TESTED = 50  # pictures, below which resampling them shows too little of what is not known
WIDEST = 0.08  # of the interval of what doubling buys, above which it says nothing


@dataclass(frozen=True)
class Point:
    """How accurate heads are with so many pictures.

    Attributes:
        most: Pictures drawn of a class, or all where it has fewer; of the last point, all there are but the tested.
        pictures_a_class: The mean of how many there were.
        draws: How many times pictures were drawn, for each fold that was tested.
        accuracy: The mean over draws and tested pictures.
        low: Of the 95 % interval over other draws and other test pictures.
        high: Likewise.
    """

    most: int
    pictures_a_class: float
    draws: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Doubling:
    """What twice as many pictures as there are would buy, by a power law fitted to the points.

    Attributes:
        pictures_a_class: The mean of twice as many.
        accuracy: That is expected: what was measured last, and what the law says is to come from there.
        gain: Over as many as there are now.
        low: Of the gain's 95 % interval.
        high: Likewise.
    """

    pictures_a_class: float
    accuracy: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassErrors:
    """How a class fares with all pictures.

    Attributes:
        name: The class.
        recall: Of its pictures, the share that is recognized.
        involved: Of all errors, the share that it has part in: its pictures taken for another class, or another's for
            it.
        confused_with: The class that it shares most errors with; empty where there are none.
    """

    name: str
    recall: float
    involved: float
    confused_with: str


@dataclass(frozen=True)
class LearningCurve:
    """Accuracy against the number of pictures.

    Attributes:
        pictures: How many there are, of classes that take part.
        pictures_a_class: Their mean.
        tested: How many were tested on, each by heads that had not seen it.
        points: From few pictures a class to all.
        doubling: None where it cannot be told.
        reason: Why it cannot.
        classes: Those that take part, in the order of the labels.
        left_out: Classes with fewer than four pictures.
    """

    pictures: int
    pictures_a_class: float
    tested: int
    points: tuple[Point, ...]
    doubling: Doubling | None
    reason: str
    classes: tuple[ClassErrors, ...]
    left_out: tuple[str, ...]

    @property
    def worst(self) -> ClassErrors:
        """The class of which the smallest share is recognized."""
        return min(self.classes, key=lambda one: one.recall)

    @property
    def most_involved(self) -> ClassErrors:
        """The class that has part in the most errors: more pictures of it can save the most."""
        return max(self.classes, key=lambda one: one.involved)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"worst_class": self.worst.name, "most_helped_by": self.most_involved.name}

    def lines(self) -> list[str]:
        """What it says, a sentence each."""
        now = f"{self.pictures_a_class:.0f} pictures a class"
        if self.doubling is None:
            lines = [f"Cannot tell what twice as many as {now} would buy: {self.reason}."]
        else:
            gain, low, high = (100 * value for value in (self.doubling.gain, self.doubling.low, self.doubling.high))
            lines = [
                f"Twice as many as {now} are expected to give {gain:.1f} points more ({low:.1f} to {high:.1f}): "
                f"an accuracy of {self.doubling.accuracy:.3f}."
            ]
        worst, involved = self.worst, self.most_involved
        lines.append(f"Worst class: {worst.name}, of which {worst.recall:.0%} are recognized.")
        if involved.involved:
            lines.append(
                f"More pictures help most of {involved.name}: it has part in {involved.involved:.0%} of the errors, "
                f"most often with {involved.confused_with}."
            )
        if self.left_out:
            lines.append(f"Left out, with fewer than {FEWEST_A_CLASS} pictures: {', '.join(self.left_out)}.")
        return lines


def measure_learning_curve(dataset: Dataset, features: Features, labels: Labels) -> LearningCurve:
    """Fit heads to few and to many pictures, drawn several times, and test them on the pictures of another fold.

    Args:
        dataset: Pictures in files.
        features: Theirs, as `pool_features` gives them: of all splits, shape (2, count, 1280).
        labels: Shape (count,).

    Raises:
        ConvladderError: Fewer than two classes have four pictures.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels, minlength=dataset.num_classes)
    present = np.flatnonzero(counts >= FEWEST_A_CLASS)
    if len(present) < 2:
        raise ConvladderError(
            f"{dataset.name} has {len(present)} classes with {FEWEST_A_CLASS} pictures or more. Expected at least 2 "
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
    )


def _answer(
    features: Features, labels: Labels, parts: Sequence[tuple[Rows, Rows]], num_classes: int
) -> Iterator[tuple[int, Labels]]:
    """For each size what was answered for the tested pictures, in the order of the parts: shape (draws, tested)."""
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
    """So many of each class; the first of the same order for every size, so that sizes differ by size alone."""
    order = random.permutation(rows)
    return np.concatenate([order[labels[order] == label][:most] for label in np.unique(labels)])


def _mean_drawn(most: int, labels: Labels, parts: Sequence[tuple[Rows, Rows]], num_classes: int) -> float:
    totals = [np.minimum(np.bincount(labels[rest]), most).sum() for rest, _ in parts]
    return float(np.mean(totals)) / num_classes


def _expect(
    numbers: Sequence[float], right: Sequence[npt.NDArray[np.bool_]], now: float
) -> tuple[Doubling | None, str]:
    """What a power law says of twice as many pictures; or why it says nothing.

    The law is error = floor + scale · number^−exponent (Hestness et al. 2017, arXiv:1712.00409). Its doubt comes from
    fitting it again to other tested pictures and other draws, as the bootstrap makes them.
    """
    if len(numbers) < FIT_POINTS:
        return None, f"a power law is fitted to {FIT_POINTS} sizes or more, and here are {len(numbers)}"
    at = np.array(numbers)
    random = np.random.default_rng(0)
    tested = right[0].shape[1]
    if tested < FEWEST_TESTED:
        return None, f"{tested} pictures to test on are too few, {FEWEST_TESTED} or more would do"
    errors = np.empty((RESAMPLES, len(at)))
    for resample in errors:
        pictures = random.integers(0, tested, tested)
        for place, one in enumerate(right):
            draws = random.integers(0, len(one), len(one))
            resample[place] = 1 - one[draws].mean(axis=0)[pictures].mean()
    measured = np.array([1 - one.mean() for one in right])
    deviations = np.maximum(errors.std(axis=0), 0.5 / tested)
    if (measured <= 0.5 / tested).any():
        return None, "some heads made no error on the tested pictures, so there is nothing to win that could be seen"
    laws = [_fit_law(at, one, deviations) for one in errors]
    gains = [law(now) - law(2 * now) for law in laws]
    low, high = np.quantile(gains, [0.025, 0.975])
    if high - low > WIDEST:
        return None, f"it may be anything from {100 * low:.0f} to {100 * high:.0f} points"
    law = _fit_law(at, measured, deviations)
    astray = any(abs(law(x) - y) > 3 * width for x, y, width in zip(at, measured, deviations, strict=True))
    if len(at) > FIT_POINTS:  # would it have foretold the last size from those before it?
        before = [_fit_law(at[:-1], one[:-1], deviations[:-1])(at[-1]) - one[-1] for one in errors]
        least, most = np.quantile(before, [0.005, 0.995])
        astray |= not least <= 0 <= most
    if astray:
        return None, "accuracy does not grow by a power law"
    gain, accuracy = law(now) - law(2 * now), 1 - measured[-1] + law(at[-1]) - law(2 * now)
    return Doubling(2 * now, min(1.0, float(accuracy)), gain, min(float(low), gain), max(float(high), gain)), ""


@dataclass(frozen=True)
class PowerLaw:
    """The error with so many pictures a class."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, number: float) -> float:
        """As the class says."""
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
