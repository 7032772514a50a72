"""What docs/tutorial.md says of the rungs and no other benchmark measures.

    convladder compare                        # writes runs/, the rungs trained on all of MNIST
    python benchmarks/tutorial.py shifts runs
    python benchmarks/tutorial.py activation  # `dense` with and without ReLU, half a minute
    python benchmarks/tutorial.py curves      # a copy of what benchmarks/lesson.py measured

Writes docs/benchmarks/tutorial.json; what is not asked for stays as it is. `shifts`: at how many of 81 shifts a
digit is recognized, of the first test images.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

import convladder as cl
from convladder.runs.run import finished_runs

OUTPUT = Path(__file__).parents[1] / "docs/benchmarks/tutorial.json"
LESSON = Path(__file__).parents[1] / "src/convladder/serving/web/learn/experiments.json"
RUNGS = ("dense", "conv", "pool", "batchnorm", "linear_head", "inception", "deep", "residual")
LARGEST = 4  # pixels; MNIST's digits stand in the middle 20 of 28, so that most stay whole
SHIFTED_IMAGES = 1000
SEEDS = (1, 2)  # of `dense` with and without ReLU


def shift(images: npt.NDArray[np.uint8], down: int, across: int) -> npt.NDArray[np.uint8]:
    """Images, (count, height, width, channels), shifted by at most LARGEST pixels and filled with black."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (LARGEST, LARGEST), (LARGEST, LARGEST), (0, 0)))
    return padded[:, LARGEST - down :, LARGEST - across :][:, :height, :width]


def measure_shifts(directory: Path) -> dict[str, Any]:
    """For each rung the accuracy at every shift, rows from up to down, and the mean number of shifts answered right."""
    test = cl.load_dataset("mnist").test
    images, labels = test.images[:SHIFTED_IMAGES], test.labels[:SHIFTED_IMAGES]
    steps = range(-LARGEST, LARGEST + 1)
    runs = {run.info["rung"]: run for run in finished_runs(directory) if run.info["dataset"] == "mnist"}
    measured = {}
    for rung in RUNGS:
        classifier = runs[rung].classifier()
        accuracy = [
            [
                float((classifier.predict_probabilities(shift(images, down, across)).argmax(axis=1) == labels).mean())
                for across in steps
            ]
            for down in steps
        ]
        measured[rung] = {
            "test_accuracy": runs[rung].info["test_accuracy"],
            "right": round(float(np.sum(accuracy)), 2),
            "accuracy": accuracy,
        }
        print(rung, measured[rung]["right"], flush=True)
    return {"images": SHIFTED_IMAGES, "largest": LARGEST, "rungs": measured}


def measure_activation() -> dict[str, Any]:
    """Test accuracy of `dense` with and without ReLU on all of MNIST, a mean over the seeds."""
    import keras

    mnist = cl.load_dataset("mnist")
    accuracies: dict[str, list[float]] = {"with": [], "without": []}
    with TemporaryDirectory() as folder:
        for seed in SEEDS:
            for name, kept in accuracies.items():
                keras.utils.set_random_seed(seed)
                model = cl.build_model("dense", mnist.input_shape, mnist.num_classes)
                if name == "without":
                    for layer in ("hidden1", "hidden2"):
                        model.get_layer(layer).activation = keras.activations.linear
                kept.append(cl.train(model, mnist, seed=seed, directory=folder).info["test_accuracy"])
    print(accuracies, flush=True)
    return {"seeds": len(SEEDS), **{name: round(float(np.mean(kept)), 4) for name, kept in accuracies.items()}}


def copy_curves() -> dict[str, Any]:
    """The curves of training that the lesson shows too; benchmarks/lesson.py measures them."""
    experiments = json.loads(LESSON.read_text(encoding="utf-8"))
    return {name: experiments[name] for name in ("rates", "regularized", "normalized")}


def main() -> None:
    """Measure what is asked for."""
    kept = json.loads(OUTPUT.read_text(encoding="utf-8")) if OUTPUT.exists() else {}
    match sys.argv[1:]:
        case ["shifts", directory]:
            kept["shifts"] = measure_shifts(Path(directory))
        case ["activation"]:
            kept["activation"] = measure_activation()
        case ["curves"]:
            kept["curves"] = copy_curves()
        case _:
            raise SystemExit(__doc__)
    OUTPUT.write_text(json.dumps(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
