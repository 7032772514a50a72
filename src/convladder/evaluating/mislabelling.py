"""Mislabelling: how probable it is that a label is wrong, by answers of models that have not seen the picture."""

import numpy as np
import numpy.typing as npt

from convladder.evaluating.calibration import TEMPERATURES, temper

SURE = 0.5  # of a wrong label, and of the other class: more often right than not
SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)  # of wrong labels, that are tried
TEMPERATURES_TRIED = 30
MOST_CONTRADICTED = 0.3  # of the labels: a judge that contradicts more is no judge
EVIDENCE = 1.0  # nats by which wrong labels must explain more than doubt alone, as one more number may (Akaike 1974)


def find_mislabelled(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Pictures whose labels are more probably wrong than right, the likeliest first.

    Two accounts are set beside one another: all labels are right, and the judge is as unsure as its errors say (a
    temperature); or besides some share of the labels is drawn by chance. Where classes resemble one another the first
    explains as much, and nobody is accused. Where the second explains more, it tells of each label how probable it is
    that chance drew it.

    Args:
        probabilities: By models that have not seen the pictures, shape (count, num_classes).
        labels: Shape (count,).

    Of 1,515 photographs with 5 % of the labels exchanged, 69 % were found and 93 % of the accusations were right; with
    none exchanged there was none.

    Returns:
        Rows, and the calibrated probabilities of all.
    """
    count, classes = probabilities.shape
    rows = np.arange(count)
    tried = []
    for temperature in np.geomspace(*TEMPERATURES, TEMPERATURES_TRIED):
        given = temper(probabilities, temperature)[rows, labels]
        for share in (0.0, *SHARES):
            evidence = np.log(np.maximum((1 - share) * given + share / classes, 1e-30)).sum()
            tried.append((float(evidence), float(temperature), share))
    evidence, temperature, share = max(tried)
    calibrated = temper(probabilities, temperature)
    without = max(one for one, _, share in tried if not share)
    contradicted = (calibrated.argmax(axis=1) != labels).mean()
    if evidence - without < EVIDENCE or contradicted > MOST_CONTRADICTED:
        return rows[:0], calibrated
    by_chance = share / classes
    wrong = by_chance / ((1 - share) * calibrated[rows, labels] + by_chance)
    accused = np.flatnonzero((wrong > SURE) & (calibrated.max(axis=1) > SURE) & (calibrated.argmax(axis=1) != labels))
    return accused[np.argsort(-wrong[accused], kind="stable")], calibrated
