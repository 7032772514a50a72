"""Learned nothing: compares a network with the constant answer, which is always the most frequent class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.evaluating.few import FEW, rounded

ALPHA = 0.05  # error rate of each test
# Cohen's kappa: below this, answers hardly depend on the images. Untrained networks have up to a few hundredths.
LEAST_KAPPA = 0.1
FEW_STEPS = 200  # of training: fewer are the likely cause
HIGH_RATE = 0.03  # of Adam: a higher one is the likely cause


@dataclass(frozen=True)
class Beside:
    """A network compared with the constant answer, on the same images.

    Attributes:
        images: Number of images.
        right: Number of images that the network classifies correctly.
        commonest: Label of the most frequent class.
        share: Share of that class, which is the accuracy of the constant answer; 0 if there is no other class.
        beats: Whether the network is more accurate; None if there are too few images to tell.
        tells_apart: Whether its answers depend on the images at all. If nearly all images are of one class, a network
            that finds the others can be less accurate than the constant answer.
    """

    images: int
    right: int
    commonest: int
    share: float
    beats: bool | None
    tells_apart: bool

    @property
    def accuracy(self) -> float:
        """Accuracy of the network."""
        return self.right / self.images

    @property
    def nothing(self) -> bool:
        """Whether it has learned nothing."""
        return self.beats is False and not self.tells_apart

    def words(self, class_names: Sequence[str], cause: str = "", *, own: bool = True) -> str:
        """A sentence on the comparison, with the likely cause; empty if the network beats the constant answer.

        For images that are not the run's `own` it draws no conclusion, because their classes may be distributed
        differently.
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
    """Compare a network with the constant answer by exact binomial tests.

    It does not beat the constant answer if chance explains its lead. But if chance could also explain so few correct
    answers of a network that avoids half of the constant answer's errors, nothing is known.

    Args:
        right: Number of images that it classifies correctly.
        labels: Number of images of each class.
        answered: Number of answers for each class.
    """
    from scipy.special import bdtr, bdtrc  # the binomial distribution; scipy.stats takes a second to import

    images, most = sum(labels), max(labels)
    commonest, share = labels.index(most), most / images
    if most == images:
        return Beside(images, right, commonest, 0.0, None, False)

    def more_than(chance: float) -> bool:
        return bool(bdtrc(right - 1, images, chance) <= ALPHA)

    beats: bool | None = True
    if not more_than(share):
        constant = images >= FEW and max(answered) == images
        missed = bool(bdtr(right, images, (1 + share) / 2) <= ALPHA)
        beats = False if constant or missed else None
    # The accuracy of random answers with the network's own frequencies.
    by_chance = sum(one * other for one, other in zip(labels, answered, strict=True)) / images**2
    kappa = (right / images - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0
    return Beside(images, right, commonest, share, beats, more_than(by_chance) and kappa >= LEAST_KAPPA)


def beside_constant(test: Mapping[str, Any]) -> Beside:
    """The same, from the result of `evaluating.describe`."""
    labels = [int(row["support"]) for row in test["per_class"]]
    answered, right = list(labels), test["images"]
    for label, answer, count in test["confusions"]:
        answered[label] -= count
        answered[answer] += count
        right -= count
    return set_beside_constant(right, labels, answered)


def likely_cause(info: Mapping[str, Any], history: Sequence[Mapping[str, float]], share: float) -> str:
    """The likely reason why a run has learned nothing, and what to do.

    Args:
        info: Its run.json.
        history: One row per epoch.
        share: Accuracy of the constant answer.
    """
    fitted = history[-1].get("accuracy", 0.0) if history else 0.0
    if fitted > (1 + share) / 2:
        return (
            f"Its accuracy on the training images is {fitted:.2f}, so the likely cause is that these are few, or that "
            "training and test labels do not agree: look at both."
        )
    if info["rung"] == "transfer":
        return "The likely cause is that the labels do not match the pictures: look at some of each class."
    recipe = info["recipe"]
    rate, batches = recipe["learning_rate"], info["images"]["train"] / recipe["batch_size"]
    steps = max(1, round(batches * (len(history) if recipe.get("minutes") else min(recipe["epochs"], len(history)))))
    if steps < FEW_STEPS and rate <= HIGH_RATE:
        return f"The likely cause is too few training steps, {steps:,}: use more --epochs."
    return (
        f"The likely cause is a learning rate that is too high, {rate:g}: try --learning-rate {rate / 10:.2g}. Or the "
        "labels do not match the images."
    )


def share_of_commonest(labels: npt.NDArray[np.int64] | None) -> float | None:
    """Chance: the share of the most frequent class, if there are labels, of more than one class."""
    if labels is None or not len(labels):
        return None
    share = float(np.bincount(labels).max() / len(labels))
    return share if share < 1 else None
