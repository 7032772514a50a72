"""Draw the tutorial's pictures: docs/tutorial/*.svg, from the committed measurements, MNIST and plain arithmetic.

python docs/pictures.py    # seconds; `make pictures` writes the notebook too

Each picture carries the colours of a dark page beside those of a light one, and its own background.
"""

import base64
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

import convladder as cl

DOCS = Path(__file__).parent
FOLDER = DOCS / "tutorial"
MEASURED = {path.stem: path for path in (DOCS / "benchmarks").glob("*.json")}
LESSON = DOCS.parent / "src/convladder/serving/web/learn"

INK, PAPER, MUTED, GRID = "#1b1f24", "#fefefe", "#59626e", "#d3d8df"
SERIES = ("#0b62c4", "#b45309", "#157a4a", "#b3175c", "#6741c9")
ABOVE, BELOW, ZERO = "#cfe3fb", "#fbdcc0", "#f1f3f6"
DARK = {
    INK: "#e6e9ee",
    PAPER: "#16181d",
    MUTED: "#a3acb8",
    GRID: "#3c434d",
    **dict(zip(SERIES, ("#6db3ff", "#ffb454", "#5ed39b", "#ff7fb6", "#b79cff"), strict=True)),
    ABOVE: "#1b4474",
    BELOW: "#6a3c10",
    ZERO: "#23272e",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "convladder",
    "font.family": "sans-serif",
    "font.size": 10,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor"), INK),
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=SERIES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 9,
}

PICTURE = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]])
KERNEL = np.array([[-1, 0, 1]] * 3)
TO_POOL = np.array([[1, 3, 0, 0], [2, 4, 0, 1], [0, 0, 5, 6], [1, 0, 7, 8]])
LOGITS = np.array([2.0, 1.0, 0.0])
Floats = npt.NDArray[np.float64]


def read(name: str) -> Any:
    """A file of docs/benchmarks, or of the lesson."""
    path = MEASURED.get(name, LESSON / f"{name}.json")
    return json.loads(path.read_text(encoding="utf-8"))


def convolve(picture: npt.NDArray[Any], kernel: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As a layer does it, without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, kernel.shape)
    return np.asarray(np.einsum("yxij,ij->yx", windows, kernel))


def pool(picture: npt.NDArray[Any], keep: Callable[..., Any]) -> npt.NDArray[Any]:
    """Windows of 2×2."""
    height, width = picture.shape
    return np.asarray(keep(picture.reshape(height // 2, 2, width // 2, 2), axis=(1, 3)))


def digit() -> npt.NDArray[np.uint8]:
    """The first test image, a seven."""
    return cl.load_dataset("mnist").test.images[0, :, :, 0]


def learnt_kernels() -> Floats:
    """The first layer of the lesson's convolutional network, shape (3, 3, 16)."""
    layer = next(layer for layer in read("networks")[1]["layers"] if layer["kind"] == "convolution")
    weights = np.frombuffer(base64.b64decode(layer["weights"]), np.int8).reshape(layer["shape"])
    return np.asarray(layer["scale"] * weights[:, :, 0], np.float64)


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """A figure of one drawing, whose unit is a cell: x to the right, y down."""
    figure = Figure((0.42 * width, 0.42 * height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def cells(
    axes: Any, values: npt.NDArray[Any], left: float, top: float, title: str, frame: Sequence[int] | None = None
) -> None:
    """A map as a table of numbers; `frame` is the first and the last row and column to be framed."""
    axes.text(left, top - 0.4, title, va="bottom")
    for (row, column), value in np.ndenumerate(values):
        tint = ABOVE if value > 0 else BELOW if value < 0 else ZERO
        axes.add_patch(Rectangle((left + column, top + row), 1, 1, facecolor=tint, edgecolor=GRID))
        axes.text(left + column + 0.5, top + row + 0.5, f"{value:g}".replace("-", "−"), ha="center", va="center")
    if frame:
        first_row, last_row, first, last = frame
        corner = (left + first, top + first_row)
        size = (last - first + 1, last_row - first_row + 1)
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=SERIES[3], linewidth=2.5))


def show(axes: Any, picture: npt.NDArray[Any], title: str, *, signed: bool = False) -> None:
    """A picture in grays, or a map with values above zero red and below zero blue."""
    top = float(np.abs(picture).max())
    if signed:
        axes.imshow(picture, cmap="RdBu_r", vmin=-top, vmax=top)
    else:
        axes.imshow(picture, cmap="gray", vmin=0, vmax=top)
    axes.set_title(title)
    axes.set_axis_off()


def plot(axes: Any, lines: Mapping[str, Sequence[float]], title: str, **settings: Any) -> None:
    """Curves against the epoch."""
    for number, (name, values) in enumerate(lines.items()):
        style = {"color": SERIES[number % len(SERIES)], "linewidth": 1.6} | settings
        axes.plot(range(1, len(values) + 1), values, label=name, **style)
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))


def pair(experiment: Mapping[str, Mapping[str, Sequence[float]]], names: Mapping[str, str]) -> Figure:
    """Training loss and validation accuracy of some networks."""
    figure = Figure((9.5, 3), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    plot(loss, {name: experiment[key]["loss"] for key, name in names.items()}, "training loss")
    plot(accuracy, {name: experiment[key]["val_accuracy"] for key, name in names.items()}, "validation accuracy")
    loss.set_ylim(0, 3.2)
    accuracy.set_ylim(0, 1)
    figure.legend(*loss.get_legend_handles_labels(), loc="outside right center")
    return figure


def draw_digit() -> Figure:
    """A digit, and the numbers that it is."""
    picture, (top, left, side) = digit(), (6, 11, 10)
    figure = Figure((8, 3.6), layout="constrained")
    whole, part = figure.subplots(1, 2)
    show(whole, picture, "28×28 pixels")
    show(part, picture[top : top + side, left : left + side], "the framed part, as numbers")
    corner = (left - 0.5, top - 0.5)
    whole.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=SERIES[3], linewidth=2))
    for (row, column), value in np.ndenumerate(picture[top : top + side, left : left + side]):
        shade = "black" if value > 140 else "white"
        part.text(column, row, str(value), color=shade, ha="center", va="center", fontsize=8)
    return figure


def draw_worked() -> Figure:
    """A convolution at its first place: picture, kernel, products, sum."""
    output, products = convolve(PICTURE, KERNEL), PICTURE[:3, :3] * KERNEL
    figure, axes = canvas(20, 7)
    cells(axes, PICTURE, 0.5, 1.5, "picture", (0, 2, 0, 2))
    cells(axes, KERNEL, 7, 2.5, "kernel")
    cells(axes, products, 11.5, 2.5, "products")
    cells(axes, output, 16, 2.5, "output", (0, 0, 0, 0))
    for x, sign in ((6.25, "×"), (10.75, "="), (15.25, "→")):
        axes.text(x, 4, sign, ha="center", va="center", fontsize=14)
    terms = " + ".join(f"({value})" if value < 0 else str(value) for value in products.flat).replace("-", "−")
    axes.text(19, 6.4, f"sum of the products: {terms} = {products.sum()}", ha="right", va="center")
    return figure


def draw_kernels() -> Figure:
    """What three kernels by hand and three learnt ones make of a digit."""
    learnt = learnt_kernels()
    picture = digit() / 255
    liveliest = sorted(range(learnt.shape[2]), key=lambda one: -float(convolve(picture, learnt[..., one]).var()))[:3]
    kernels = {
        "vertical edges": KERNEL,
        "horizontal edges": KERNEL.T,
        "blur": np.full((3, 3), 1 / 9),
        **{f"learnt, {number}": learnt[..., one] for number, one in enumerate(liveliest, 1)},
    }
    figure = Figure((9, 3), layout="constrained")
    above, below = figure.subplots(2, 1 + len(kernels), height_ratios=(1, 2))
    show(below[0], picture, "the digit")
    above[0].set_axis_off()
    for small, large, (name, kernel) in zip(above[1:], below[1:], kernels.items(), strict=True):
        show(small, kernel, name, signed=True)
        show(large, convolve(picture, kernel), "", signed=True)
    return figure


def draw_pooling() -> Figure:
    """Three poolings of sixteen numbers."""
    figure, axes = canvas(19, 6)
    cells(axes, TO_POOL, 0.5, 1.5, "a map")
    for row in (0, 2):
        for column in (0, 2):
            corner = (0.5 + column, 1.5 + row)
            axes.add_patch(Rectangle(corner, 2, 2, fill=False, edgecolor=SERIES[3], linewidth=2.5))
    axes.text(5.5, 3.5, "→", ha="center", va="center", fontsize=14)
    poolings: dict[str, Callable[..., Any]] = {"max": np.max, "average": np.mean, "min": np.min}
    for number, (name, keep) in enumerate(poolings.items()):
        cells(axes, pool(TO_POOL, keep), 7 + 4 * number, 2.5, name)
    return figure


def draw_activation() -> Figure:
    """ReLU as a function, and on a feature map."""
    figure = Figure((8, 2.8), layout="constrained")
    function, before, after = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
    function.plot([-3, 0, 3], [0, 0, 3], linewidth=2)
    function.set(xlabel="value", title="ReLU(value)", xticks=range(-3, 4), yticks=range(4))
    edges = convolve(digit() / 255, KERNEL)
    show(before, edges, "a map before ReLU", signed=True)
    show(after, np.maximum(edges, 0) / np.abs(edges).max(), "and after", signed=True)
    after.images[0].set_clim(-1, 1)
    return figure


def draw_loss() -> Figure:
    """Logits become probabilities, a probability becomes a loss."""
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum()
    figure = Figure((8, 2.8), layout="constrained")
    logits, softmax, loss = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
    names = ["A", "B", "C"]
    for axes, values, title, digits in ((logits, LOGITS, "logits", 0), (softmax, shares, "probabilities", 3)):
        bars = axes.bar(names, values, width=0.6)
        axes.bar_label(bars, [f"{value:.{digits}f}" for value in values], color=INK)
        axes.set_title(title)
        axes.set_ylim(0, 1.2 * values.max())
    probability = np.linspace(0.01, 1, 200)
    loss.plot(probability, -np.log(probability), linewidth=2)
    for name, share, color in zip(names, shares, SERIES[1:], strict=False):
        loss.plot(share, -np.log(share), "o", color=color, label=f"if {name} is right: {-np.log(share):.2f}")
    loss.set(xlabel="probability of the right class", title="loss", ylim=(0, 4.7))
    loss.legend()
    return figure


def draw_rates() -> Figure:
    """Five learning rates."""
    rates = read("tutorial")["curves"]["rates"]["curves"]
    return pair(rates, {rate: f"learning rate {rate}" for rate in rates})


def draw_overfitting() -> Figure:
    """Training and validation loss, and the epoch to stop after."""
    run = read("tutorial")["curves"]["rates"]["curves"]["0.01"]
    figure = Figure((8, 3), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    plot(loss, {"training": run["loss"], "validation": run["val_loss"]}, "loss")
    plot(accuracy, {"training": run["accuracy"], "validation": run["val_accuracy"]}, "accuracy")
    best = int(np.argmin(run["val_loss"]))
    loss.plot(best + 1, run["val_loss"][best], "o", color=SERIES[3], label=f"lowest, after epoch {best + 1}")
    loss.set_ylim(0)
    accuracy.set_ylim(0.5, 1)
    loss.legend()
    return figure


def draw_regularization() -> Figure:
    """Training and validation accuracy with nothing, dropout, L1 and L2 on few images."""
    experiment = read("tutorial")["curves"]["regularized"]["curves"]
    figure = Figure((8.5, 2.8), layout="constrained")
    for number, (axes, (name, run)) in enumerate(
        zip(figure.subplots(1, 4, sharey=True), experiment.items(), strict=True)
    ):
        plot(axes, {"training": run["accuracy"]}, name, color=MUTED, linestyle="--")
        plot(axes, {"validation": run["val_accuracy"]}, name, color=SERIES[number])
        axes.set_ylim(0, 1)
        axes.legend(loc="lower right")
        if not number:
            axes.set_ylabel("accuracy")
    return figure


def draw_normalization() -> Figure:
    """The same network without and with batch normalization."""
    names = {"without": "without batch normalization", "with": "with batch normalization"}
    return pair(read("tutorial")["curves"]["normalized"]["curves"], names)


def shifted(*names: str) -> Figure:
    """Accuracy on shifted test images, of networks trained as in the article."""
    measured = read("reproduce")["shifts"]
    figure = Figure((5.5, 3), layout="constrained")
    axes = figure.subplots()
    for name in names:
        axes.plot(range(len(measured[name])), measured[name], "o-", markersize=4, label=name)
    axes.set(xlabel="pixels by which the test images are shifted", ylabel="accuracy", ylim=(0, 1.02))
    axes.legend(loc="lower left")
    return figure


def arrow(start: tuple[float, float], end: tuple[float, float], **settings: Any) -> FancyArrowPatch:
    """From one place to another."""
    style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 9, "color": MUTED}
    return FancyArrowPatch(start, end, **style | settings)


def boxes(axes: Any, places: Iterable[tuple[float, float, str]], arrows: Iterable[Sequence[float]]) -> None:
    """Boxes with words, each 3.6×1 cells around its place, and arrows (from x, y to x, y)."""
    for x, y, words in places:
        axes.add_patch(Rectangle((x - 1.8, y - 0.5), 3.6, 1, facecolor=ABOVE, edgecolor=MUTED))
        axes.text(x, y, words, ha="center", va="center", fontsize=9)
    for x, y, to_x, to_y in arrows:
        axes.add_patch(arrow((x, y), (to_x, to_y)))


def draw_inception() -> Figure:
    """The module with dimension reduction."""
    figure, axes = canvas(19, 8)
    columns = (2.5, 7.1, 11.7, 16.3)
    places = [
        (9.4, 0.9, "32 maps"),
        (columns[1], 2.8, "1×1, 12 filters"),
        (columns[2], 2.8, "1×1, 6 filters"),
        (columns[3], 2.8, "3×3 max pooling"),
        (columns[0], 4.8, "1×1, 24 filters"),
        (columns[1], 4.8, "3×3, 24 filters"),
        (columns[2], 4.8, "5×5, 12 filters"),
        (columns[3], 4.8, "1×1, 12 filters"),
        (9.4, 6.9, "72 maps"),
    ]
    arrows = [(9.4, 1.4, x, 2.3) for x in columns[1:]]
    arrows += [(x, 3.3, x, 4.3) for x in columns[1:]] + [(x, 5.3, 9.4, 6.4) for x in columns]
    boxes(axes, places, arrows)
    around = "angle,angleA=180,angleB=90,rad=0"
    axes.add_patch(arrow((7.6, 0.9), (columns[0], 4.3), connectionstyle=around))
    return figure


def draw_block() -> Figure:
    """A residual block."""
    figure, axes = canvas(19, 3.2)
    y = 2.0
    places = [(2.3, y, "maps x"), (6.9, y, "3×3, 16 filters"), (11.5, y, "3×3, 16 filters"), (16.6, y, "F(x) + x")]
    boxes(axes, places, [(4.1, y, 5.1, y), (8.7, y, 9.7, y), (13.3, y, 14.8, y)])
    bend = "arc,angleA=90,angleB=90,armA=22,armB=22,rad=0"
    axes.add_patch(arrow((2.3, y - 0.5), (16.6, y - 0.5), connectionstyle=bend, color=SERIES[3], linewidth=1.6))
    axes.text(9.4, 0.35, "shortcut", ha="center", va="center", color=SERIES[3])
    return figure


def draw_shifts() -> Figure:
    """Accuracy at each of 81 shifts."""
    measured = read("tutorial")["shifts"]
    largest = measured["largest"]
    figure = Figure((8.5, 4.8), layout="constrained")
    panels = figure.subplots(2, len(measured["rungs"]) // 2)
    for axes, (name, of) in zip(panels.flat, measured["rungs"].items(), strict=True):
        edge = largest + 0.5
        image = axes.imshow(of["accuracy"], cmap="viridis", vmin=0, vmax=1, extent=(-edge, edge, edge, -edge))
        axes.set_title(f"{name}: {of['right']:.0f} of 81")
        axes.set(xticks=(-largest, 0, largest), yticks=(-largest, 0, largest))
        axes.grid(False)
    figure.supxlabel("shift in pixels, left to right", fontsize=10)
    figure.supylabel("up to down", fontsize=10)
    figure.colorbar(image, ax=panels, label="accuracy", shrink=0.8)
    return figure


def draw_ladder() -> Figure:
    """The ladder on all of MNIST: accuracy with 95 % intervals."""
    models = read("comparison")["models"]
    figure = Figure((8, 3.4), layout="constrained")
    axes = figure.subplots()
    for place, model in enumerate(models):
        axes.plot([100 * model["low"], 100 * model["high"]], [place, place], color=SERIES[0], linewidth=2)
        axes.plot(100 * model["test_accuracy"], place, "o", color=SERIES[0], markersize=5)
    axes.set_yticks(range(len(models)), [model["name"] for model in models])
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy in %, mean of five seeds, with its 95 % interval")
    return figure


PICTURES: Mapping[str, Callable[[], Figure]] = {
    "digit": draw_digit,
    "worked": draw_worked,
    "kernels": draw_kernels,
    "pooling": draw_pooling,
    "activation": draw_activation,
    "loss": draw_loss,
    "rates": draw_rates,
    "overfitting": draw_overfitting,
    "regularization": draw_regularization,
    "normalization": draw_normalization,
    "first_shifts": partial(shifted, "dense", "conv", "pool"),
    "head_shifts": partial(shifted, "pool", "no hidden layers"),
    "inception": draw_inception,
    "inception_shifts": partial(shifted, "no hidden layers", "naive inception", "reduced inception"),
    "block": draw_block,
    "residual_shifts": partial(shifted, "deep", "residual"),
    "shifts": draw_shifts,
    "ladder": draw_ladder,
}


def svg(draw: Callable[[], Figure]) -> str:
    """A picture as SVG, the same every time. On a dark page other colours take the place of those drawn."""
    with mpl.rc_context(STYLE):
        file = io.StringIO()
        draw().savefig(file, format="svg", metadata={"Date": None})
    rules = "".join(
        f'[style*="{what}: {light}"]{{{what}:{dark}!important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    head, end, body = file.getvalue().partition("<defs>")
    return head + style + end + body


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(svg(draw), encoding="utf-8")


if __name__ == "__main__":
    main()
