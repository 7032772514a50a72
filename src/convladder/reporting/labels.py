"""Names beside the points of a plot, placed so that no name covers another name, a point or a line."""

import math
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
WIDEST = 16  # characters in a line of a name
SPARE = 1.1  # a browser's font may be wider than the one that is measured, and the chosen name is bold
POINT = 4.0  # around a point
RADII = (5, 8, 12, 17, 24, 32, 42, 54, 68, 84, 102, 124, 150, 180)  # from a point to its name
GAP = 1.0  # between names in a column
JOINED = 18.0  # from a plot to a column of names
FAR = 12.0  # from here on, a thin line joins the two
STRAIGHT = 0.2  # of the cosine of a direction: below it, a name is centred
# Nothing is better than the Pareto front, so there is most space above it and to the left.
UP_LEFT = (150, 30, 330, 210, 0, 180, 90, 270)  # directions of a name from its point, the best first, in degrees
RIGHT = (0, 30, 330, 150, 210, 180, 90, 270)
OTHER_WAYS = (15, 45, 60, 75, 105, 120, 135, 165, 195, 225, 240, 255, 285, 300, 315, 345)

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


def height_of(names: Sequence[Name]) -> float:
    """The height of a column of names."""
    return sum(height + GAP for _, height in _measure(names))


def width_of(names: Sequence[Name]) -> float:
    """The width of a column of names, with the lines that join them with their points."""
    return JOINED + max(width for width, _ in _measure(names))


def place_names(axes: Any, names: Sequence[Name], colour: str, ways: Sequence[int] = UP_LEFT) -> bool:
    """Write names beside their points, in a plot that has everything else; if one has no place, write none.

    Names cover lines only if there is no other place.

    Args:
        axes: The plot, in a figure with 72 dots per inch.
        names: Names of points, the most important first.
        colour: Of the lines that join distant names with their points.
        ways: The directions from a point, the best first.

    Returns:
        Whether they are written.
    """
    axes.autoscale_view()
    written, points, lines = _obstacles(axes)
    left, bottom, _, _ = axes.bbox.extents
    area = (left + 2, bottom + 2, axes.figure.bbox.width - 2, axes.figure.bbox.height - 2)
    chosen = []
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
            return False
        chosen.append((name, *found))
        written = np.concatenate([written, [found[0]]])
        lines = np.concatenate([lines, _along(np.array([point, _nearest(found[0], point)]))])
    for name, box, across in chosen:
        _write(axes, name, box, across, colour)
    return True


def list_names(axes: Any, names: Sequence[Name], colour: str) -> None:
    """Write names in a column on the right of a plot, in the order of their points from top to bottom."""
    axes.autoscale_view()
    left = axes.bbox.x1 + JOINED
    at = {name: tuple(axes.transData.transform(name.point)) for name in names}
    ordered = sorted(zip(names, _measure(names), strict=True), key=lambda one: (-at[one[0]][1], at[one[0]][0]))
    middle, height = float(np.mean([y for _, y in at.values()])), height_of(names)
    top = min(max(middle + height / 2, height), axes.figure.bbox.height - 1)
    for name, size in ordered:
        _write(axes, name, np.array([left, top - size[1], left + size[0], top]), 1, colour)
        top -= size[1] + GAP


def _write(axes: Any, name: Name, box: npt.NDArray[np.float64], across: int, colour: str) -> None:
    """Write a name into a box: aligned to the right if it is left of its point, −1, or else centred, 0, or left, 1."""
    point = tuple(axes.transData.transform(name.point))
    end = _nearest(box, point)
    if _distance(end, point) >= FAR:
        joined = axes.transData.inverted().transform([point, end])
        drawn = {"color": colour, "linewidth": 0.6, "zorder": 1, "clip_on": False, "gid": f"{name.kind} leader"}
        axes.plot(*joined.T, scalex=False, scaley=False, **drawn)
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

    canvas: Any = FigureCanvasAgg(Figure(dpi=72))
    return canvas.get_renderer()


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
    point: Place, size: tuple[float, float], ways: Sequence[int]
) -> Iterator[tuple[npt.NDArray[np.float64], int]]:
    """Boxes of a size around a point, the nearest first: −1 to its left, 1 to its right, 0 above or below."""
    width, height = size
    for radius in RADII:
        for angle in (*ways, *OTHER_WAYS):
            right, above = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            across, up = ((value > STRAIGHT) - (value < -STRAIGHT) for value in (right, above))
            left = point[0] + radius * right - (width, width / 2, 0)[across + 1]
            bottom = point[1] + radius * above - (height, height / 2, 0)[up + 1]
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
