"""Mislabelling: the probability that a label is wrong, from models that were not trained on the picture."""

import numpy as np
import numpy.typing as npt

from convladder.evaluating.calibration import TEMPERATURES, temper

WRONG = 0.4  # probability of an error from which a label is reported; with swapped labels, the mean is 0.9
SURE = 0.5  # probability that the other class must have
# Shares of random labels that are tried. With 0.03, the mean of ten well-known data sets (Northcutt et al. 2021,
# arXiv:2103.14749), or more, up to ten of 720 correct labels would be reported if classes are similar.
SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
TEMPERATURES_TRIED = 30
MOST_CONTRADICTED = 0.3  # share of the labels: a model that contradicts more is too bad to judge


def find_mislabelled(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pictures whose labels are probably wrong, the most likely first.

    The model of the labels: a label is drawn from the judge's probabilities, at some temperature, or, with some
    probability, at random from all classes. The temperature and the share that fit the labels best give, for each
    label, the probability that it is random. If classes are similar, the temperature explains the contradictions, and
    nothing is reported.

    Args:
        probabilities: From models that were not trained on the pictures, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Rows of the pictures, and the calibrated probabilities of all pictures.
    """
    count, classes = probabilities.shape
    rows = np.arange(count)
    tried = []
    for temperature in np.geomspace(*TEMPERATURES, TEMPERATURES_TRIED):
        given = temper(probabilities, temperature)[rows, labels]
        for share in SHARES:
            evidence = np.log(np.maximum((1 - share) * given + share / classes, 1e-30)).sum()
            tried.append((float(evidence), float(temperature), share))
    _, temperature, share = max(tried)
    calibrated = temper(probabilities, temperature)
    if (calibrated.argmax(axis=1) != labels).mean() > MOST_CONTRADICTED:
        return rows[:0], calibrated
    by_chance = share / classes
    wrong = by_chance / ((1 - share) * calibrated[rows, labels] + by_chance)
    accused = np.flatnonzero((wrong > WRONG) & (calibrated.max(axis=1) > SURE) & (calibrated.argmax(axis=1) != labels))
    return accused[np.argsort(-wrong[accused], kind="stable")], calibrated
