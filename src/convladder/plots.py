"""Plots: the only module that imports matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

if TYPE_CHECKING:
    from convladder.benchmarking import Training

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
