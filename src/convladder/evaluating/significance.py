"""Significance: intervals and tests for accuracies and their differences, from a few seeds and a set of test images.

Input is an array of booleans, shape (seeds, images), that says which images each network classifies correctly.
benchmarks/interval_coverage.py simulates how often these intervals cover the truth; docs/compare.md has the table.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convladder.evaluating.metrics import share_interval

RightAnswers = npt.NDArray[np.bool_]

ALPHA = 0.05

# Pseudo-images, added because few errors show little of whether seeds err on the same images.
DOUBT = 0.25
# Share of the chance variance, divided by the degrees of freedom, that is not subtracted from the variance over seeds.
KEPT = 0.9


@dataclass(frozen=True)
class OverSeeds:
    """The variance of mean accuracies over seeds.

    Attributes:
        variance: The variance that the seeds show.
        degrees: Its degrees of freedom.
        chance: The part of it from seeds that answer differently for an image. The images' part already has it.
    """

    variance: float
    degrees: float
    chance: float

    def margin(self, alpha: float) -> float:
        """Half the width of the interval from seeds alone.

        Most of the chance part is subtracted, but not all, because a few seeds can vary less than chance by luck. That
        luck matters more for stricter levels: with many tests on few seeds, nothing is subtracted.
        """
        kept = KEPT * (math.log(alpha) / math.log(ALPHA)) ** 1.5 / self.degrees
        variance = self.variance - max(0.0, 1 - kept) * self.chance
        return _quantile(self.degrees, alpha) * math.sqrt(variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class Estimate:
    """A difference of accuracies with its uncertainty.

    Attributes:
        value: The difference.
        by_image: Its variance over other test images.
        images: Number of test images.
        over_seeds: Its variance over other seeds.
    """

    value: float
    by_image: float
    images: int
    over_seeds: OverSeeds

    def interval(self, tests: int = 1) -> tuple[float, float]:
        """The 95 % interval. With several tests, all their intervals hold together with 95 % (Šidák 1967)."""
        margin = self._margin(-math.expm1(math.log1p(-ALPHA) / tests))
        return max(-1.0, self.value - margin), min(1.0, self.value + margin)

    def p_value(self, tests: int = 1) -> float:
        """The two-sided, corrected p-value of no difference; at most 0.05 if the interval for `tests` excludes 0."""
        from scipy.optimize import brentq

        if self.value == 0:
            return 1.0
        smallest = -250.0  # of the logarithm: for less, the square of Student's t overflows
        if self._margin(math.exp(smallest)) <= abs(self.value):
            return 0.0
        single = math.exp(brentq(lambda x: self._margin(math.exp(x)) - abs(self.value), smallest, 0.0))
        return 1.0 if single >= 1 else -math.expm1(tests * math.log1p(-single))

    def _margin(self, alpha: float) -> float:
        """Half an interval: the half widths from images alone and seeds alone, added in quadrature (Zou 2008)."""
        of_images = _quantile(max(self.images - 1, 1), alpha) ** 2 * self.by_image
        return math.sqrt(of_images + self.over_seeds.margin(alpha) ** 2)


def estimate_difference(upper: RightAnswers, lower: RightAnswers) -> Estimate:
    """Estimate how much more accurate one network is than another, on the same images.

    The variance has two parts: that of the difference over test images, and, if a network has two or more seeds, that
    of the accuracies over seeds (Bouthillier et al. 2021, arXiv:2103.03098, on why both count).
    """
    per_image = upper.mean(axis=0) - lower.mean(axis=0)
    images = len(per_image)
    variance = float(per_image.var(ddof=1)) if images > 1 else 0.0
    # One pseudo-image, because networks that agree on all of these images may differ on the next.
    by_image = (variance + 1 / images) / images
    return Estimate(float(per_image.mean()), by_image, images, _over_seeds([upper, lower]))


def accuracy_difference(upper: RightAnswers, lower: RightAnswers) -> tuple[float, float, float]:
    """The difference of two networks' mean accuracies, with the ends of its 95 % interval."""
    difference = estimate_difference(upper, lower)
    return difference.value, *difference.interval()


def mean_accuracy(answers: RightAnswers) -> tuple[float, float, float]:
    """A network's mean accuracy over its seeds, with a 95 % interval for other seeds and other images like these.

    It is the interval of a single network on the number of images with the same variance (Korn and Graubard 1998).
    With one seed it covers other images for that network, but not other seeds.
    """
    from scipy.special import ndtri

    seeds, images = answers.shape
    accuracy = float(answers.mean())
    single = accuracy * (1 - accuracy)  # the variance of one answer
    effective = float(images)
    if seeds > 1 and single:
        # The part of that variance that averaging over seeds leaves: all of it, if they err on the same images.
        shared = (images * float(answers.mean(axis=0).var()) + DOUBT) / (images * single + DOUBT)
        of_seeds = (_over_seeds([answers]).margin(ALPHA) / float(-ndtri(ALPHA / 2))) ** 2
        effective = 1 / (shared / images + of_seeds / single)
    return accuracy, *share_interval(accuracy * effective, effective)


def _quantile(degrees: float, alpha: float) -> float:
    """The two-sided quantile of Student's t, as in scipy.stats but without its many checks."""
    from scipy.special import stdtrit

    return float(-stdtrit(degrees, alpha / 2))


def _over_seeds(networks: Sequence[RightAnswers]) -> OverSeeds:
    chance, _ = _variance_over_seeds(networks, _chance)
    return OverSeeds(*_variance_over_seeds(networks), chance)


def _spread(answers: RightAnswers) -> float:
    return float(answers.mean(axis=1).var(ddof=1))


def _chance(answers: RightAnswers) -> float:
    """The chance part of the spread, because seeds answer differently for an image: the interaction in the table."""
    seeds, images = answers.shape
    share = np.count_nonzero(answers) / answers.size
    rest = share * (1 - share) - float(answers.mean(axis=1).var()) - float(answers.mean(axis=0).var())
    return max(0.0, rest) * seeds / ((seeds - 1) * max(images - 1, 1))


def _variance_over_seeds(
    networks: Sequence[RightAnswers], spread: Callable[[RightAnswers], float] = _spread
) -> tuple[float, float]:
    """The variance of the sum of the networks' mean accuracies, and Welch's (1947) degrees of freedom."""
    parts = [(spread(network) / len(network), len(network) - 1.0) for network in networks if len(network) > 1]
    if not parts:
        return 0.0, math.inf
    if len(parts) < len(networks):  # a network with one seed is assumed to vary like the other
        ((variance, degrees),) = parts
        return variance * (degrees + 2), degrees
    total = sum(variance for variance, _ in parts)
    squares = sum(variance**2 / degrees for variance, degrees in parts)
    return total, total**2 / squares if squares else math.inf
