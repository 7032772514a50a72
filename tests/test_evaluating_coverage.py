"""A fast part of benchmarks/interval_coverage.py, with a fixed seed: intervals cover as often as they say."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
REPEATS = 600


@pytest.fixture(scope="module")
def coverage() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return runpy.run_path(str(BENCHMARKS / "interval_coverage.py"))


def likely(low: float, high: float) -> tuple[float, float]:
    """What a share between these comes out as in 999 of 1,000 such tests."""
    return binom.ppf(0.0005, REPEATS, low) / REPEATS, binom.ppf(0.9995, REPEATS, high) / REPEATS


@pytest.mark.parametrize(
    ("accuracy", "images", "seeds", "spread"),
    [
        (0.9, 100, 1, 0.0),
        (0.95, 1000, 1, 0.0),
        (0.998, 10_000, 1, 0.0),
        (0.9, 10_000, 2, 0.01),
        (0.95, 10_000, 3, 0.003),
        (0.98, 1000, 3, 0.003),
        (0.9, 1000, 5, 0.0),
        (0.99, 10_000, 5, 0.003),
        (0.95, 1000, 5, 0.01),
    ],
)
def test_an_accuracy_s_interval_covers_in_94_to_97_of_100(
    coverage: dict[str, Any], accuracy: float, images: int, seeds: int, spread: float
) -> None:
    cell = {"accuracy": accuracy, "images": images, "seeds": seeds, "spread": spread, "shared": 0.7}
    measured = coverage["coverage_of_accuracies"](np.random.default_rng(0), REPEATS, cell)["covered"]
    low, high = likely(0.94, 0.97)
    assert low <= measured <= high


@pytest.mark.parametrize(("accuracy", "images"), [(0.998, 100), (0.99, 100), (0.998, 1000)])
@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_of_a_handful_of_errors_an_interval_covers_at_least_so_often(
    coverage: dict[str, Any], accuracy: float, images: int, seeds: int
) -> None:
    cell = {"accuracy": accuracy, "images": images, "seeds": seeds, "spread": 0.003, "shared": 0.7}
    cell |= {"spread": 0.0} if seeds == 1 else {}
    assert coverage["coverage_of_accuracies"](np.random.default_rng(1), 300, cell)["covered"] >= 0.94


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_s_interval_covers_two_sided(coverage: dict[str, Any], seeds: int) -> None:
    cell = {"accuracy": 0.95, "images": 1000, "seeds": seeds, "spread": 0.003, "shared": 0.7}
    measured = coverage["coverage_of_differences"](np.random.default_rng(2), REPEATS, cell)["covered"]
    low, high = likely(0.94, 0.98)
    assert low <= measured <= high


@pytest.mark.parametrize("rungs", [2, 5, 12])
@pytest.mark.parametrize(("seeds", "spread"), [(1, 0.0), (2, 0.01)])
def test_equal_rungs_are_told_apart_in_at_most_5_of_100_comparisons(
    coverage: dict[str, Any], rungs: int, seeds: int, spread: float
) -> None:
    cell = {"rungs": rungs, "accuracy": 0.97, "images": 1000, "seeds": seeds, "spread": spread, "shared": 0.5}
    repeats = 600 // rungs
    claimed = coverage["false_claims"](np.random.default_rng(3), repeats, cell)["claimed"]
    assert claimed * repeats <= binom.ppf(0.9995, repeats, 0.05)


def test_the_page_has_the_whole_table_of_the_simulation(coverage: dict[str, Any]) -> None:
    content = json.loads((ROOT / "docs" / "benchmarks" / "interval_coverage.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    tables = "\n".join(coverage["describe"](content)).strip().split("\n\n")
    assert len(tables) == 5
    for table in tables:
        assert f"\n{table}\n" in page, table.splitlines()[0]
    assert f"anew {content['repeats']} times" in page
    for part, (_, cells, _) in coverage["PARTS"].items():  # all that the benchmark of today simulates
        for row, cell in zip(content[part], cells(), strict=True):
            assert cell.items() <= row.items()
    # Where a network makes five errors or more, below 92 % nothing lies but by chance, and equal rungs stay equal.
    sure = [row["covered"] for row in content["accuracies"] if coverage["expected_errors"](row) >= 5]
    assert min(sure) >= binom.ppf(0.0005, content["repeats"], 0.92) / content["repeats"]
    claims = [row["claimed"] for row in content["equal_rungs"]]
    repeats = content["repeats"] // 2
    assert max(claims) * repeats <= binom.ppf(0.9995, repeats, 0.05)
