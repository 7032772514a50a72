"""Significance: what a few seeds and a set of test images say of accuracies, and of their differences.

Which test images a network gets right is given as an array of booleans, shape (seeds, images). How often these
intervals cover was simulated, by benchmarks/coverage.py; docs/compare.md has the table.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convladder.evaluating.metrics import share_interval

RightAnswers = npt.NDArray[np.bool_]

ALPHA = 0.05

# Images' worth of doubt, added where few errors show whether seeds err on the same images.
DOUBT = 0.25
# Of a variance over seeds that is chance from image to image, over its degrees of freedom, what is not subtracted.
KEPT = 0.9


@dataclass(frozen=True)
class OverSeeds:
    """How mean accuracies vary over other seeds.

    Attributes:
        variance: As the seeds show it.
        degrees: Of freedom, that it is known with.
        chance: Of it, what comes of each seed making something else of an image; the images' part counts that already.
    """

    variance: float
    degrees: float
    chance: float

    def margin(self, alpha: float) -> float:
        """Half the interval that the seeds alone would have.

        Chance is subtracted, but for a share: a few seeds may by luck vary less than by chance. The less often the
        interval may be wrong, the more that luck counts: of many tests on few seeds nothing is subtracted.
        """
        kept = KEPT * (math.log(alpha) / math.log(ALPHA)) ** 1.5 / self.degrees
        variance = self.variance - max(0.0, 1 - kept) * self.chance
        return _quantile(self.degrees, alpha) * math.sqrt(variance) if variance > 0 else 0.0


@dataclass(frozen=True)
class Estimate:
    """A difference of accuracies, and how well it is known.

    Attributes:
        value: The difference.
        by_image: Its variance over other test images.
        images: That were tested.
        over_seeds: Its variance over other seeds.
    """

    value: float
    by_image: float
    images: int
    over_seeds: OverSeeds

    def interval(self, tests: int = 1) -> tuple[float, float]:
        """The 95 % interval; of several tests, all of their intervals hold at once with 95 % (Šidák 1967)."""
        margin = self._margin(-math.expm1(math.log1p(-ALPHA) / tests))
        return max(-1.0, self.value - margin), min(1.0, self.value + margin)

    def p_value(self, tests: int = 1) -> float:
        """Of the truth being 0, two-sided and corrected; at most 0.05 where the interval of as many leaves out 0."""
        from scipy.optimize import brentq

        if self.value == 0:
            return 1.0
        smallest = -250.0  # of the logarithm: of less, the square of Student's t is no float
        if self._margin(math.exp(smallest)) <= abs(self.value):
            return 0.0
        single = math.exp(brentq(lambda x: self._margin(math.exp(x)) - abs(self.value), smallest, 0.0))
        return 1.0 if single >= 1 else -math.expm1(tests * math.log1p(-single))

    def _margin(self, alpha: float) -> float:
        """Half an interval: the halves that images and seeds would have alone, squared and added (Zou 2008)."""
        of_images = _quantile(max(self.images - 1, 1), alpha) ** 2 * self.by_image
        return math.sqrt(of_images + self.over_seeds.margin(alpha) ** 2)


def estimate_difference(upper: RightAnswers, lower: RightAnswers) -> Estimate:
    """How much more accurate one network is than another, on the same images.

    The variance has two parts: of the difference on the same test images, and, where a network has two seeds or more,
    of the accuracies over the seeds (Bouthillier et al. 2021, arXiv:2103.03098, on why both count).
    """
    per_image = upper.mean(axis=0) - lower.mean(axis=0)
    images = len(per_image)
    variance = float(per_image.var(ddof=1)) if images > 1 else 0.0
    # One image's worth of doubt: networks that answer alike to these may differ on the next.
    by_image = (variance + 1 / images) / images
    return Estimate(float(per_image.mean()), by_image, images, _over_seeds([upper, lower]))


def accuracy_difference(upper: RightAnswers, lower: RightAnswers) -> tuple[float, float, float]:
    """The difference of two networks' mean accuracies, and the ends of its 95 % interval."""
    difference = estimate_difference(upper, lower)
    return difference.value, *difference.interval()


def mean_accuracy(answers: RightAnswers) -> tuple[float, float, float]:
    """A network's accuracy over its seeds, and a 95 % interval for other seeds and other images like these.

    It is that of a single network on as many images as would leave the same variance (Korn and Graubard 1998). With one
    seed it is for that one network on other images: what another seed would change is not known.
    """
    from scipy.special import ndtri

    seeds, images = answers.shape
    accuracy = float(answers.mean())
    single = accuracy * (1 - accuracy)  # the variance of one answer
    effective = float(images)
    if seeds > 1 and single:
        # Of that variance, what stays where the seeds are averaged: all, if they err on the same images.
        shared = (images * float(answers.mean(axis=0).var()) + DOUBT) / (images * single + DOUBT)
        of_seeds = (_over_seeds([answers]).margin(ALPHA) / float(-ndtri(ALPHA / 2))) ** 2
        effective = 1 / (shared / images + of_seeds / single)
    return accuracy, *share_interval(accuracy * effective, effective)


def _quantile(degrees: float, alpha: float) -> float:
    """What Student's t exceeds, on either side, with this probability: of scipy.stats, without its many checks."""
    from scipy.special import stdtrit

    return float(-stdtrit(degrees, alpha / 2))


def _over_seeds(networks: Sequence[RightAnswers]) -> OverSeeds:
    chance, _ = _variance_over_seeds(networks, _chance)
    return OverSeeds(*_variance_over_seeds(networks), chance)


def _spread(answers: RightAnswers) -> float:
    return float(answers.mean(axis=1).var(ddof=1))


def _chance(answers: RightAnswers) -> float:
    """What of the spread is chance, since each seed makes something else of an image: the interaction of a table."""
    seeds, images = answers.shape
    share = np.count_nonzero(answers) / answers.size
    rest = share * (1 - share) - float(answers.mean(axis=1).var()) - float(answers.mean(axis=0).var())
    return max(0.0, rest) * seeds / ((seeds - 1) * max(images - 1, 1))


def _variance_over_seeds(
    networks: Sequence[RightAnswers], spread: Callable[[RightAnswers], float] = _spread
) -> tuple[float, float]:
    """Of the sum of the networks' mean accuracies; and its degrees of freedom, Welch's (1947)."""
    parts = [(spread(network) / len(network), len(network) - 1.0) for network in networks if len(network) > 1]
    if not parts:
        return 0.0, math.inf
    if len(parts) < len(networks):  # a network with one seed is taken to vary with it as the other does
        ((variance, degrees),) = parts
        return variance * (degrees + 2), degrees
    total = sum(variance for variance, _ in parts)
    squares = sum(variance**2 / degrees for variance, degrees in parts)
    return total, total**2 / squares if squares else math.inf
