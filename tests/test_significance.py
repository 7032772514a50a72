"""Significance: an interval covers the truth as often as it says, for one pair and for many at once."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_ind

from convladder.significance import (
    _variance_over_seeds,
    accuracy_difference,
    correct_for_number,
    estimate_difference,
    mean_accuracy,
)

# What a seed makes of an image by chance counts with the images and with the seeds: near 0.97 an interval of several
# seeds covers in 98 of 100 repeats, which is on the safe side. Wider it must not be.
WIDEST = 990


def likely(repeats: int) -> tuple[int, int]:
    """How often an interval of 95 % covers in so many repeats, in 999 of 1,000 such tests."""
    low, high = binom.ppf([0.0005, 0.9995], repeats, 0.95)
    return int(low), int(high)


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
    assert 950 <= covered <= WIDEST


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
    assert 950 <= covered <= WIDEST


@pytest.mark.parametrize(("upper", "lower"), [(1, 1), (2, 2), (5, 5), (5, 1)])
def test_an_interval_is_neither_too_narrow_nor_too_wide(upper: int, lower: int) -> None:
    rng = np.random.default_rng(0)
    spread = 0.1 if upper > 1 else 0.0  # luck that is much of the variance, where accuracy follows it in a line
    covered = 0
    for _ in range(500):
        one, other = (simulate(rng, 0.5, spread, seeds, 4000) for seeds in (upper, lower))
        _, low, high = accuracy_difference(one, other)
        covered += low <= 0 <= high
    low, high = likely(500)
    assert low <= covered <= high


@pytest.mark.parametrize(("accuracy", "images"), [(0.5, 200), (0.9, 1000), (0.99, 10_000)])
def test_a_single_network_s_interval_covers_as_often_as_it_says(accuracy: float, images: int) -> None:
    rng = np.random.default_rng(4)
    ends = [mean_accuracy(rng.random((1, images)) < accuracy)[1:] for _ in range(1000)]
    low, high = likely(1000)
    assert low <= sum(low <= accuracy <= high for low, high in ends) <= high


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
    assert 475 <= covered <= likely(500)[1]


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
