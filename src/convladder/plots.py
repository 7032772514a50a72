"""Plots: the only module that imports matplotlib."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from convladder.benchmarking import Training
    from convladder.explaining import Explanation

mpl.use("svg")
from matplotlib import pyplot as plt


def plot_time_to_accuracy(trainings: "Sequence[Training]", path: Path) -> None:
    """Draw test error against seconds of training, both logarithmic, a line or a point a training; SVG or PNG."""
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    names = list(dict.fromkeys(training.name for training in trainings))
    for training in trainings:
        axes.plot(
            training.seconds,
            [100 * (1 - accuracy) for accuracy in training.accuracies],
            color=f"C{names.index(training.name)}",
            marker="o" if len(training.seconds) == 1 else None,
            linewidth=1.2,
            label=training.name if training.seed == 0 else None,
        )
    axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="test error, %")
    axes.set_title("MNIST: test error against seconds of training on this machine")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path)
    plt.close(figure)


MOST_TILES = 64  # of filters or feature maps, in one picture
COLOURS = {"grad-cam": "inferno", "hires-cam": "inferno", "occlusion": "RdBu_r"}


def plot_explanations(
    explanations: "Sequence[tuple[str, Explanation]]", filters: npt.NDArray[np.float32] | None, path: Path
) -> None:
    """Draw one figure, a row a picture: the picture, its maps and feature maps; the first filters below; SVG or PNG.

    Args:
        explanations: A title and what was seen, of each picture.
        filters: Shape (filters, height, width, channels), or none.
        path: The file to write.
    """
    columns = 1 + max(len(one.maps) + len(one.feature_maps) for _, one in explanations)
    rows = len(explanations) + (filters is not None)
    figure, grid = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.8 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for cells, (title, explanation) in zip(grid, explanations, strict=False):
        _draw_picture(cells[0], explanation.image)
        cells[0].set_title(title, fontsize=9)
        for axes, method in zip(cells[1:], explanation.maps, strict=False):
            _draw_map(axes, explanation, method)
            correlation = explanation.sanity.get(method)
            note = "" if correlation is None else f"\nrandom weights: ρ = {correlation:.2f}"
            axes.set_title(f"{method}{note}", fontsize=9)
        for axes, (layer, maps) in zip(
            cells[1 + len(explanation.maps) :], explanation.feature_maps.items(), strict=True
        ):
            _draw_tiles(axes, _as_tiles(maps), "gray")
            axes.set_title(f"feature maps of {layer}", fontsize=9)
    if filters is not None:
        _draw_tiles(grid[-1, 0], filters, "RdBu_r")
        grid[-1, 0].set_title("filters of the first layer", fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def plot_filters(filters: npt.NDArray[np.float32], path: Path) -> None:
    """Draw filters, shape (filters, height, width, channels), in a mosaic: red above zero, blue below; SVG or PNG."""
    _save(path, lambda axes: _draw_tiles(axes, filters, "RdBu_r"))


def plot_feature_maps(maps: npt.NDArray[np.float32], path: Path) -> None:
    """Draw what a layer gives out, shape (height, width, channels) or (units,), in a mosaic; SVG or PNG."""
    _save(path, lambda axes: _draw_tiles(axes, _as_tiles(maps), "gray"))


def plot_map(explanation: "Explanation", method: str, path: Path) -> None:
    """Draw a map over its picture; SVG or PNG."""
    _save(path, lambda axes: _draw_map(axes, explanation, method))


def _save(path: Path, draw: Any) -> None:
    figure = plt.figure(figsize=(4, 4))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    draw(axes)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _draw_picture(axes: Any, image: npt.NDArray[np.uint8], **settings: Any) -> None:
    axes.imshow(image[..., 0] if image.shape[2] == 1 else image, cmap="gray", vmin=0, vmax=255, **settings)


def _draw_map(axes: Any, explanation: "Explanation", method: str) -> None:
    """The map's colours over the picture, which stays visible; of occlusion, red is what the answer hangs on."""
    values = explanation.maps[method]
    top = max(float(np.abs(values).max()), 1e-9)
    _draw_picture(axes, explanation.image)
    axes.imshow(values, cmap=COLOURS[method], vmin=-top if method == "occlusion" else 0, vmax=top, alpha=0.6)


def _draw_tiles(axes: Any, tiles: npt.NDArray[np.float32], colours: str) -> None:
    """Tiles of shape (count, height, width, channels) side by side; three channels as colours, of more the mean."""
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
    """Feature maps as tiles, shape (count, height, width, 1); units as tiles of one value."""
    maps = maps if maps.ndim == 3 else maps.reshape(1, 1, -1)
    return maps.transpose(2, 0, 1)[..., np.newaxis]
