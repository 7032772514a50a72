"""Tests the article: trains its three networks with its recipe, and measures twelve of its claims.

A claim about accuracy is judged by the interval of a difference, over test images and, with two or more seeds, over
seeds. A claim about time is judged by training steps of both networks in alternation: every round must agree.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.comparing.settings import identity_of
from convladder.comparing.trials import take_finished
from convladder.data.dataset import Dataset
from convladder.evaluating.significance import accuracy_difference
from convladder.models.ladder import build_model
from convladder.models.summary import summarize
from convladder.runs.run import Run, finished_runs
from convladder.training.fitting import compile_copy, measure_steps
from convladder.training.recipes import ARTICLE, resolve_precision
from convladder.training.train import train

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "cannot tell"
TABLES = ("networks", "claims")

# The largest difference of two accuracies that still counts as "comparable", the article's word.
COMPARABLE = 0.005
LARGEST_SHIFT = 8


@dataclass(frozen=True)
class Figures:
    """The article's figures for a network: parameters, test accuracy, seconds per epoch."""

    parameters: int
    test_accuracy: float
    seconds_per_epoch: float


ARTICLE_FIGURES = {
    "dense": Figures(26_506, 0.9233, 2),
    "conv": Figures(823_338, 0.9795, 188),
    "pool": Figures(70_698, 0.9838, 35),
}

# From the claims' name of a network to its rung and choices.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {}),
    "conv": ("conv", {}),
    "pool": ("pool", {}),
    "batch norm": ("batchnorm", {}),
    "no hidden layers": ("linear_head", {"batch_norm": False}),
    "dropout": ("regularized", {"dropout": 0.25, "l1": 0.0, "l2": 0.0}),
    "L1": ("regularized", {"dropout": 0.0, "l1": 1e-4, "l2": 0.0}),
    "L2": ("regularized", {"dropout": 0.0, "l1": 0.0, "l2": 1e-3}),
    "naive inception": ("inception", {"module": "naive"}),
    "reduced inception": ("inception", {"module": "reduced"}),
    "deep": ("deep", {}),
    "residual": ("residual", {}),
}


@dataclass(frozen=True)
class Claim:
    """A claim of the article, the measurement, and the verdict."""

    claim: str
    measured: str
    verdict: str


Trained = dict[str, list[Run]]


def reproduce(
    dataset: Dataset,
    *,
    epochs: float = ARTICLE.epochs,
    seeds: int = 1,
    tables: Sequence[str] = TABLES,
    directory: str | Path = "runs",
    resume: bool = False,
    callbacks: Callable[[str], Sequence[keras.callbacks.Callback]] = lambda _: (),
) -> dict[str, Any]:
    """Train the article's networks with its recipe, and test its claims.

    Args:
        dataset: MNIST, so that the article's figures can be compared.
        epochs: The article trains for 10.
        seeds: Runs per network, at least 1.
        tables: The tables to make: "networks", "claims".
        directory: Folder for the run folders.
        resume: Whether to reuse finished runs from there, if all settings that change the result are equal.
        callbacks: From a label to the Keras callbacks of one training.

    Returns:
        `networks` and `claims`, the rows that the command prints; with the claims also `shifts`: the accuracy of
        each network on test images shifted by 0 to 8 pixels.
    """
    recipe = replace(ARTICLE, epochs=epochs)
    names = list(NETWORKS) if "claims" in tables else list(ARTICLE_FIGURES)
    trained: Trained = {name: [] for name in names}
    stored = finished_runs(Path(directory)) if resume else []
    alike = {
        "ensemble": 1,
        "recipe": asdict(recipe),
        "precision": resolve_precision(recipe)[0],
        "deterministic": False,
        "fit": dataset.resize,
        "fingerprint": dataset.without_validation().fingerprint if resume else "",
    }
    for seed in range(seeds):
        for name in names:
            rung, choices = NETWORKS[name]
            keras.backend.clear_session()  # drops the graphs of the previous network
            label = name if seeds == 1 else f"{name}, seed {seed}"
            run = take_finished(stored, identity_of(alike | {"rung": rung, "choices": choices, "seed": seed}))
            trained[name].append(
                run
                or train(
                    rung, dataset, recipe, seed=seed, choices=choices, directory=directory, callbacks=callbacks(label)
                )
            )
    result: dict[str, Any] = {}
    if "networks" in tables:
        result["networks"] = [network_row(name, trained[name]) for name in ARTICLE_FIGURES]
    if "claims" in tables:
        shifts = {name: shifted_accuracies(runs, dataset) for name, runs in trained.items()}
        claims = [*arithmetic_claims(), *trained_claims(trained, shifts, dataset)]
        result |= {"claims": [asdict(claim) for claim in claims], "shifts": shifts}
    return result


def network_row(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    """The article's figures beside ours, which are means over the seeds."""
    article = ARTICLE_FIGURES[name]
    return {
        "name": name,
        "parameters": runs[0].info["parameters"],
        "article_parameters": article.parameters,
        "test_accuracy": mean_test_accuracy(runs),
        "article_test_accuracy": article.test_accuracy,
        "seconds_per_epoch": statistics.fmean(seconds_per_epoch(runs)),
        "article_seconds_per_epoch": article.seconds_per_epoch,
    }


def arithmetic_claims() -> list[Claim]:
    """The claims that need no training, only counting in built networks."""
    first_layer = _layer("dense", (256, 256, 3), "hidden1", hidden=1024).parameters
    five = _layer("conv", (28, 28, 1), "stage1_conv", kernel_size=5, padding="valid")
    three = _layer("conv", (28, 28, 1), "stage1_conv", kernel_size=3, padding="same")
    pooled = _layer("pool", (28, 28, 1), "stage1_pool", kernel_size=5, padding="valid")
    conv, pool = (build_model(rung, (28, 28, 1), 10).count_params() for rung in ("conv", "pool"))
    return [
        _counted(
            "A dense first layer on 256×256×3 pixels costs over 200 million parameters",
            f"{first_layer:,} with 1,024 units",
            first_layer > 200e6,
        ),
        _counted("A 5×5 filter turns 28×28 into 24×24", five.arithmetic, five.output_shape[:2] == (24, 24)),
        _counted("Padding of 1 with a 3×3 filter keeps 28×28", three.arithmetic, three.output_shape[:2] == (28, 28)),
        _counted(
            "2×2 pooling halves 24×24 to 12×12 and leaves the channels",
            f"24×24×{five.output_shape[2]} becomes {'×'.join(map(str, pooled.output_shape))}",
            pooled.output_shape == (12, 12, five.output_shape[2]),
        ),
        _counted(
            "Pooling cuts the trainable parameters by more than ten",
            f"{conv:,} to {pool:,}: {conv / pool:.1f} times fewer",
            conv > 10 * pool,
        ),
    ]


def trained_claims(trained: Trained, shifts: dict[str, list[float]], dataset: Dataset) -> list[Claim]:
    """The claims that need trained networks."""
    return [
        _pooling_claim(trained, dataset),
        _shift_claim(trained, shifts),
        _batch_norm_claim(trained, dataset),
        _cheaper_claim(
            "Removing the hidden dense layers saves a little time at comparable accuracy",
            "no hidden layers",
            "pool",
            trained,
            dataset,
        ),
        _regularization_claim(trained, dataset),
        _cheaper_claim(
            "The inception module with dimension reduction costs less than the naive one at comparable accuracy",
            "reduced inception",
            "naive inception",
            trained,
            dataset,
        ),
        _residual_claim(trained),
    ]


def _pooling_claim(trained: Trained, dataset: Dataset) -> Claim:
    ratios = step_ratios("pool", "conv", dataset)
    difference, low, high = accuracy_difference(correct(trained["pool"]), correct(trained["conv"]))
    verdict = UNDECIDED
    if max(ratios) < 1 and low > 0:
        verdict = HOLDS
    elif min(ratios) > 1 or high < 0:
        verdict = FAILS
    return Claim(
        "Pooling shortens an epoch and raises accuracy",
        f"{_times(ratios)}; {_points(difference, low, high)}",
        verdict,
    )


def _shift_claim(trained: Trained, shifts: dict[str, list[float]]) -> Claim:
    """Judged at 4 pixels: the loss of each network, and whether the interval of the difference excludes 0."""
    lost = {name: shifts[name][0] - shifts[name][4] for name in ("dense", "conv", "pool")}
    worst = max(lost["conv"], lost["pool"])
    images = len(trained["dense"][0].answers[1])
    # A loss is the mean over test images of a difference of two bits, so its variance is at most 1 / images.
    margin = 1.96 * (2 / images) ** 0.5
    verdict = HOLDS if lost["dense"] - worst > margin else FAILS if lost["dense"] - worst < -margin else UNDECIDED
    told = ", ".join(f"{name} {shifts[name][0]:.3f} to {shifts[name][4]:.3f}" for name in lost)
    return Claim(
        "A shifted image defeats the dense network more than the convolutional ones",
        f"accuracy at a shift of 0 and of 4 pixels: {told}",
        verdict,
    )


def _batch_norm_claim(trained: Trained, dataset: Dataset) -> Claim:
    """Judged by the seconds to a training accuracy that both networks reach."""
    with_norm, without = trained["batch norm"], trained["pool"]
    pairs = []
    for one, other in zip(with_norm, without, strict=True):
        level = min(max(row["accuracy"] for row in run.history) for run in (one, other))
        pairs.append((_seconds_until(one, level), _seconds_until(other, level)))
    faster = [one < other for one, other in pairs]
    sooner, later = (statistics.fmean(seconds) for seconds in zip(*pairs, strict=True))
    return Claim(
        "Batch normalization speeds training up",
        f"{sooner:.0f} s instead of {later:.0f} s to the training accuracy that both reach; "
        f"{_times(step_ratios('batch norm', 'pool', dataset))}",
        HOLDS if all(faster) else FAILS if not any(faster) else UNDECIDED,
    )


def _cheaper_claim(claim: str, cheap: str, expensive: str, trained: Trained, dataset: Dataset) -> Claim:
    ratios = step_ratios(cheap, expensive, dataset)
    difference, low, high = accuracy_difference(correct(trained[cheap]), correct(trained[expensive]))
    verdict = UNDECIDED
    if max(ratios) < 1 and low > -COMPARABLE:
        verdict = HOLDS
    elif min(ratios) > 1 or high < -COMPARABLE:
        verdict = FAILS
    macs = trained[cheap][0].info["macs"] / trained[expensive][0].info["macs"]
    measured = f"{_times(ratios)}, {macs:.2f} times the multiply-accumulates; {_points(difference, low, high)}"
    return Claim(claim, measured, verdict)


def _regularization_claim(trained: Trained, dataset: Dataset) -> Claim:
    """The gap is the accuracy on training images, without dropout, minus the accuracy on test images."""
    whole = dataset.without_validation()
    gaps = {}
    for name in ("pool", "dropout", "L1", "L2"):
        on_training = [float((_answers(run, whole.train.images) == whole.train.labels).mean()) for run in trained[name]]
        gaps[name] = statistics.fmean(on_training) - mean_test_accuracy(trained[name])
    # The gap's noise comes from the test images, and from the two networks' disagreement on them.
    narrowed = []
    for name in ("dropout", "L1", "L2"):
        _, low, high = accuracy_difference(correct(trained[name]), correct(trained["pool"]))
        margin = (high - low) / 2
        saved = gaps["pool"] - gaps[name]
        narrowed.append(HOLDS if saved > margin else FAILS if saved < -margin else UNDECIDED)
    verdict = narrowed[0] if len(set(narrowed)) == 1 else FAILS if FAILS in narrowed else UNDECIDED
    told = ", ".join(f"{name} {100 * gap:.2f}" for name, gap in gaps.items())
    each = ", ".join(f"{name} {one}" for name, one in zip(("dropout", "L1", "L2"), narrowed, strict=True))
    return Claim(
        "Dropout, L1 and L2 narrow the gap between training and test",
        f"gap in points: {told}; one by one: {each}",
        verdict,
    )


def _residual_claim(trained: Trained) -> Claim:
    difference, low, high = accuracy_difference(correct(trained["residual"]), correct(trained["deep"]))
    return Claim(
        "In a very deep network residual connections help",
        f"{mean_test_accuracy(trained['deep']):.4f} without, {mean_test_accuracy(trained['residual']):.4f} with; "
        f"{_points(difference, low, high)}",
        HOLDS if low > 0 else FAILS if high < 0 else UNDECIDED,
    )


def step_ratios(name: str, other: str, dataset: Dataset) -> list[float]:
    """Seconds per training step of one network divided by those of another, in five alternating rounds."""
    copies = []
    for rung, choices in (NETWORKS[name], NETWORKS[other]):
        model = build_model(rung, dataset.input_shape, dataset.num_classes, rescale=ARTICLE.rescale, **choices)
        copies.append(compile_copy(model, ARTICLE, ARTICLE.precision)[0])
    return [one / two for one, two in zip(*measure_steps(copies, dataset, ARTICLE, rounds=5), strict=True)]


def shifted_accuracies(runs: Sequence[Run], dataset: Dataset) -> list[float]:
    """Accuracy on the test images shifted by 0 to 8 pixels, a quarter of them in each direction, filled with black."""
    labels = dataset.test.labels
    accuracies = []
    for shift in range(LARGEST_SHIFT + 1):
        images = shift_images(dataset.test.images, shift)
        accuracies.append(statistics.fmean(float((_answers(run, images) == labels).mean()) for run in runs))
    return accuracies


def shift_images(images: npt.NDArray[np.uint8], shift: int) -> npt.NDArray[np.uint8]:
    """Shift images, (count, height, width, channels), by `shift` pixels: right, left, down and up in turn."""
    if not shift:
        return images
    shifted = np.zeros_like(images)
    shifted[0::4, :, shift:] = images[0::4, :, :-shift]
    shifted[1::4, :, :-shift] = images[1::4, :, shift:]
    shifted[2::4, shift:] = images[2::4, :-shift]
    shifted[3::4, :-shift] = images[3::4, shift:]
    return shifted


def correct(runs: Sequence[Run]) -> npt.NDArray[np.bool_]:
    """Which test images each run got right, shape (runs, images)."""
    return np.stack([taken == labels for taken, labels in (run.answers for run in runs)])


def mean_test_accuracy(runs: Sequence[Run]) -> float:
    """Mean test accuracy over runs."""
    return statistics.fmean(run.info["test_accuracy"] for run in runs)


def seconds_per_epoch(runs: Sequence[Run]) -> list[float]:
    """Seconds of fitting per epoch, including tracing."""
    return [run.info["fit_seconds"] / run.info["recipe"]["epochs"] for run in runs]


def _answers(run: Run, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    classifier = run.classifier()
    batches = [images[start : start + 1000] for start in range(0, len(images), 1000)]
    return np.concatenate([classifier.predict_probabilities(batch).argmax(axis=1) for batch in batches])


def _layer(rung: str, input_shape: tuple[int, int, int], name: str, **choices: Any) -> Any:
    rows = summarize(build_model(rung, input_shape, 10, **choices))
    return next(row for row in rows if row.name == name)


def _counted(claim: str, measured: str, holds: bool) -> Claim:
    return Claim(claim, measured, HOLDS if holds else FAILS)


def _seconds_until(run: Run, level: float) -> float:
    return next(row["seconds"] for row in run.history if row["accuracy"] >= level)


def _times(ratios: Sequence[float]) -> str:
    return f"{statistics.median(ratios):.2f} times the seconds per step ({min(ratios):.2f} to {max(ratios):.2f})"


def _points(difference: float, low: float, high: float) -> str:
    return f"accuracy {100 * difference:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
