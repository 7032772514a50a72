"""Seconds to an accuracy on MNIST, beside the article's program and the examples of Keras and PyTorch.

    python benchmarks/time_to_accuracy.py --quick            the two ratios, within 8 minutes on two cores
    python benchmarks/time_to_accuracy.py --output docs/benchmarks

The article's program, Keras's and PyTorch's MNIST examples are written anew from their published descriptions
(layers, optimizer, batch, epochs). Each training runs in a process of its own, one after the other, all contenders
once before any runs again. Peers are scored on the test images after every epoch, which flatters them; what is from
here is scored once, at its end. Scoring is not timed; tracing is.
"""

import argparse
import importlib.util
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from output import prepare

from convladder.data.loading import load_dataset
from convladder.engine import import_engine
from convladder.processors import count_processors

# The accuracies of the two ratios: the article's best, and a round one that Keras's example reaches.
ARTICLE_ACCURACY = 0.9838
ROUND_ACCURACY = 0.99


@dataclass(frozen=True)
class Training:
    """One training of one contender.

    Attributes:
        name: Of the contender.
        seed: Of weights and order.
        seconds: After each scoring, the seconds of fitting so far.
        accuracies: Test accuracy, at each scoring.
        utilization: Arithmetic done a second, as a share of a large matrix product's in the same type.
        precision: That type.
    """

    name: str
    seed: int
    seconds: list[float]
    accuracies: list[float]
    utilization: float
    precision: str


def train_article(seed: int) -> Training:
    """The article's `pool` network: Adam, batches of 128, raw pixels, ten epochs."""
    from keras import layers

    stack = [
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(32, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ]
    return _train_keras("article", stack, seed, epochs=10, images=60_000, scale=1.0)


def train_keras_example(seed: int) -> Training:
    """Keras's "Simple MNIST convnet": two convolutions, dropout, Adam, batches of 128, 15 epochs on 54,000 images."""
    from keras import layers

    stack = [
        layers.Conv2D(32, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]
    return _train_keras("keras example", stack, seed, epochs=15, images=54_000, scale=1 / 255)


def train_pytorch_example(seed: int) -> Training:
    """PyTorch's basic MNIST example: two convolutions, dropout, Adadelta decayed by 0.7, batches of 64, 14 epochs."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    mnist = load_dataset("mnist", validation=0)
    x, x_test = (
        (torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255 - 0.1307) / 0.3081
        for split in (mnist.train, mnist.test)
    )
    y, y_test = torch.from_numpy(mnist.train.labels), torch.from_numpy(mnist.test.labels)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(9216, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    seconds, accuracies, fitted = [], [], 0.0
    for _ in range(14):
        began = time.perf_counter()
        model.train()
        for chosen in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
        scheduler.step()
        fitted += time.perf_counter() - began
        seconds.append(fitted)
        model.eval()
        with torch.no_grad():
            accuracies.append(float((model(x_test).argmax(1) == y_test).float().mean()))
    macs = 26 * 26 * 9 * 32 + 24 * 24 * 9 * 32 * 64 + 9216 * 128 + 1280
    return Training(
        "pytorch example", seed, seconds, accuracies, _utilization(macs, 14 * len(x), fitted, "float32"), "float32"
    )


def train_here(rung: str, changes: dict[str, Any], seed: int) -> Training:
    """A rung of this package under its default recipe, with changes."""
    from convladder.training.assembling import VIEWS
    from convladder.training.recipes import default_recipe
    from convladder.training.train import train

    recipe = replace(default_recipe(rung), **changes)
    with tempfile.TemporaryDirectory() as folder:
        run = train(rung, load_dataset("mnist"), recipe, seed=seed, directory=folder)
        info = run.info
    images = recipe.epochs * info["images"]["train"]
    macs = info["macs"] / VIEWS[recipe.views][1]  # it is trained on one view
    return Training(
        f"{rung}, {recipe.epochs:g} epochs",
        seed,
        [info["fit_seconds"]],
        [info["test_accuracy"]],
        _utilization(macs, images, info["fit_seconds"], info["precision"]),
        info["precision"],
    )


PEERS: dict[str, Callable[[int], Training]] = {
    "article": train_article,
    "keras example": train_keras_example,
    "pytorch example": train_pytorch_example,
}

# The rungs that are timed, and what is changed of their default recipes.
HERE: dict[str, tuple[str, dict[str, Any]]] = {
    "short": ("fast", {"epochs": 0.4}),
    "fast": ("fast", {}),
    "augmented": (
        "fast",
        {"epochs": 3, "batch_size": 256, "learning_rate": 0.018, "augment": "digits", "views": "digits"},
    ),
    "strong": ("strong", {}),
}


def benchmark(*, seeds: int, quick: bool) -> Iterator[Training]:
    """Train every contender with every seed, all of them once before any again.

    PyTorch's example, where it is installed, is trained once: that takes ten minutes.

    Args:
        seeds: Trainings of each.
        quick: Leave out PyTorch's example and the longest rung, and train the peers once.
    """
    once = ["pytorch example"] if importlib.util.find_spec("torch") and not quick else []
    peers = [name for name in PEERS if name != "pytorch example"]
    here = [name for name in HERE if name != "strong" or not quick]
    for seed in range(seeds):
        first = seed == 0
        for name in [*(peers if first or not quick else ()), *(once if first else ()), *here]:
            yield train_apart(name, seed)


def summarize_trainings(trainings: Sequence[Training]) -> dict[str, Any]:
    """A row per contender, two ratios, and the machine.

    A ratio divides the median seconds of a peer by those of the cheapest contender from here whose mean test accuracy
    is at least as asked: the article's program over all its epochs; Keras's example until it first reaches 0.99, or
    over all its epochs where it never did, which `reached` tells.
    """
    from convladder.training.hardware import processor_name

    groups: dict[str, list[Training]] = {}
    for training in trainings:
        groups.setdefault(training.name, []).append(training)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "seeds": len(group),
            "seconds": statistics.median(t.seconds[-1] for t in group),
            "seconds_low": min(t.seconds[-1] for t in group),
            "seconds_high": max(t.seconds[-1] for t in group),
            "test_accuracy": statistics.fmean(t.accuracies[-1] for t in group),
            "test_accuracy_low": min(t.accuracies[-1] for t in group),
            "test_accuracy_high": max(t.accuracies[-1] for t in group),
            "utilization": statistics.median(t.utilization for t in group),
            "precision": group[0].precision,
        }
        for name, group in groups.items()
    ]
    here = [row for row in rows if row["name"] not in PEERS]
    ratios = []
    for peer, accuracy, until in (("article", ARTICLE_ACCURACY, False), ("keras example", ROUND_ACCURACY, True)):
        enough = [row for row in here if row["test_accuracy"] >= accuracy]
        if not enough or peer not in groups:
            continue
        cheapest = min(enough, key=lambda row: row["seconds"])
        spent = [seconds_until(t, accuracy) if until else (t.seconds[-1], True) for t in groups[peer]]
        seconds = statistics.median(s for s, _ in spent)
        ratios.append(
            {
                "peer": peer,
                "accuracy": accuracy,
                "peer_seconds": seconds,
                "reached": all(reached for _, reached in spent),
                "here": cheapest["name"],
                "here_seconds": cheapest["seconds"],
                "ratio": seconds / cheapest["seconds"],
            }
        )
    machine = {
        "processor": processor_name(),
        "cores": count_processors(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
    return {
        "machine": machine,
        "rows": rows,
        "ratios": ratios,
        "trainings": [asdict(training) for training in trainings],
    }


def seconds_until(training: Training, accuracy: float) -> tuple[float, bool]:
    """Seconds until a contender first scored so high, and whether it did; all its seconds where not."""
    for seconds, reached in zip(training.seconds, training.accuracies, strict=True):
        if reached >= accuracy:
            return seconds, True
    return training.seconds[-1], False


def train_apart(contender: str, seed: int) -> Training:
    """Train in a fresh process: no graph, thread pool or memory of an earlier training."""
    command = [sys.executable, __file__, "--contender", contender, "--seed", str(seed)]
    return Training(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


def train_contender(contender: str, seed: int) -> Training:
    import_engine()
    return PEERS[contender](seed) if contender in PEERS else train_here(*HERE[contender], seed)


def _train_keras(name: str, stack: list[Any], seed: int, *, epochs: int, images: int, scale: float) -> Training:
    """Train as a script in plain Keras does, and score after every epoch, the clock stopped."""
    import keras

    from convladder.models.summary import count_macs

    keras.utils.set_random_seed(seed)
    mnist = load_dataset("mnist", validation=0)
    x, x_test = (split.images.astype("float32") * scale for split in (mnist.train, mnist.test))
    y, y_test = (keras.utils.to_categorical(split.labels) for split in (mnist.train, mnist.test))
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack])
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    seconds: list[float] = []
    accuracies: list[float] = []
    scoring = 0.0
    started = time.perf_counter()

    def score_epoch(*_: Any) -> None:
        nonlocal scoring
        began = time.perf_counter()
        seconds.append(began - started - scoring)
        accuracies.append(float(model.evaluate(x_test, y_test, batch_size=500, verbose=0)[1]))
        scoring += time.perf_counter() - began

    scorer = keras.callbacks.LambdaCallback(on_epoch_end=score_epoch)
    model.fit(x[:images], y[:images], batch_size=128, epochs=epochs, callbacks=[scorer], verbose=0)
    utilization = _utilization(count_macs(model), epochs * images, seconds[-1], "float32")
    return Training(name, seed, seconds, accuracies, utilization, "float32")


def _utilization(macs: float, images: float, seconds: float, precision: str) -> float:
    """A training step multiplies three times: forward, by the inputs' gradient and by the weights'."""
    return 3 * 2 * macs * images / seconds / matrix_product_flops(precision)


def matrix_product_flops(precision: str, size: int = 2048) -> float:
    """What a product of two large square matrices sustains, multiplications and additions a second; the median of 9."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((size, size)), precision)
    durations = []
    for _ in range(10):
        began = time.perf_counter()
        tf.matmul(matrix, matrix).numpy()
        durations.append(time.perf_counter() - began)
    return float(2 * size**3 / np.median(durations[1:]))


def plot_time_to_accuracy(trainings: Sequence[Training], path: Path) -> None:
    """Draw test error against seconds of training, both logarithmic, a line or a point a training; SVG or PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
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


MOST_TILES = 64  # of filters or feature maps, in one picture
COLOURS = {"grad-cam": "inferno", "hires-cam": "inferno", "occlusion": "RdBu_r"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the two ratios alone")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each contender")
    parser.add_argument("--output", type=Path, default=Path("benchmark"), help="where JSON and plot are written")
    parser.add_argument("--contender", choices=[*PEERS, *HERE], help="train one, and print JSON")
    parser.add_argument("--seed", type=int, default=0, help="of --contender")
    given = parser.parse_args()
    if given.contender:
        print(json.dumps(asdict(train_contender(given.contender, given.seed))))
        return
    prepare(parser, given.output)
    trainings = []
    for training in benchmark(seeds=given.seeds, quick=given.quick):
        trainings.append(training)
        print(f"{training.name}, seed {training.seed}: {training.seconds[-1]:.1f} s, {training.accuracies[-1]:.4f}")
    result = summarize_trainings(trainings)
    (given.output / "time_to_accuracy.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    plot_time_to_accuracy(trainings, given.output / "time_to_accuracy.svg")
    for row in result["rows"]:
        print(
            f"{row['name']}: {row['seeds']} seeds, {row['seconds']:.2f} s ({row['seconds_low']:.2f} to "
            f"{row['seconds_high']:.2f}), test accuracy {row['test_accuracy']:.4f}, "
            f"utilization {row['utilization']:.0%} of {row['precision']}"
        )
    for ratio in result["ratios"]:
        more = "" if ratio["reached"] else "more than "
        print(
            f"{ratio['accuracy']:.2%}: {ratio['peer']} {ratio['peer_seconds']:.1f} s, {ratio['here']} "
            f"{ratio['here_seconds']:.2f} s: {more}{ratio['ratio']:.0f} times"
        )


if __name__ == "__main__":
    main()
