"""Differences between two rows of a comparison, with verdicts at one joint level for all pairs."""

import math
from collections.abc import Mapping
from typing import Any

from convladder.comparing.settings import describe_difference, differing
from convladder.evaluating.few import points_of
from convladder.evaluating.significance import ALPHA, Estimate

BETTER, WORSE, ALIKE = "more accurate", "less accurate", "cannot be told apart"


def level_of(rows: int) -> dict[str, Any]:
    """The joint confidence of all intervals of differences between so many rows, and the method.

    It covers all pairs, not only the ones shown, because the best row, which others are compared with, is known only
    afterwards.
    """
    count = math.comb(rows, 2)
    method = "Šidák over all pairs"
    words = f"95 % is for all {count:,} differences between these {rows} at once ({method})."
    return {
        "confidence": 1 - ALPHA,
        "differences": count,
        "method": method,
        "words": words if count > 1 else "95 % is for the one difference.",
    }


def set_beside(upper: Mapping[str, Any], lower: Mapping[str, Any], difference: Estimate, tests: int) -> dict[str, Any]:
    """Difference, interval, corrected p-value, verdict, other differences between the two, and a sentence."""
    low, high = difference.interval(tests)
    p_value = difference.p_value(tests)
    verdict = BETTER if low > 0 else WORSE if high < 0 else ALIKE
    ratio = upper["fit_seconds"] / lower["fit_seconds"]
    told = points_of([difference.value, low, high], upper["test_images"], nonzero=verdict != ALIKE)
    points = f"{'+' if difference.value >= 0 else ''}{told[0]}"
    interval = f"{told[1]} to {told[2]}"
    above, below = (f"`{row['name']}`" for row in (upper, lower))
    if upper["image_size"] != lower["image_size"]:  # then the size is part of the difference
        above, below = (f"`{row['name']}` at {row['image_size']} pixels" for row in (upper, lower))
    names = f"{above} and {below} {ALIKE}" if verdict == ALIKE else f"{above} over {below}"
    both = (upper["settings"], lower["settings"])
    differs = {key: [one.get(key) for one in both] for key in differing(both) if key != "data"}
    said = {key: values for key, values in differs.items() if key != "image_size"}
    besides = f"; they also differ in {describe_difference(said)}" if said else ""
    chance = f"p = {p_value:.{3 if p_value >= 0.001 else 1}{'f' if p_value >= 0.001 else 'e'}}"
    times = f"{ratio:.{1 if ratio >= 0.95 else 2}f}× the seconds"
    return {
        "lower": lower["name"],
        "upper": upper["name"],
        "difference": difference.value,
        "low": low,
        "high": high,
        "p_value": p_value,
        "verdict": verdict,
        "seconds_ratio": ratio,
        "differs": differs,
        "points": f"{points} ({interval})",
        "words": f"{names}: {points} points ({interval}), {chance}, for {times}{besides}",
    }
