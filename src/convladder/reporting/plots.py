"""Plots: maps and filters as files, and the figures of a page.

Only modules of this package import matplotlib, and never pyplot, because its backend and open figures belong to the
caller, for example a notebook.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from convladder.markup import printable
from convladder.reporting.labels import Name, height_of, list_names, place_names, width_of
from convladder.reporting.svg import (
    ACCENT,
    CHANCE_DASHES,
    MUTED,
    PAGE_STYLE,
    accuracy_axis,
    described,
    error_of,
    name_chance,
    page_figure,
    page_svg,
    shorten,
)

if TYPE_CHECKING:
    from convladder.evaluating.explaining import Explanation


MOST_TILES = 64  # filters or feature maps in one figure
COLOURS = {"grad-cam": "inferno", "hires-cam": "inferno", "occlusion": "RdBu_r"}


def plot_explanations(
    explanations: "Sequence[tuple[str, Explanation]]", filters: npt.NDArray[np.float32] | None, path: Path
) -> None:
    """Draw one figure with a row per picture: the picture, its maps and feature maps. The first filters are below.

    Args:
        explanations: A title and an explanation for each picture.
        filters: Shape (filters, height, width, channels), or None.
        path: The SVG or PNG file to write.
    """
    columns = 1 + max(len(one.maps) + len(one.feature_maps) for _, one in explanations)
    rows = len(explanations) + (filters is not None)
    figure = Figure(figsize=(2.6 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for cells, (title, explanation) in zip(grid, explanations, strict=False):
        _draw_picture(cells[0], explanation.image)
        cells[0].set_title(printable(title), fontsize=9, parse_math=False)
        for axes, method in zip(cells[1:], explanation.maps, strict=False):
            _draw_map(axes, explanation, method)
            correlation = explanation.sanity.get(method)
            note = "" if correlation is None else f"\nrandom weights: ρ = {correlation:.2f}"
            axes.set_title(f"{method}{note}", fontsize=9)
        for axes, (layer, maps) in zip(
            cells[1 + len(explanation.maps) :], explanation.feature_maps.items(), strict=True
        ):
            _draw_tiles(axes, _as_tiles(maps), "gray")
            axes.set_title(f"feature maps of {layer}", fontsize=9, parse_math=False)
    if filters is not None:
        _draw_tiles(grid[-1, 0], filters, "RdBu_r")
        grid[-1, 0].set_title("filters of the first layer", fontsize=9)
    figure.savefig(path, dpi=100)


def plot_filters(filters: npt.NDArray[np.float32], path: Path) -> None:
    """Draw filters, shape (filters, height, width, channels), as tiles: positive red, negative blue; SVG or PNG."""
    _save(path, lambda axes: _draw_tiles(axes, filters, "RdBu_r"))


def plot_feature_maps(maps: npt.NDArray[np.float32], path: Path) -> None:
    """Draw a layer's output, shape (height, width, channels) or (units,), as tiles; SVG or PNG."""
    _save(path, lambda axes: _draw_tiles(axes, _as_tiles(maps), "gray"))


def plot_map(explanation: "Explanation", method: str, path: Path) -> None:
    """Draw a map over its picture; SVG or PNG."""
    _save(path, lambda axes: _draw_map(axes, explanation, method))


def _save(path: Path, draw: Any) -> None:
    figure = Figure(figsize=(4, 4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw(axes)
    figure.savefig(path, dpi=100)


def _draw_picture(axes: Any, image: npt.NDArray[np.uint8], **settings: Any) -> None:
    axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255, **settings)


def _draw_map(axes: Any, explanation: "Explanation", method: str) -> None:
    """Draw the map's colours over the picture. For occlusion, the answer depends on the red parts."""
    values = explanation.maps[method]
    _draw_picture(axes, explanation.image)
    if method in explanation.flat:  # its colours would show rounding errors
        axes.text(0.5, 0.5, "nothing to see", color="C1", ha="center", va="center", transform=axes.transAxes)
        return
    top = float(np.abs(values).max())
    axes.imshow(values, cmap=COLOURS[method], vmin=-top if method == "occlusion" else 0, vmax=top, alpha=0.6)


def _draw_tiles(axes: Any, tiles: npt.NDArray[np.float32], colours: str) -> None:
    """Draw tiles, shape (count, height, width, channels), side by side: 3 channels as RGB, more as their mean."""
    tiles = tiles[:MOST_TILES]
    top = max(float(np.abs(tiles).max()), 1e-9)
    tiles = np.float32(0.5) * (tiles / np.float32(top) + 1) if tiles.shape[3] == 3 else tiles.mean(3, keepdims=True)
    count, height, width, channels = tiles.shape
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    mosaic = np.full((down * (height + 1) - 1, across * (width + 1) - 1, channels), np.nan, np.float32)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, across)
        mosaic[row * (height + 1) :, column * (width + 1) :][:height, :width] = tile
    axes.set_facecolor("white")
    if channels == 3:
        axes.imshow(np.nan_to_num(mosaic, nan=1.0))
    else:
        low = -top if colours == "RdBu_r" else min(0.0, float(tiles.min()))
        axes.imshow(mosaic[..., 0], cmap=colours, vmin=low, vmax=top)


def _as_tiles(maps: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Feature maps as tiles, shape (count, height, width, 1); units become tiles of one value."""
    maps = maps if maps.ndim == 3 else maps.reshape(1, 1, -1)
    return maps.transpose(2, 0, 1)[..., np.newaxis]


PAGE_COSTS = (
    ("fit_seconds", "seconds of training", 1.0),
    ("parameters", "parameters", 1.0),
    ("latency_seconds", "milliseconds per image", 1000.0),
)
WIDTH, HEIGHT = 4.0, 3.3  # inches, of a plot of costs


def svgs_of_costs(
    rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]], images: int, chance: float | None
) -> list[str]:
    """Accuracy against each known cost of PAGE_COSTS, as `svg_of_cost` draws it."""
    return [
        svg_of_cost(rows, cost, pareto[cost[0]], images, chance)
        for cost in PAGE_COSTS
        if any(row[cost[0]] is not None for row in rows)
    ]


def svg_of_cost(
    rows: Sequence[Mapping[str, Any]],
    cost: tuple[str, str, float],
    front: Sequence[str],
    images: int,
    chance: float | None,
) -> str:
    """Accuracy against a cost, one named point per rung with its 95 % interval, as SVG for a page.

    Args:
        rows: As `Comparison.rows`.
        cost: The key of the cost in a row, its name, and its factor.
        front: The rungs of the Pareto front, which are joined.
        images: Number of test images, because less than half an error cannot be drawn.
        chance: Share of their most frequent class.
    """
    key, title, factor = cost
    known = [(number, row) for number, row in enumerate(rows) if row[key] is not None]
    known.sort(key=lambda one: (one[1]["name"] not in front, -one[1]["test_accuracy"]))
    names = [
        Name(
            row["name"],
            (factor * row[key], error_of(row["test_accuracy"], images)),
            f"class rung rung-{number}{' front' if row['name'] in front else ''}",
        )
        for number, row in known
    ]
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(WIDTH, HEIGHT)
        _draw_costs(axes, known, names, title, images, chance)
        if not place_names(axes, names, MUTED):  # too many, too near or too long
            height = max(HEIGHT, 0.1 + height_of(names) / 72)
            figure, axes = page_figure(WIDTH, height, right=width_of(names) / 72)
            _draw_costs(axes, known, names, title, images, chance)
            list_names(axes, names, MUTED)
        said = (f"{row['name']} {row['test_accuracy']:.2%} for {factor * row[key]:,.3g}" for _, row in known)
        said_all = f"Test accuracy against {title}: {'; '.join(said)}."
        return page_svg(figure, f"cost-{key}", described(said_all, chance))


def _draw_costs(
    axes: Any,
    known: Sequence[tuple[int, Mapping[str, Any]]],
    names: Sequence[Name],
    title: str,
    images: int,
    chance: float | None,
) -> None:
    axes.set_xscale("log")
    joined = sorted(name.point for name in names if name.kind.endswith(" front"))
    axes.plot([x for x, _ in joined], [y for _, y in joined], color=ACCENT, linewidth=1, alpha=0.6)
    for name, (_, row) in zip(names, known, strict=True):
        ends = [error_of(row["high"], images), error_of(row["low"], images)]
        colour = ACCENT if name.kind.endswith(" front") else MUTED
        axes.plot([name.point[0]] * 2, ends, color=colour, linewidth=1.2, gid=name.kind)
        axes.plot(*[[place] for place in name.point], "o", color=colour, markersize=5, gid=name.kind)
    _cost_axis(axes, title, [name.point[0] for name in names])
    accuracy_axis(axes, chance=chance)


def _cost_axis(axes: Any, title: str, costs: Sequence[float]) -> None:
    """A logarithmic axis, with some space on both sides and with ticks even where costs are nearly equal."""
    low, high = min(costs), max(costs)
    space = max(high / low, 2.0) ** 0.15
    low, high = low / space, high * space
    axes.set_xlim(low, high)
    few = mpl.ticker.LogLocator(subs=(1, 3) if high / low < 1000 else (1,))
    axes.xaxis.set_major_locator(few if high / low > 12 else mpl.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: shorten(value))
    axes.set_xlabel(title)


def svg_of_robustness(
    name: str, unit: str, curves: Mapping[int, Sequence[Mapping[str, float]]], chance: float | None
) -> str:
    """Accuracy as the images get harder, one line per rung, as SVG for a page. The chosen rung's line stands out.

    Args:
        name: Name of the change.
        unit: Unit of its severities.
        curves: Points of `severity` and `accuracy`, by index of the rung.
        chance: Share of the most frequent class.
    """
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(2.9, 2.3)
        _draw_chance(axes, chance)
        for number, points in curves.items():
            severities = [point["severity"] for point in points]
            accuracies = [100 * point["accuracy"] for point in points]
            axes.plot(severities, accuracies, color=MUTED, linewidth=1, gid=f"class rung rung-{number}")
        axes.set(ylim=(0, 102), xlabel=f"{name}, {unit}", ylabel="accuracy, %")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:g}")
        description = f"Accuracy against {name}, {unit}; the table below has the numbers."
        return page_svg(figure, f"robustness-{name}", described(description, chance))


def svg_of_reliability(bins: Sequence[Mapping[str, float]], number: int, title: str, chance: float | None) -> str:
    """Reliability diagram: accuracy against predicted probability; larger points hold more images. SVG for a page."""
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = page_figure(3.6, 3.1)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1)
        _draw_chance(axes, chance)
        said, true = ([100 * row[key] for row in bins] for key in ("confidence", "accuracy"))
        axes.plot(said, true, color=ACCENT, linewidth=1)
        most = max(row["images"] for row in bins)
        axes.scatter(said, true, [8 + 60 * math.sqrt(row["images"] / most) for row in bins], color=ACCENT)
        axes.set(xlim=(0, 103), ylim=(0, 103), xlabel="probability, %", ylabel="accuracy, %")
        description = f"{title}: accuracy against predicted probability; the table below has the numbers."
        return page_svg(figure, f"reliability-{number}", described(description, chance))


def _draw_chance(axes: Any, chance: float | None) -> None:
    if chance:
        axes.axhline(100 * chance, color=MUTED, linewidth=1, linestyle=CHANCE_DASHES, zorder=1)
        name_chance(axes, 100 * chance, chance, below=False)
