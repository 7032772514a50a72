"""Curves of a page, as SVG: accuracy after each epoch, and with few and many pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np

from convladder.reporting.labels import RIGHT, Name, list_names, place_names
from convladder.reporting.svg import (
    ACCENT,
    MUTED,
    PAGE_STYLE,
    PALE,
    accuracy_axis,
    described,
    error_of,
    page_figure,
    page_svg,
    shorten,
)

if TYPE_CHECKING:
    from convladder.training.learning_curve import LearningCurve

MARKED = 10  # epochs: up to so many, each has a marker; more become a thin line
HIGHLIGHTED = 6  # curves, at most, that a plot of all names; the others are pale
UNLIKE = 4  # times the shortest curve: from here on, the axis of epochs is logarithmic

Curves = Sequence[Sequence[Sequence[float]]]  # accuracy after each epoch, by rung and seed


def svg_of_learning(curves: Curves, number: int, title: str, images: int, chance: float | None) -> str:
    """Learning curve of one rung: the mean over its seeds and the band that they span. Other rungs are pale.

    Args:
        curves: Accuracy after each epoch, by rung and seed.
        number: Index of the rung.
        title: Its name.
        images: Number of images that the accuracies were measured on.
        chance: Share of their most frequent class.
    """
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(2.6, 1.9, right=0.42)
        for other, seeds in enumerate(curves):
            if other != number and seeds:
                _draw_curve(axes, _mean_errors(seeds, images), PALE, 1)
        mean = _mean_errors(curves[number], images)
        epochs = range(1, len(mean) + 1)
        errors = [[error_of(one[epoch - 1], images) for one in curves[number]] for epoch in epochs]
        best, worst = [min(one) for one in errors], [max(one) for one in errors]
        axes.fill_between(epochs, best, worst, color=ACCENT, alpha=0.25, linewidth=0)
        _draw_curve(axes, mean, ACCENT, 1.6)
        axes.plot([len(mean)] * 2, [best[-1], worst[-1]], color=ACCENT, linewidth=1.2)
        _epoch_axis(axes, [len(seeds[0]) for seeds in curves if seeds])
        accuracy_axis(axes, "", chance)
        reached = f"{100 * (1 - mean[-1]):.3g}" if mean[-1] > 0.001 else f"{100 * (1 - mean[-1]):.4g}"
        place: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
        axes.annotate(reached, (1, mean[-1]), xycoords=axes.get_yaxis_transform(), **place, fontsize=9, color=ACCENT)
        said = ", ".join(f"{100 * (1 - error):.2f}" for error in mean)
        said = f"{title}: mean accuracy after each epoch, in percent: {said}."
        return page_svg(figure, f"learning-{number}", described(said, chance))


def svg_of_all_learning(curves: Curves, names: Sequence[str], first: int, images: int, chance: float | None) -> str:
    """The mean learning curves of all rungs in one plot. At most six are named: the first, and the most accurate.

    Args:
        curves: Accuracy after each epoch, by rung and seed.
        names: The rungs.
        first: Index of the rung that is always named.
        images: Number of images that the accuracies were measured on.
        chance: Share of their most frequent class.
    """
    means = {number: _mean_errors(seeds, images) for number, seeds in enumerate(curves) if seeds}
    ranked = sorted(means, key=lambda number: (number != first, means[number][-1]))
    named = ranked[:HIGHLIGHTED]
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(4.4, 3.4, right=1.4)
        for number in reversed(ranked):
            rung = f"class rung rung-{number}"
            _draw_curve(axes, means[number], MUTED if number in named else PALE, 1.1, rung)
        _epoch_axis(axes, [len(mean) for mean in means.values()])
        accuracy_axis(axes, "accuracy, %", chance)
        labels = [Name(names[n], (len(means[n]), means[n][-1]), f"class rung rung-{n}") for n in named]
        if not place_names(axes, labels, MUTED, RIGHT):
            list_names(axes, labels, MUTED)
        said = "; ".join(f"{names[number]} {1 - means[number][-1]:.2%} after {len(means[number])}" for number in ranked)
        return page_svg(figure, "learning", described(f"Accuracy after the epochs of each rung: {said}.", chance))


def svg_of_learning_curve(curve: "LearningCurve") -> str:
    """Accuracy against pictures per class with 95 % intervals; dashed, the expected accuracy with twice as many."""
    chance = curve.commonest or None
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(4.2, 2.9)
        axes.set_xscale("log")
        at = [point.pictures_a_class for point in curve.points]
        errors = [error_of(point.accuracy, curve.tested) for point in curve.points]
        for x, point in zip(at, curve.points, strict=True):
            ends = [error_of(point.low, curve.tested), error_of(point.high, curve.tested)]
            axes.plot([x, x], ends, color=ACCENT, linewidth=1.2)
        axes.plot(at, errors, "o-", color=ACCENT, linewidth=1.4, markersize=4)
        said = [f"{point.accuracy:.3f} with {point.pictures_a_class:.0f}" for point in curve.points]
        if curve.doubling:
            twice = curve.doubling
            expected = error_of(twice.accuracy, curve.tested)
            ends = [expected + twice.gain - gain for gain in (twice.low, twice.high)]
            axes.plot([at[-1], twice.pictures_a_class], [errors[-1], expected], ":", color=MUTED, linewidth=1.4)
            axes.plot([twice.pictures_a_class] * 2, ends, color=MUTED, linewidth=1.2)
            axes.plot([twice.pictures_a_class], [expected], "o", color=MUTED, markersize=4)
            said.append(f"expected {twice.accuracy:.3f} with {twice.pictures_a_class:.0f}")
        accuracy_axis(axes, "accuracy, %", chance)
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: shorten(value))
        axes.set_xlabel("pictures per class")
        return page_svg(
            figure, "more-pictures", described(f"Accuracy against pictures per class: {'; '.join(said)}.", chance)
        )


def _draw_curve(axes: Any, errors: Sequence[float], colour: str, width: float, kind: str | None = None) -> None:
    """One curve: with a marker for each of a few epochs; of many, a thin line that ends in a marker."""
    epochs, few = range(1, len(errors) + 1), len(errors) <= MARKED
    axes.plot(epochs, errors, color=colour, linewidth=width if few else 0.75 * width, gid=kind)
    marked = slice(None) if few else slice(-1, None)
    axes.plot(epochs[marked], errors[marked], "o", color=colour, markersize=1.5 + 1.5 * width, gid=kind)


def _epoch_axis(axes: Any, epochs: Sequence[int]) -> None:
    """An axis of epochs: logarithmic if curves are of very different lengths, so that the short ones can be read."""
    axes.set_xlabel("epoch")
    if max(epochs) < UNLIKE * min(epochs):
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def _mean_errors(seeds: Sequence[Sequence[float]], images: int) -> list[float]:
    """The mean error after each epoch that all seeds have."""
    shared = min(len(one) for one in seeds)
    return [float(np.mean([error_of(one[epoch], images) for one in seeds])) for epoch in range(shared)]
