"""Significance: an interval covers the truth as often as it says, for one pair and for many at once."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_ind

from convladder.evaluating.metrics import share_interval
from convladder.evaluating.significance import (
    _chance,
    _variance_over_seeds,
    accuracy_difference,
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


@pytest.mark.long
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.05), (5, 0.05)])
def test_equal_networks_cannot_be_told_apart_in_95_of_100_repeats(seeds: int, spread: float) -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        upper, lower = (simulate(rng, 0.97, spread, seeds, 2000) for _ in range(2))
        _, low, high = accuracy_difference(upper, lower)
        covered += low <= 0 <= high
    assert 950 <= covered <= WIDEST


@pytest.mark.long
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


def test_the_part_of_chance_is_the_interaction_of_an_analysis_of_variance() -> None:
    answers = simulate(np.random.default_rng(0), 0.9, 0.05, 4, 300)
    rest = answers - answers.mean(axis=0) - answers.mean(axis=1, keepdims=True) + answers.mean()
    mean_square = (rest**2).sum() / ((4 - 1) * (300 - 1))
    assert _chance(answers) == pytest.approx(mean_square / 300)


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


@pytest.mark.parametrize(("right", "images"), [(0, 100), (1, 100), (97, 100), (9_980, 10_000), (100, 100)])
def test_a_share_s_interval_is_that_of_the_mid_p_test(right: int, images: int) -> None:
    low, high = share_interval(right, images)
    if right:  # what is more and half of what is as likely as this: 2.5 %
        assert binom.sf(right, images, low) + binom.pmf(right, images, low) / 2 == pytest.approx(0.025)
    if right < images:
        assert binom.cdf(right - 1, images, high) + binom.pmf(right, images, high) / 2 == pytest.approx(0.025)
    assert (low == 0, high == 1) == (right == 0, right == images)


@pytest.mark.parametrize("accuracy", [0.9, 0.98, 1.0])
def test_a_second_seed_that_answers_alike_tells_nothing_more(accuracy: float) -> None:
    one = np.random.default_rng(0).random((1, 1000)) < accuracy
    assert mean_accuracy(np.repeat(one, 3, axis=0)) == pytest.approx(mean_accuracy(one))


@pytest.mark.parametrize("tests", [1, 10, 66])
def test_an_interval_and_its_corrected_p_value_say_the_same(tests: int) -> None:
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(150):
        upper, lower = (simulate(rng, accuracy, 0.05, 5, 500) for accuracy in (rng.uniform(0.93, 0.98), 0.95))
        difference = estimate_difference(upper, lower)
        low, high = difference.interval(tests)
        assert (difference.p_value(tests) <= 0.05) == (low > 0 or high < 0)
        assert difference.p_value(tests) >= difference.p_value()
        seen.add(difference.p_value(tests) <= 0.05)
    assert seen == {True, False}


def test_the_correction_for_several_is_sidak_s() -> None:
    difference = estimate_difference(
        *(simulate(np.random.default_rng(s), a, 0, 1, 5000) for s, a in ((0, 0.97), (1, 0.963)))
    )
    assert difference.p_value(10) == pytest.approx(1 - (1 - difference.p_value()) ** 10)
