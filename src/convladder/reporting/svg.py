"""Figures of a page, as SVG: their colours, which follow the page's, their axis of accuracies, and the chance line."""

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import matplotlib.ticker
from matplotlib.figure import Figure

# Each colour that figures are drawn with is replaced by a colour of the page, which follows the dark mode. The second
# value is used outside the report, for example in a notebook.
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
    "lines.markeredgewidth": 0,  # a chosen one gets its edge from the page
    "axes.grid": True,
    "axes.axisbelow": True,
}
ERRORS = [factor * 10.0**power for power in range(-5, 0) for factor in (1, 2, 5)]
MOST_TICKS = 8
CHANCE_DASHES = (0, (4, 3))
LOGARITHMIC_BELOW = 0.2  # of the lowest error: above it, a logarithmic axis has hardly a tick and magnifies nothing
BELOW_CHANCE = 14  # points under the chance line, for its name


def page_figure(width: float, height: float, right: float = 0.08) -> tuple[Figure, Any]:
    """A figure with one plot and room for the labels of its axes; lengths in inches."""
    figure = Figure((width, height), dpi=72)  # so that a dot is a point, as in the SVG
    left, below, above = 0.62 / width, 0.5 / height, 0.16 / height
    return figure, figure.add_axes((left, below, 1 - left - right / width, 1 - below - above))


def error_of(accuracy: float, images: int) -> float:
    """The error; at least half an image, because zero has no place on a logarithmic axis."""
    return max(1 - accuracy, 0.5 / images)


def accuracy_axis(axes: Any, label: str = "test accuracy, %", chance: float | None = None) -> None:
    """Make the axis of errors, on which everything is drawn, one of accuracies, and draw the chance line.

    If some error is low, it is logarithmic: 90, 99 and 99.9 % are equally far apart.

    Args:
        axes: The plot.
        label: The axis's name.
        chance: Share of the most frequent class, which is the accuracy of always answering it.
    """
    if chance:
        axes.axhline(1 - chance, color=MUTED, linewidth=1, linestyle=CHANCE_DASHES, zorder=1)
    logarithmic = is_logarithmic(axes.dataLim.ymin)
    axes.set_yscale("log" if logarithmic else "linear")
    axes.margins(y=BELOW_CHANCE / (axes.bbox.height - 2 * BELOW_CHANCE))
    axes.invert_yaxis()
    bottom, top = axes.get_ylim()
    if logarithmic:
        ticks = [error for error in ERRORS if top <= error <= bottom]
        ticks = ticks if len(ticks) <= MOST_TICKS else [error for error in ticks if f"{error:e}"[0] == "1"]
        axes.yaxis.set_major_locator(mpl.ticker.FixedLocator(ticks))
    else:
        axes.yaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_formatter(lambda error, _: f"{100 * (1 - error):.6g}" if 0 <= error <= 1 else "")
    axes.set_ylabel(label)
    if chance:
        name_chance(axes, 1 - chance, chance, below=True)


def is_logarithmic(lowest_error: float) -> bool:
    """Whether the axis of accuracies is logarithmic in the errors."""
    return lowest_error < LOGARITHMIC_BELOW


def name_chance(axes: Any, y: float, chance: float, *, below: bool) -> None:
    """Name the chance line, under its right end or over its left one."""
    place: dict[str, Any] = {"xy": (1 if below else 0, y), "xycoords": axes.get_yaxis_transform()}
    place |= {"xytext": (-2, -3) if below else (3, 3), "textcoords": "offset points"}
    place |= {"ha": "right", "va": "top"} if below else {"ha": "left", "va": "bottom"}
    axes.annotate(in_words(chance), **place, fontsize=8, color=MUTED, gid="class chance")


def in_words(chance: float) -> str:
    """The name of the chance line."""
    return f"chance {100 * chance:.2g} %"


def described(description: str, chance: float | None) -> str:
    """A figure's description, with the chance line if there is one."""
    return (
        f"{description} The dashed line is {in_words(chance)}: always the most frequent class."
        if chance
        else description
    )


def shorten(value: float) -> str:
    """30000 as 30k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def page_svg(figure: Figure, name: str, description: str) -> str:
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
