"""Significance: an interval covers the truth as often as it says, for one pair and for many at once."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from convladder.significance import (
    _variance_over_seeds,
    accuracy_difference,
    correct_for_number,
    estimate_difference,
    mean_accuracy,
)


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


@pytest.mark.parametrize(("upper", "lower"), [(5, 1), (3, 3), (5, 5)])
def test_so_they_cannot_where_their_seeds_differ_in_number_and_in_luck(upper: int, lower: int) -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        # A network with one seed is taken to be as lucky and unlucky as the other.
        spreads = (0.1, 0.02) if lower > 1 else (0.05, 0.05)
        one, other = (simulate(rng, 0.97, s, n, 2000) for s, n in zip(spreads, (upper, lower), strict=True))
        _, low, high = accuracy_difference(one, other)
        # Luck of unequal spread moves the accuracies by less than this.
        covered += low <= 0.0005 and high >= -0.0005
    assert covered >= 950


def test_a_true_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        upper, lower = (simulate(rng, accuracy, 0.02, 3, 10_000) for accuracy in (0.98, 0.96))
        difference, low, _ = accuracy_difference(upper, lower)
        assert difference == pytest.approx(upper.mean() - lower.mean())
        assert low > 0


def test_the_seeds_part_is_welch_s() -> None:
    rng = np.random.default_rng(0)
    upper, lower = simulate(rng, 0.97, 0.1, 5, 500), simulate(rng, 0.96, 0.02, 3, 500)
    expected = ttest_ind(upper.mean(axis=1), lower.mean(axis=1), equal_var=False)
    variance, degrees = _variance_over_seeds([upper, lower])
    assert degrees == pytest.approx(expected.df)
    assert (upper.mean() - lower.mean()) / variance**0.5 == pytest.approx(expected.statistic)


def test_an_accuracy_s_interval_covers_what_it_is_over_all_seeds_and_images() -> None:
    truth = simulate(np.random.default_rng(1), 0.97, 0.05, 4000, 2000).mean()
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(500):
        answers = simulate(rng, 0.97, 0.05, 5, 2000)
        chosen = rng.integers(2000, size=1000)  # other images of the same kind
        _, low, high = mean_accuracy(answers[:, chosen])
        covered += low <= truth <= high
    assert covered >= 475


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_network_without_an_error_is_not_known_to_be_perfect(seeds: int) -> None:
    accuracy, low, high = mean_accuracy(np.ones((seeds, 100), bool))
    assert (accuracy, high) == (1, 1)
    assert 0.9 < low < 1


def test_holm_s_correction_is_r_s() -> None:
    # p.adjust(c(0.03, 0.01, 0.05, 0.02, 0.04), "holm"), and p.adjust(c(0.001, 0.04, 0.03), "holm")
    assert [p for p, _ in correct_for_number([0.03, 0.01, 0.05, 0.02, 0.04])] == pytest.approx(
        [0.09, 0.05, 0.09, 0.08, 0.09]
    )
    assert [p for p, _ in correct_for_number([0.001, 0.04, 0.03])] == pytest.approx([0.003, 0.06, 0.06])
    assert correct_for_number([]) == []


def test_an_interval_and_its_corrected_p_value_say_the_same() -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(200):
        groups = [simulate(rng, accuracy, 0.05, 5, 500) for accuracy in (0.95, 0.95, 0.957, 0.97, 0.93)]
        differences = [estimate_difference(groups[i + 1], groups[i]) for i in range(4)]
        corrected = correct_for_number([difference.p_value for difference in differences])
        for difference, (p_value, alpha) in zip(differences, corrected, strict=True):
            low, high = difference.interval(alpha)
            assert (p_value <= 0.05) == (low > 0 or high < 0)
            seen.add(p_value <= 0.05)
    assert seen == {True, False}
