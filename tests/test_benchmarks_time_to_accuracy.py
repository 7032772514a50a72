"""The benchmark's own arithmetic; the trainings themselves are too long for a test."""

from pathlib import Path

import pytest
from time_to_accuracy import Training, matrix_product_flops, plot_time_to_accuracy, seconds_until, summarize_trainings


def training(name: str, seed: int, seconds: list[float], accuracies: list[float]) -> Training:
    return Training(name, seed, seconds, accuracies, 0.2, "float32")


TRAININGS = [
    training("article", 0, [10.0, 20.0, 90.0], [0.97, 0.985, 0.98]),
    training("article", 1, [10.0, 20.0, 110.0], [0.97, 0.98, 0.98]),
    training("keras example", 0, [30.0, 60.0], [0.98, 0.991]),
    training("fast, 0.5 epochs", 0, [1.0], [0.984]),
    training("fast, 0.5 epochs", 1, [3.0], [0.986]),
    training("fast, 1 epochs", 0, [4.0], [0.991]),
]


def test_ratios_are_of_medians_to_the_cheapest_that_is_good_enough() -> None:
    article, example = summarize_trainings(TRAININGS)["ratios"]
    assert (article["here"], article["ratio"]) == ("fast, 0.5 epochs", 100 / 2)
    assert (example["here"], example["ratio"], example["reached"]) == ("fast, 1 epochs", 60 / 4, True)


def test_a_peer_that_never_gets_there_counts_with_all_its_seconds_and_is_marked() -> None:
    assert seconds_until(TRAININGS[2], 0.995) == (60.0, False)
    assert seconds_until(TRAININGS[2], 0.98) == (30.0, True)


def test_no_ratio_is_claimed_where_nothing_is_good_enough() -> None:
    assert summarize_trainings(TRAININGS[:3])["ratios"] == []


def test_rows_hold_median_and_spread() -> None:
    row = summarize_trainings(TRAININGS)["rows"][2]
    assert (row["seconds"], row["seconds_low"], row["seconds_high"]) == (2.0, 1.0, 3.0)
    assert row["test_accuracy"] == pytest.approx(0.985)


def test_the_plot_names_every_contender(tmp_path: Path) -> None:
    plot_time_to_accuracy(TRAININGS, tmp_path / "plot.svg")
    picture = (tmp_path / "plot.svg").read_text()
    assert "<svg" in picture
    for name in ("article", "keras example", "fast, 1 epochs"):
        assert name in picture


def test_a_matrix_product_is_measured() -> None:
    assert 1e8 < matrix_product_flops("float32", size=256) < 1e15
