"""The plots of a page, drawn by a real browser: what is named, what is marked, and that no text covers another."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from browsing import open_browser
from convladder.evaluating.learned import share_of_commonest
from convladder.reporting import plots
from convladder.reporting.curves import svg_of_all_learning, svg_of_learning
from convladder.reporting.svg import is_logarithmic

STYLE = Path(plots.__file__).with_name("style.css")
RUNGS: tuple[str, ...] = (
    "dense",
    "conv",
    "pool",
    "regularized",
    "batchnorm",
    "linear_head",
    "inception",
    "deep",
    "residual",
    "fast",
)
RUNGS += ("tiny", "strong", "transfer")
# Pairs of texts that cover one another; one pixel is for rounding.
COVERED = """all => {
  const boxes = all.map(one => [one.textContent, one.getBoundingClientRect()]);
  return boxes.flatMap(([text, a], i) => boxes.slice(i + 1)
    .filter(([, b]) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
    .map(([other]) => [text, other]));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def show(browser: Browser, figures: Sequence[str], width: int = 1280) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900})
    drawn = "".join(f"<figure>{figure}</figure>" for figure in figures)
    style = STYLE.read_text(encoding="utf-8")
    page.set_content(f'<style>{style}</style><div class="figures wide">{drawn}</div>')
    return page


def rows_of(names: Sequence[str], accuracies: Any, seconds: Any) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "test_accuracy": accuracy,
            "low": accuracy - 0.002,
            "high": min(1.0, accuracy + 0.002),
            "fit_seconds": second,
            "parameters": 70_698,
            "latency_seconds": 5e-5 * (1 + number % 3),
        }
        for number, (name, accuracy, second) in enumerate(zip(names, accuracies, seconds, strict=True))
    ]


LONG = [
    f"{rung} (epochs {number + 2}, augmentation digits, learning rate 0.00{number})"
    for number, rung in enumerate(RUNGS)
]
CASES = {
    "two": rows_of(RUNGS[:2], [0.95, 0.99], [1, 20]),
    "two that are equal": rows_of(RUNGS[:2], [0.99, 0.99], [5, 5]),
    "thirteen, nearly equal": rows_of(RUNGS, 0.99 + np.arange(13) / 20_000, 10 + np.arange(13) / 10),
    "thirteen, spread": rows_of(RUNGS, np.linspace(0.2, 0.999, 13), np.geomspace(0.5, 500, 13)),
    "thirteen that learned nothing": rows_of(RUNGS, np.full(13, 0.11), np.geomspace(5, 50, 13)),
    "five with long names": rows_of(LONG[:5], 0.99 + np.arange(5) / 2000, 10 + np.arange(5)),
    "thirteen with long names": rows_of(LONG, 0.9 + np.arange(13) / 200, np.geomspace(1, 90, 13)),
}


@pytest.mark.long
@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
@pytest.mark.parametrize("width", [360, 1280])
def test_in_plots_of_costs_all_rungs_are_named_and_no_text_covers_another(
    rows: list[dict[str, Any]], width: int, browser: Browser
) -> None:
    front = {key: [rows[0]["name"], rows[-1]["name"]] for key, *_ in plots.PAGE_COSTS}
    page = show(browser, plots.svgs_of_costs(rows, front, 10_000, 0.1135), width)
    for figure in page.locator("figure").all():
        assert figure.locator("text").evaluate_all(COVERED) == []
        words = " ".join(figure.locator(".name text").all_text_contents()).split()
        assert sorted(words) == sorted(word for row in rows for word in row["name"].split())
        assert figure.locator(".chance").all_text_contents() == ["chance 11 %"]
        costs = figure.locator('text[style*="text-anchor: middle"]').all_text_contents()
        assert len([text for text in costs if re.fullmatch(r"[\d.]+[kMG]?", text)]) >= 2  # even where they are equal
    page.close()


def learned(epochs: int, reached: float) -> list[float]:
    return [reached - 0.5 * 0.8**epoch for epoch in range(1, epochs + 1)]


@pytest.mark.long
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("epochs", [1, 2, 40])
@pytest.mark.parametrize("rungs", [2, 13])
def test_six_learning_curves_at_most_are_named_and_no_text_covers_another(
    rungs: int, epochs: int, width: int, browser: Browser
) -> None:
    curves = [[learned(epochs, 0.99 - number / 2000)] for number in range(rungs)]
    curves[-1] = [learned(max(1, epochs // 2), 0.7)]  # another length
    first = rungs - 1
    page = show(browser, [svg_of_all_learning(curves, RUNGS[:rungs], first, 5000, 0.12)], width)
    assert page.locator("text").evaluate_all(COVERED) == []
    named = page.locator(".name text").all_text_contents()
    assert set(named) == {*RUNGS[: min(rungs, 5)], RUNGS[first]}  # the most accurate, and the chosen one
    page.close()


@pytest.mark.parametrize(("epochs", "markers"), [(1, 1), (2, 2), (10, 10), (11, 1), (40, 1)])
def test_each_of_a_few_epochs_has_a_marker_and_many_are_a_thin_line(epochs: int, markers: int) -> None:
    figure = svg_of_learning([[learned(epochs, 0.99)]], 0, "pool", 5000, 0.12)
    assert len(re.findall(r'<use [^>]*fill: var\(--accent, royalblue\)"', figure)) == markers
    widths = [
        float(width) for width in re.findall(r"stroke: var\(--accent, royalblue\); stroke-width: ([\d.]+)", figure)
    ]
    assert (max(widths) > 1.5) == (epochs <= 10)


def test_the_accuracy_that_was_reached_stands_beside_the_curve() -> None:
    figure = svg_of_learning([[[0.5, 0.9], [0.5, 0.92]]], 0, "pool", 100, None)
    assert ">91<" in figure
    assert "chance" not in figure


@pytest.mark.parametrize("accuracies", [(0.05, 0.12), (0.4, 0.7), (0.9, 0.95), (0.98, 0.99999)])
def test_the_axis_of_accuracies_has_ticks_at_any_accuracy(accuracies: tuple[float, float], browser: Browser) -> None:
    rows = rows_of(RUNGS[:2], accuracies, [1, 2])
    page = show(browser, plots.svgs_of_costs(rows, {key: [] for key, *_ in plots.PAGE_COSTS}, 10_000, None)[:1])
    numbers = [
        text
        for text in page.locator('text[style*="text-anchor: end"]').all_text_contents()
        if re.fullmatch(r"[\d.]+", text)
    ]
    within = [n for n in map(float, numbers) if 100 * accuracies[0] - 10 <= n <= 100 * accuracies[1] + 10]
    assert len(within) >= 2
    assert is_logarithmic(1 - accuracies[1]) == (accuracies[1] > 0.8)
    page.close()


def test_chance_is_the_share_of_the_most_frequent_class() -> None:
    assert share_of_commonest(np.array([0, 1, 1, 2])) == 0.5
    assert share_of_commonest(np.array([3, 3])) is None  # one class: nothing to compare with
    assert share_of_commonest(np.array([], np.int64)) is None
    assert share_of_commonest(None) is None
