"""Names beside the points of a plot, placed so that no name covers another name, a point or a line."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties

# Lengths are in points.
FONT = 9.0
LINE = 11.0  # from one line of a name to the next
WIDEST = 22  # characters in a line of a name
SPARE = 1.1  # a browser's font may be wider than the one that is measured, and the chosen name is bold
POINT = 4.0  # around a point
RADII = (5, 8, 12, 17, 24, 32, 42, 54, 68, 84, 102, 124, 150, 180)  # from a point to its name
FAR = 12.0  # from here on, a thin line joins the two
# Nothing is better than the Pareto front, so there is most space above it and to the left.
UP_LEFT = ((-1, 1), (1, 1), (1, -1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1))
RIGHT = ((1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (-1, 0), (0, 1), (0, -1))

Boxes = npt.NDArray[np.float64]  # shape (count, 4): left, bottom, right, top
Place = tuple[float, float]


@dataclass(frozen=True)
class Name:
    """The name of a point.

    Attributes:
        text: Long names are wrapped.
        point: x and y, in the plot's data.
        kind: Class of its element in the SVG.
    """

    text: str
    point: Place
    kind: str

    @property
    def lines(self) -> list[str]:
        """The name as it is drawn."""
        return textwrap.wrap(self.text, WIDEST) or [""]


def space_for(names: Sequence[str]) -> float:
    """The area that names take, in square points."""
    return sum(width * height for width, height in _measure([Name(name, (0, 0), "") for name in names]))


def place_names(axes: Any, names: Sequence[Name], colour: str, ways: Sequence[tuple[int, int]] = UP_LEFT) -> None:
    """Write names into a plot that has everything else, in a figure with 72 dots per inch; the most important first.

    A name for which there is no place is not written. Names cover lines only if there is no other place.

    Args:
        axes: The plot.
        names: Names of points.
        colour: Of the lines that join distant names with their points.
        ways: The directions from a point, the best first.
    """
    axes.autoscale_view()
    written, points, lines = _obstacles(axes)
    left, bottom, _, _ = axes.bbox.extents
    area = (left + 2, bottom + 2, axes.figure.bbox.width - 2, axes.figure.bbox.height - 2)
    for name, size in zip(names, _measure(names), strict=True):
        point = tuple(axes.transData.transform(name.point))
        places = [place for place in _places(point, size, ways) if _within(place[0], area)]
        texts_and_points = np.concatenate([written, points])
        everything = np.concatenate([texts_and_points, lines])
        free = (
            place
            for covered, joined in ((everything, texts_and_points), (texts_and_points, written))
            for place in places
            if not _covers(place[0], covered) and not _joins_over(place[0], point, joined)
        )
        if (found := next(free, None)) is None:
            continue
        box, across = found
        end = _nearest(box, point)
        if _distance(end, point) >= FAR:
            joined = axes.transData.inverted().transform([point, end])
            drawn = {"color": colour, "linewidth": 0.6, "zorder": 1, "clip_on": False, "gid": f"{name.kind} leader"}
            axes.plot(*joined.T, scalex=False, scaley=False, **drawn)
            lines = np.concatenate([lines, _along(np.array([point, end]))])
        written = np.concatenate([written, [box]])
        anchor = (box[2], (box[0] + box[2]) / 2, box[0])[across + 1]
        aligned = {"ha": ("right", "center", "left")[across + 1], "va": "baseline", "fontsize": FONT}
        for number, line in enumerate(name.lines):
            baseline = box[3] - LINE * number - 0.85 * FONT
            at = axes.transAxes.inverted().transform((anchor, baseline))
            axes.text(*at, line, transform=axes.transAxes, **aligned, gid=f"{name.kind} name")


def _measure(names: Sequence[Name]) -> list[tuple[float, float]]:
    """Width and height of each name."""
    renderer, font = _renderer(), FontProperties(size=FONT)

    def width(line: str) -> float:
        return float(renderer.get_text_width_height_descent(line, font, False)[0])

    return [(SPARE * max(map(width, name.lines)), LINE * len(name.lines)) for name in names]


def _renderer() -> Any:
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure(dpi=72)).get_renderer()


def _obstacles(axes: Any) -> tuple[Boxes, Boxes, Boxes]:
    """Texts, points and lines of a plot."""
    renderer = _renderer()
    written = np.array([text.get_window_extent(renderer).extents for text in axes.texts]).reshape(-1, 4)
    points, lines = [np.empty((0, 4))], [np.empty((0, 4))]
    for line in axes.lines:
        corners = line.get_transform().transform(line.get_xydata())
        if line.get_marker() != "None":
            points.append(_around(corners, POINT))
        if line.get_linestyle() != "None":
            lines.append(_along(corners))
    return written, np.concatenate(points), np.concatenate(lines)


def _around(centres: npt.NDArray[np.float64], radius: float) -> Boxes:
    return np.concatenate([centres - radius, centres + radius], axis=1)


def _along(corners: npt.NDArray[np.float64], step: float = 3.0) -> Boxes:
    """Small squares along a line."""
    parts = [corners[:1]]
    for start, end in pairwise(corners):
        count = max(1, int(_distance(start, end) / step))
        parts.append(start + (end - start) * np.linspace(0, 1, count + 1)[1:, np.newaxis])
    return _around(np.concatenate(parts), 0.6)


def _places(
    point: Place, size: tuple[float, float], ways: Sequence[tuple[int, int]]
) -> Iterator[tuple[npt.NDArray[np.float64], int]]:
    """Boxes of a size around a point, the nearest first: −1 to its left, 1 to its right, 0 above or below."""
    width, height = size
    for radius in RADII:
        for across, up in ways:
            left = point[0] + across * radius - (width, width / 2, 0)[across + 1]
            bottom = point[1] + up * radius * (0.6 if across else 1) - (height, height / 2, 0)[up + 1]
            yield np.array([left, bottom, left + width, bottom + height]), across


def _within(box: npt.NDArray[np.float64], area: tuple[float, float, float, float]) -> bool:
    return bool(box[0] >= area[0] and box[1] >= area[1] and box[2] <= area[2] and box[3] <= area[3])


def _covers(box: npt.NDArray[np.float64], others: Boxes) -> bool:
    across = (box[0] < others[:, 2]) & (others[:, 0] < box[2])
    return bool((across & (box[1] < others[:, 3]) & (others[:, 1] < box[3])).any())


def _joins_over(box: npt.NDArray[np.float64], point: Place, others: Boxes) -> bool:
    """Whether the line that would join a box with its point runs over others."""
    end = _nearest(box, point)
    if _distance(end, point) < FAR:
        return False
    return any(_covers(part, others) for part in _along(np.array([point, end]))[3:])  # it begins at its own point


def _nearest(box: npt.NDArray[np.float64], point: Place) -> Place:
    """The place of a box that is nearest to a point."""
    return float(np.clip(point[0], box[0], box[2])), float(np.clip(point[1], box[1], box[3]))


def _distance(one: Any, other: Any) -> float:
    return float(np.hypot(one[0] - other[0], one[1] - other[1]))
