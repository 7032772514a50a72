"""Mislabelling: how probable it is that a label is wrong, by answers of models that have not seen the picture."""

import numpy as np
import numpy.typing as npt

from convladder.evaluating.calibration import TEMPERATURES, temper

WRONG = 0.4  # of a label, to be named: those that are named are 0.9 on average, where labels were exchanged
SURE = 0.5  # of the other class
# Of labels drawn by chance, that are tried. From 0.03 on, which ten well-known sets have on average (Northcutt et al.
# 2021, arXiv:2103.14749), up to ten of 720 right labels would be named where classes resemble one another.
SHARES = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
TEMPERATURES_TRIED = 30
MOST_CONTRADICTED = 0.3  # of the labels: a judge that contradicts more is no judge


def find_mislabelled(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pictures whose labels are probably wrong, the likeliest first.

    A label comes from the judge's answer, at some temperature, or by chance from all classes, at some share. The two
    that explain the labels best tell of each how probable it is that chance drew it. Where classes resemble one
    another, the temperature explains what the judge contradicts, and nobody is accused.

    Args:
        probabilities: By models that have not seen the pictures, shape (count, num_classes).
        labels: Shape (count,).

    Returns:
        Rows, and the calibrated probabilities of all.
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
