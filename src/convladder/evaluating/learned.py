"""Learned nothing: a network beside the constant answer, which is the commonest class whatever the image shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convladder.evaluating.few import FEW, rounded

ALPHA = 0.05  # how often each of the tests may be wrong
# Cohen's kappa, below which answers hardly hang on the images: of untrained networks it is up to a few hundredths.
LEAST_KAPPA = 0.1
FEW_STEPS = 200  # of training, below which these are the likely cause
HIGH_RATE = 0.03  # of Adam, above which that is


@dataclass(frozen=True)
class Beside:
    """A network beside the constant answer, on the same images.

    Attributes:
        images: How many.
        right: On how many the network is right.
        commonest: The number of their commonest class.
        share: Of that class, which is how often the constant answer is right; 0 where there is no other class.
        beats: Whether the network is right more often; none where the images are too few to tell.
        tells_apart: Whether its answers hang on the images at all: where one class is nearly all, a network that finds
            the others may be right less often than the constant answer.
    """

    images: int
    right: int
    commonest: int
    share: float
    beats: bool | None
    tells_apart: bool

    @property
    def accuracy(self) -> float:
        """Of the network."""
        return self.right / self.images

    @property
    def nothing(self) -> bool:
        """Whether it has learned nothing."""
        return self.beats is False and not self.tells_apart

    def words(self, class_names: Sequence[str], cause: str = "", *, own: bool = True) -> str:
        """What is to be said of it, with the likely cause; an empty text where it beats the constant answer.

        Of other images than a run's `own`, of which a class may be far more frequent, no more is said than that.
        """
        if self.beats is not False:
            return ""
        share, accuracy = rounded(self.share, self.images), rounded(self.accuracy, self.images)
        chance = ", which chance explains" if self.accuracy > self.share else ""
        beside = (
            f"always answering {class_names[self.commonest]} would be right on {share} of the images, and it is on "
            f"{accuracy}{chance}"
        )
        if own and self.nothing:
            return f"Learned nothing: {beside}. {cause}".rstrip()
        though = ", though it tells classes apart" if self.tells_apart else ""
        return f"No better than a constant answer: {beside}{though}."


def set_beside_constant(right: int, labels: Sequence[int], answered: Sequence[int]) -> Beside:
    """Judge a network by exact binomial tests.

    It does not beat the constant answer where chance explains by how much it is right more often, unless so few would
    be right by chance of a network that avoids half of the constant answer's errors: then nothing is known.

    Args:
        right: On how many images it is right.
        labels: How many images there are of each class.
        answered: How many are taken for each class.
    """
    from scipy.stats import binom

    images, most = sum(labels), max(labels)
    commonest, share = labels.index(most), most / images
    if most == images:
        return Beside(images, right, commonest, 0.0, None, False)

    def more_than(chance: float) -> bool:
        return bool(binom.sf(right - 1, images, chance) <= ALPHA)

    beats: bool | None = True
    if not more_than(share):
        constant = images >= FEW and max(answered) == images
        missed = bool(binom.cdf(right, images, (1 + share) / 2) <= ALPHA)
        beats = False if constant or missed else None
    # How often it would be right by chance that gives each answer as often as it does.
    by_chance = sum(one * other for one, other in zip(labels, answered, strict=True)) / images**2
    kappa = (right / images - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
    return Beside(images, right, commonest, share, beats, more_than(by_chance) and kappa >= LEAST_KAPPA)


def beside_constant(test: Mapping[str, Any]) -> Beside:
    """The same of what `evaluating.describe` gives."""
    labels = [int(row["support"]) for row in test["per_class"]]
    answered, right = list(labels), test["images"]
    for label, answer, count in test["confusions"]:
        answered[label] -= count
        answered[answer] += count
        right -= count
    return set_beside_constant(right, labels, answered)


def likely_cause(info: Mapping[str, Any], history: Sequence[Mapping[str, float]], share: float) -> str:
    """Why a run has learned nothing, and what to do.

    Args:
        info: Its run.json.
        history: A row an epoch.
        share: Of the constant answer.
    """
    fitted = history[-1].get("accuracy", 0.0) if history else 0.0
    if fitted > (1 + share) / 2:
        return (
            f"It is right on {fitted:.2f} of the training images, so the likely cause is that these are few, or that "
            "the labels of the two do not agree: look at both."
        )
    if info["rung"] == "transfer":
        return "The likely cause is labels that the pictures do not tell: look at some of each class."
    recipe = info["recipe"]
    rate, batches = recipe["learning_rate"], info["images"]["train"] / recipe["batch_size"]
    steps = max(1, round(batches * (len(history) if recipe.get("minutes") else min(recipe["epochs"], len(history)))))
    if steps < FEW_STEPS and rate <= HIGH_RATE:
        return f"The likely cause is too few steps of training, {steps:,}: take more --epochs."
    return (
        f"The likely cause is a learning rate too high, {rate:g}: try --learning-rate {rate / 10:.2g}; or labels that "
        "the images do not tell."
    )
