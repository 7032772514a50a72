"""The page's data on models: models.json, test images, and feature maps small enough to send live."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.inference.artifact import LARGEST_NUMBER
from convladder.inference.classifier import UNLIKE, Classifier
from convladder.runs.examples import Examples, choose_examples, read_examples
from convladder.runs.run import Run, embedded_name

MOST_MAPS = 32
MOST_UNITS = 256
LARGEST_SIDE = 64
MOST_CONFUSIONS = 5
# What a model's metadata say of it, and of which kind. Others' files may hold anything.
ACCOUNT: dict[str, Any] = {
    **dict.fromkeys(("rung", "dataset", "embedded", "fingerprint", "version", "tested_by"), str),
    **{"test_accuracy": (int, float), "test_images": int, "interval": list},
}


@dataclass(frozen=True)
class Stage:
    """How a stage's feature maps are thinned out for the page.

    Attributes:
        name: Name of the stage, and of the graph's output.
        height: Height of the network's maps; 1 for a fully connected layer.
        width: Width of the network's maps.
        of: Number of maps.
        step: Distance of the rows and columns that are sent.
        rows: Number of rows that are sent.
        columns: Number of columns that are sent.
        channels: Number of maps that are sent, the first ones.
        strip: Whether these are the units of a fully connected layer, sent as one row.
    """

    name: str
    height: int
    width: int
    of: int
    step: int
    rows: int
    columns: int
    channels: int
    strip: bool


def list_stages(classifier: Classifier) -> list[Stage]:
    """The stages of a classifier, in order, found by one prediction."""
    if not classifier.stages:  # an ensemble, or a network without layers named by stage
        return []
    blank = np.zeros((1, *classifier.input_shape), np.uint8)
    maps = {name: values for name, values in classifier.feature_maps(blank).items() if _can_be_shown(values)}
    return [_thinned(name, values.shape[1:]) for name, values in maps.items()]


def thin_maps(maps: npt.NDArray[np.float32], stage: Stage) -> tuple[npt.NDArray[np.int8], float]:
    """The first image's maps, shape (channels, rows, columns), scaled so that their peak is 127; and the peak."""
    kept = maps[0, : stage.columns].reshape(1, 1, -1) if stage.strip else _places(maps[0], stage)
    peak = float(np.abs(kept).max(initial=0))
    return np.rint(kept * (127 / peak if peak else 0)).astype(np.int8), peak


def describe_model(name: str, classifier: Classifier) -> dict[str, Any]:
    """The entry of one model in models.json."""
    return {
        "name": name,
        "class_names": list(classifier.class_names),
        "input_shape": list(classifier.input_shape),
        "fit": classifier.resize,
        "threshold": classifier.threshold,
        "unlike_below": UNLIKE,
        "stages": [asdict(stage) for stage in list_stages(classifier)],
        "account": account_for(classifier),
    }


def account_for(classifier: Classifier) -> dict[str, Any]:
    """A model's accuracy and origin, from its run folder or its own metadata."""
    account = {key: _checked(classifier.metadata.get(key), kind) for key, kind in ACCOUNT.items()}
    run = find_run(classifier)
    with contextlib.suppress(ConvladderError):  # of a damaged run the model still says what it is
        account |= {} if run is None else _from_run(run)
    return account


def _from_run(run: Run) -> dict[str, Any]:
    test = run.metrics["test"]
    return {
        "rung": run.info["rung"],
        "dataset": run.info["dataset"],
        "embedded": embedded_name(run.info),
        "fingerprint": run.info["fingerprint"],
        "test_accuracy": test["accuracy"],
        "test_images": test["images"],
        "interval": [test["low"], test["high"]],
        "tested_by": run.info.get("tested_by"),
        "training_images": run.info["images"]["train"],
        "fit_seconds": run.info["fit_seconds"],
        "parameters": run.info["parameters"],
        "confusions": _confusions(run.predictions),
    }


def find_run(classifier: Classifier) -> Run | None:
    """The finished run whose folder holds a classifier, if any."""
    try:
        run = Run(classifier.path.parent)
        finished = run.info.get("status") == "finished" and classifier.path.name == "model.onnx"
        # Otherwise the model was copied there from elsewhere.
        finished &= classifier.metadata.get("fingerprint") == run.info.get("fingerprint")
    except ConvladderError:
        return None
    return run if finished else None


def find_examples(classifier: Classifier) -> Examples | None:
    """Test images of the data that a model was trained on, if they are available."""
    run = find_run(classifier)
    if run and (run.path / "examples.npz").exists():
        with contextlib.suppress(ConvladderError):
            examples = read_examples(run.path / "examples.npz")
            return examples if examples.images.shape[1:] == classifier.input_shape else None
        return None
    if (embedded_name(run.info) if run else classifier.metadata.get("embedded")) != "mnist":
        return None  # also for the user's own folder or file called mnist
    with np.load(Path(str(files("convladder.data") / "mnist.npz")), allow_pickle=False) as archive:
        images, labels = archive["x_test"][..., np.newaxis], archive["y_test"].astype(np.int64)
    return choose_examples(images, labels, run.predictions["probabilities"].argmax(axis=1) if run else labels)


def describe_examples(examples: Examples, file: str) -> dict[str, Any]:
    """The entry of test images in models.json. `file` holds their bytes, one image after the other."""
    return {"file": file, "labels": examples.labels.tolist(), "misjudged": examples.misjudged.tolist()}


def _confusions(predictions: Mapping[str, npt.NDArray[Any]]) -> list[dict[str, int]]:
    """The most frequent pairs of a label and a wrong answer."""
    truths, answers = predictions["labels"], predictions["probabilities"].argmax(axis=1)
    wrong = truths != answers
    pairs, counts = np.unique(np.stack([truths[wrong], answers[wrong]]), axis=1, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MOST_CONFUSIONS]
    return [
        {"truth": int(pairs[0, place]), "answer": int(pairs[1, place]), "count": int(counts[place])} for place in most
    ]


def _checked(value: Any, kind: Any) -> Any:
    """A text, a finite number, or a list of two of them; None if it is of another kind."""
    numbers = value if isinstance(value, list) and len(value) == 2 else [value]
    fits = isinstance(value, str) or all(isinstance(one, int | float) and abs(one) <= LARGEST_NUMBER for one in numbers)
    return value if isinstance(value, kind) and fits else None


def _can_be_shown(maps: npt.NDArray[Any]) -> bool:
    """Whether an output is the maps, or the units, of an image."""
    return maps.dtype.kind == "f" and maps.ndim in (2, 4) and maps.size > 0


def _thinned(name: str, shape: tuple[int, ...]) -> Stage:
    if len(shape) == 1:
        units = shape[0]
        return Stage(name, 1, units, 1, 1, 1, min(units, MOST_UNITS), 1, True)
    height, width, channels = shape
    step = -(-max(height, width) // LARGEST_SIDE)
    return Stage(
        name, height, width, channels, step, -(-height // step), -(-width // step), min(channels, MOST_MAPS), False
    )


def _places(maps: npt.NDArray[np.float32], stage: Stage) -> npt.NDArray[np.float32]:
    return maps[:: stage.step, :: stage.step, : stage.channels].transpose(2, 0, 1)
