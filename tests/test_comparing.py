"""Comparison: the interval of a difference covers the truth as often as it says; rows are means over seeds."""

import numpy as np
import pytest

import convladder as cl
from convladder.comparing import Comparison
from convladder.significance import accuracy_difference


def simulate(rng: np.random.Generator, accuracy: float, spread: float, seeds: int, images: int) -> np.ndarray:
    """Answers of `seeds` runs: images differ in difficulty, alike for all runs; each seed has luck of its own."""
    fixed = np.random.default_rng(7)
    difficulty = fixed.normal(size=images)
    ability = np.quantile(difficulty + fixed.normal(scale=0.5, size=images), accuracy)
    luck = rng.normal(scale=spread, size=(seeds, 1))
    noise = rng.normal(scale=0.5, size=(seeds, images))
    return np.asarray(difficulty + noise < ability + luck)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.05), (5, 0.05)])
def test_equal_networks_cannot_be_told_apart_in_95_of_100_repeats(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        upper, lower = (simulate(rng, 0.97, spread, seeds, 2000) for _ in range(2))
        _, low, high = accuracy_difference(upper, lower)
        covered += low <= 0 <= high
    assert covered >= 950


def test_a_true_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        upper, lower = (simulate(rng, accuracy, 0.02, 3, 10_000) for accuracy in (0.98, 0.96))
        difference, low, _ = accuracy_difference(upper, lower)
        assert difference == pytest.approx(upper.mean() - lower.mean())
        assert low > 0


def test_rows_are_means_over_the_seeds(run: cl.Run) -> None:
    (row,) = Comparison((run, run)).rows
    assert (row["name"], row["seeds"]) == ("fast", 2)
    assert row["test_accuracy"] == run.info["test_accuracy"]
