"""Significance: what a few seeds and a set of test images say of accuracies, and of their differences.

Which test images a network gets right is given as an array of booleans, shape (seeds, images).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Answers = npt.NDArray[np.bool_]

ALPHA = 0.05


@dataclass(frozen=True)
class Estimate:
    """A mean, and how well it is known.

    Attributes:
        value: The mean.
        error: Its standard error.
        degrees: Of freedom, that the error is known with.
    """

    value: float
    error: float
    degrees: float

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """The interval that leaves out the truth with probability `alpha`; of accuracies, so at most 1 from 0."""
        from scipy.stats import t

        margin = float(t.ppf(1 - alpha / 2, self.degrees) * self.error)
        return max(-1.0, self.value - margin), min(1.0, self.value + margin)

    @property
    def p_value(self) -> float:
        """Of the hypothesis that the truth is 0, two-sided."""
        from scipy.stats import t

        return float(2 * t.sf(abs(self.value) / self.error, self.degrees))


def estimate_difference(upper: Answers, lower: Answers) -> Estimate:
    """How much more accurate one network is than another, on the same images.

    The variance has two parts that are added: of the difference on the same test images, and, where a network has
    two seeds or more, of the accuracies over the seeds (Bouthillier et al. 2021, arXiv:2103.03098, on why both count).
    """
    return _estimate(upper.mean(axis=0) - lower.mean(axis=0), [upper, lower])


def accuracy_difference(upper: Answers, lower: Answers) -> tuple[float, float, float]:
    """The difference of two networks' mean accuracies, and the ends of its 95 % interval."""
    difference = estimate_difference(upper, lower)
    return difference.value, *difference.interval()


def mean_accuracy(answers: Answers) -> tuple[float, float, float]:
    """A network's accuracy over its seeds, and a 95 % interval for other seeds and other images like these."""
    if len(answers) == 1:  # where nothing is known of the seeds, the interval of a proportion (Wilson 1927)
        from scipy.stats import binomtest

        interval = binomtest(int(answers.sum()), answers.size).proportion_ci(method="wilson")
        return float(answers.mean()), float(interval.low), float(interval.high)
    estimate = _estimate(answers.mean(axis=0), [answers])
    low, high = estimate.interval()
    return estimate.value, max(0.0, low), min(1.0, high)


def correct_for_number(p_values: Sequence[float]) -> list[tuple[float, float]]:
    """Holm's correction (1979) for the number of tests.

    Returns:
        For each test its corrected p-value, and the `alpha` that its own was judged by: an interval made with that
        leaves out 0 if and only if the corrected p-value is at most 0.05.
    """
    corrected = [(1.0, ALPHA)] * len(p_values)
    largest, alpha, rejecting = 0.0, ALPHA, True
    for rank, test in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        left = len(p_values) - rank
        largest = max(largest, min(1.0, left * p_values[test]))
        if rejecting:  # the first that is not rejected is the last that is judged
            alpha = ALPHA / left
            rejecting = p_values[test] <= alpha
        corrected[test] = largest, alpha
    return corrected


def _estimate(per_image: npt.NDArray[np.float64], networks: Sequence[Answers]) -> Estimate:
    """The mean over the images, its variance over them, and that of the networks' seeds."""
    images = len(per_image)
    # One image's worth of doubt at the least: networks that answer alike to these may differ on the next.
    by_image = max(float(per_image.var(ddof=1)), 1 / images) / images if images > 1 else 1.0
    by_seed, degrees = _variance_over_seeds(networks)
    # Satterthwaite's degrees of freedom: the seeds' part is known from few runs.
    degrees = (by_image + by_seed) ** 2 / (by_image**2 / max(images - 1, 1) + by_seed**2 / degrees)
    return Estimate(float(per_image.mean()), math.sqrt(by_image + by_seed), degrees)


def _variance_over_seeds(networks: Sequence[Answers]) -> tuple[float, float]:
    """Of the sum of the networks' mean accuracies; and its degrees of freedom, Welch's (1947)."""
    spreads = {i: float(n.mean(axis=1).var(ddof=1)) for i, n in enumerate(networks) if len(n) > 1}
    if not spreads:
        return 0.0, math.inf
    parts = {i: spread / len(networks[i]) for i, spread in spreads.items()}
    if len(parts) == len(networks):
        squares = sum(part**2 / (len(networks[i]) - 1) for i, part in parts.items())
        return sum(parts.values()), sum(parts.values()) ** 2 / squares if squares else math.inf
    # A network with one seed is taken to vary with it as the other does.
    return sum(parts.values()) + max(spreads.values()), min(len(networks[i]) for i in spreads) - 1.0
