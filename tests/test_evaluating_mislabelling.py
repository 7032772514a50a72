"""Labels are accused where they are more probably wrong than right, and nowhere else: judges and errors made here."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax

from convladder.evaluating.mislabelling import find_mislabelled

CLASSES = 5
Rows = npt.NDArray[np.int64]


def judge(
    count: int, sure: float, wrong: float, seed: int, temperature: float = 1.0
) -> tuple[npt.NDArray[np.float32], Rows, Rows]:
    """Probabilities of a judge who knows how sure it may be, labels drawn from them, and those exchanged then."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(count, CLASSES)) * sure
    true = softmax(logits, axis=1)
    labels = (true.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    exchanged = random.permutation(count)[: round(wrong * count)]
    labels[exchanged] = (labels[exchanged] + random.integers(1, CLASSES, len(exchanged))) % CLASSES
    return softmax(logits / temperature, axis=1).astype(np.float32), labels, exchanged


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("sure", [4.0, 8.0, 16.0])
def test_classes_that_resemble_one_another_are_no_label_errors(sure: float, temperature: float) -> None:
    """Too sure or not sure enough: what a judge says is measured by what it got right."""
    accused = [len(find_mislabelled(*judge(720, sure, 0, seed, temperature)[:2])[0]) for seed in range(5)]
    assert sum(accused) <= 10  # of 3,600


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_accusations_are_right_more_often_than_not(temperature: float) -> None:
    found = right = planted = 0
    for seed in range(5):
        probabilities, labels, wrong = judge(720, 16.0, 0.05, seed, temperature)
        accused, calibrated = find_mislabelled(probabilities, labels)
        found, planted = found + len(accused), planted + len(wrong)
        right += int(np.isin(accused, wrong).sum())
        assert (calibrated[accused].max(axis=1) > 0.5).all()
        assert (calibrated[accused].argmax(axis=1) != labels[accused]).all()
    assert right > 0.8 * found
    assert right > 0.6 * planted


def test_a_judge_that_is_often_wrong_accuses_nobody() -> None:
    probabilities, labels, _ = judge(720, 16.0, 0.35, 0)
    assert not len(find_mislabelled(probabilities, labels)[0])
