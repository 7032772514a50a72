"""Metrics against their definitions."""

import numpy as np
import pytest

from convladder.evaluating import score


def test_score() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    probabilities = rng.dirichlet(np.ones(4), 500).astype(np.float32)
    probabilities[np.arange(400), labels[:400]] += 2  # mostly right
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    scores = score(probabilities, labels)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    assert scores["accuracy"] == accuracy
    assert scores["loss"] == pytest.approx(-np.log(probabilities[np.arange(500), labels]).mean(), rel=1e-4)
    # Wilson 1927: the accuracies p whose test at 5 % this one passes, |accuracy − p| = z √(p (1 − p) / n).
    for bound in (scores["low"], scores["high"]):
        assert abs(accuracy - bound) == pytest.approx(1.959964 * np.sqrt(bound * (1 - bound) / 500), rel=1e-4)
