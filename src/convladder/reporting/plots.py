"""Plots: the only module that imports matplotlib.

It never uses pyplot, because pyplot's backend and open figures belong to the caller, for example a notebook.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from convladder.markup import printable

if TYPE_CHECKING:
    from convladder.evaluating.explaining import Explanation
    from convladder.training.learning_curve import LearningCurve


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


# Figures in a page. Each colour that they are drawn with is replaced by a colour of the page, which follows the dark
# mode. The second value is used outside the report, for example in a notebook.
INK, MUTED, ACCENT, PALE = "#010101", "#020202", "#030303", "#040404"
PAGE_COLOURS = {
    INK: "var(--ink, currentColor)",
    MUTED: "var(--muted, gray)",
    ACCENT: "var(--accent, royalblue)",
    PALE: "var(--pale, silver)",
}
PAGE_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "convladder",
    "text.parse_math": False,  # a name can contain a dollar sign
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
}
ERRORS = [factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)]


PAGE_COSTS = (
    ("fit_seconds", "seconds of training", 1.0),
    ("parameters", "parameters", 1.0),
    ("latency_seconds", "milliseconds per image", 1000.0),
)


def svgs_of_costs(rows: Sequence[Mapping[str, Any]], pareto: Mapping[str, Sequence[str]], images: int) -> list[str]:
    """Accuracy against each known cost of PAGE_COSTS, as `svg_of_cost` draws it."""
    return [
        svg_of_cost(rows, cost, pareto[cost[0]], images)
        for cost in PAGE_COSTS
        if any(row[cost[0]] is not None for row in rows)
    ]


def svg_of_cost(
    rows: Sequence[Mapping[str, Any]], cost: tuple[str, str, float], front: Sequence[str], images: int
) -> str:
    """Accuracy against a cost, one point per rung with its 95 % interval, as SVG for a page.

    Args:
        rows: As `Comparison.rows`.
        cost: The key of the cost in a row, its name, and its factor.
        front: The rungs of the Pareto front. They are joined and named; others are named when they are chosen.
        images: Number of test images, because less than half an error cannot be drawn.
    """
    key, title, factor = cost
    known = [(number, row) for number, row in enumerate(rows) if row[key] is not None]
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = _page_figure(3.6, 2.9)
        axes.set_xscale("log")
        of_front = [row for _, row in known if row["name"] in front]
        of_front.sort(key=lambda row: float(row[key]))
        axes.plot(
            [factor * row[key] for row in of_front],
            [_error(row["test_accuracy"], images) for row in of_front],
            color=ACCENT,
            linewidth=1,
            alpha=0.6,
        )
        for number, row in known:
            x, y = factor * row[key], _error(row["test_accuracy"], images)
            ends = [_error(row["high"], images), _error(row["low"], images)]
            colour, kind = (ACCENT, " front") if row["name"] in front else (MUTED, "")
            rung = f"class rung rung-{number}{kind}"
            axes.plot([x, x], ends, color=colour, linewidth=1.2, gid=rung)
            axes.plot([x], [y], "o", color=colour, markersize=5, gid=rung)
            # Nothing is better than the front, so there is space above it and to the left.
            place: dict[str, Any] = {"xytext": (-5, 4), "textcoords": "offset points", "ha": "right"}
            axes.annotate(row["name"], (x, y), **place, fontsize=9, gid=f"{rung} name")
        _accuracy_axis(axes)
        axes.margins(x=0.12)
        low, high = axes.get_xlim()
        axes.set_xlim(low / (high / low) ** 0.18, high)  # space for the first name
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 3) if high / low < 1000 else (1,)))
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        axes.set_xlabel(title)
        said = (f"{row['name']} {row['test_accuracy']:.2%} for {factor * row[key]:,.3g}" for _, row in known)
        return _page_svg(figure, f"cost-{key}", f"Test accuracy against {title}: {'; '.join(said)}.")


def svg_of_learning(curves: Sequence[Sequence[Sequence[float]]], number: int, title: str, images: int) -> str:
    """Learning curve of one rung: the mean over its seeds and the band that they span. Other rungs are pale.

    Args:
        curves: Accuracy after each epoch, by rung and seed.
        number: Index of the rung.
        title: Its name.
        images: Number of images that the accuracies were measured on.
    """
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = _page_figure(2.3, 1.9)
        for other, seeds in enumerate(curves):
            if other != number and seeds:
                mean = _mean_errors(seeds, images)
                axes.plot(range(1, len(mean) + 1), mean, color=PALE, linewidth=1)
        mean = _mean_errors(curves[number], images)
        epochs = range(1, len(mean) + 1)
        errors = [[_error(one[epoch - 1], images) for one in curves[number]] for epoch in epochs]
        best, worst = [min(one) for one in errors], [max(one) for one in errors]
        axes.fill_between(epochs, best, worst, color=ACCENT, alpha=0.25, linewidth=0)
        axes.plot(epochs, mean, color=ACCENT, linewidth=1.6)
        axes.plot([len(mean)] * 2, [best[-1], worst[-1]], color=ACCENT, linewidth=1.2)
        axes.plot([len(mean)], mean[-1:], "o", color=ACCENT, markersize=4)
        _accuracy_axis(axes, "")
        axes.set_xlabel("epoch")
        axes.set_title(title, fontsize=10, loc="left")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4, integer=True, min_n_ticks=1))
        said = ", ".join(f"{100 * (1 - error):.2f}" for error in mean)
        return _page_svg(figure, f"learning-{number}", f"{title}: mean accuracy after each epoch, in percent: {said}.")


def svg_of_robustness(name: str, unit: str, curves: Mapping[int, Sequence[Mapping[str, float]]]) -> str:
    """Accuracy as the images get harder, one line per rung, as SVG for a page. The chosen rung's line stands out.

    Args:
        name: Name of the change.
        unit: Unit of its severities.
        curves: Points of `severity` and `accuracy`, by index of the rung.
    """
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = _page_figure(2.9, 2.3)
        for number, points in curves.items():
            severities = [point["severity"] for point in points]
            accuracies = [100 * point["accuracy"] for point in points]
            axes.plot(severities, accuracies, color=MUTED, linewidth=1, gid=f"class rung rung-{number}")
        axes.set(ylim=(0, 102), xlabel=f"{name}, {unit}", ylabel="accuracy, %")
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
        axes.xaxis.set_major_formatter("{x:g}")
        description = f"Accuracy against {name}, {unit}; the table below has the numbers."
        return _page_svg(figure, f"robustness-{name}", description)


def svg_of_reliability(bins: Sequence[Mapping[str, float]], number: int, title: str) -> str:
    """Reliability diagram: accuracy against predicted probability; larger points hold more images. SVG for a page."""
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = _page_figure(3.6, 3.1)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--")
        said, true = ([100 * row[key] for row in bins] for key in ("confidence", "accuracy"))
        axes.plot(said, true, color=ACCENT, linewidth=1)
        most = max(row["images"] for row in bins)
        axes.scatter(said, true, [8 + 60 * math.sqrt(row["images"] / most) for row in bins], color=ACCENT)
        axes.set(xlim=(0, 103), ylim=(0, 103), xlabel="probability, %", ylabel="accuracy, %")
        description = f"{title}: accuracy against predicted probability; the table below has the numbers."
        return _page_svg(figure, f"reliability-{number}", description)


def overlay(image: npt.NDArray[np.uint8], values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """An occlusion map over its picture, shape (height, width, 3). The answer depends on the red parts."""
    top = max(float(np.abs(values).max()), 1e-9)
    colours = mpl.colormaps[COLOURS["occlusion"]](values / (2 * top) + 0.5)[..., :3]
    return np.asarray(np.rint(0.4 * np.broadcast_to(image, colours.shape) + 0.6 * 255 * colours), np.uint8)


def _page_figure(width: float, height: float) -> tuple[Figure, Any]:
    """A figure with one plot and room for the labels of its axes."""
    figure = Figure((width, height))
    left, below, above = 0.62 / width, 0.5 / height, 0.28 / height
    return figure, figure.add_axes((left, below, 1 - left - 0.08 / width, 1 - below - above))


def svg_of_learning_curve(curve: "LearningCurve") -> str:
    """Accuracy against pictures per class with 95 % intervals; dashed, the expected accuracy with twice as many."""
    with mpl.rc_context(PAGE_STYLE):
        figure, axes = _page_figure(4.2, 2.9)
        axes.set_xscale("log")
        at = [point.pictures_a_class for point in curve.points]
        errors = [_error(point.accuracy, curve.tested) for point in curve.points]
        for x, point in zip(at, curve.points, strict=True):
            ends = [_error(point.low, curve.tested), _error(point.high, curve.tested)]
            axes.plot([x, x], ends, color=ACCENT, linewidth=1.2)
        axes.plot(at, errors, "o-", color=ACCENT, linewidth=1.4, markersize=4)
        said = [f"{point.accuracy:.3f} with {point.pictures_a_class:.0f}" for point in curve.points]
        if curve.doubling:
            twice = curve.doubling
            expected = _error(twice.accuracy, curve.tested)
            ends = [expected + twice.gain - gain for gain in (twice.low, twice.high)]
            axes.plot([at[-1], twice.pictures_a_class], [errors[-1], expected], "--", color=MUTED, linewidth=1.2)
            axes.plot([twice.pictures_a_class] * 2, ends, color=MUTED, linewidth=1.2)
            axes.plot([twice.pictures_a_class], [expected], "o", color=MUTED, markersize=4)
            said.append(f"expected {twice.accuracy:.3f} with {twice.pictures_a_class:.0f}")
        _accuracy_axis(axes, "accuracy, %")
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.xaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: _short(value))
        axes.set_xlabel("pictures per class")
        return _page_svg(figure, "more-pictures", f"Accuracy against pictures per class: {'; '.join(said)}.")


def _error(accuracy: float, images: int) -> float:
    return max(1 - accuracy, 0.5 / images)


def _short(value: float) -> str:
    """30000 as 30k."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _mean_errors(seeds: Sequence[Sequence[float]], images: int) -> list[float]:
    """The mean error after each epoch that all seeds have."""
    shared = min(len(one) for one in seeds)
    return [float(np.mean([_error(one[epoch], images) for one in seeds])) for epoch in range(shared)]


def _accuracy_axis(axes: Any, label: str = "test accuracy, %") -> None:
    """A logarithmic axis of errors, labelled as accuracy: 90, 99 and 99.9 % are equally far apart."""
    axes.set_yscale("log")
    axes.margins(y=0.1)
    axes.invert_yaxis()
    axes.yaxis.set_major_locator(mpl.ticker.FixedLocator(ERRORS))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_formatter(lambda error, _: f"{100 * (1 - error):g}")
    axes.set_ylabel(label)


def _page_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element of a page: with unique ids, and the page's colours and font."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    for _, (prefix, address) in ElementTree.iterparse(io.StringIO(text), events=["start-ns"]):
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(text)
    referred = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        for child in list(element):
            child.tail = None
            if child.tag.endswith(("}metadata", "}style")):
                element.remove(child)
        if not element.tag.endswith("}text"):
            element.text = None
        identity = element.attrib.pop("id", "")
        if identity.startswith("class "):
            element.set("class", identity.removeprefix("class "))
        elif identity in referred:
            element.set("id", f"{name}-{identity}")
        for key, value in element.items():
            if key == "clip-path" or key.endswith("}href"):
                element.set(key, value.replace("#", f"#{name}-"))
            elif key == "style":
                own = re.sub(r"font-family: [^;]*; ", "", value)
                for drawn, shown in PAGE_COLOURS.items():
                    own = own.replace(drawn, shown)
                element.set(key, own)
    del root.attrib["width"], root.attrib["height"]
    root.set("role", "img")
    root.set("aria-label", description)
    return ElementTree.tostring(root, encoding="unicode")
