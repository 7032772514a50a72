"""Example test images in a run folder: a few of each class, and a few misclassified ones."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from convladder.files import read_arrays
from convladder.runs.fields import damaged

COUNT = 72
MISJUDGED_SHARE = 4  # one in four
LARGEST_BYTES = 1 << 20


class Examples(NamedTuple):
    """Images of shape (count, height, width, channels), uint8, their labels, and whether the run misclassified them."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    misjudged: npt.NDArray[np.bool_]


def choose_examples(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]
) -> Examples:
    """Choose at most 72 test images, one class after the other; every fourth is a misclassified one if possible.

    Args:
        images: Shape (count, height, width, channels).
        labels: Shape (count,).
        predicted: The run's answers, shape (count,).
    """
    count = max(8, min(COUNT, LARGEST_BYTES // int(np.prod(images.shape[1:]))))
    right = _by_turns(labels, np.flatnonzero(predicted == labels))[:count]
    wrong = _by_turns(labels, np.flatnonzero(predicted != labels))[: count // MISJUDGED_SHARE]
    chosen: list[int] = []
    while len(chosen) < count and (right or wrong):
        fourth = len(chosen) % MISJUDGED_SHARE == MISJUDGED_SHARE - 1
        chosen.append((wrong if wrong and (fourth or not right) else right).pop(0))
    order = np.asarray(chosen, dtype=np.int64)
    return Examples(images[order], labels[order], predicted[order] != labels[order])


def read_examples(path: Path) -> Examples:
    """Read a run folder's examples.npz.

    Raises:
        ConvladderError: It is damaged.
    """
    try:
        arrays = read_arrays(path, "images", "labels", "misjudged")
        examples = Examples(arrays["images"], arrays["labels"], arrays["misjudged"])
        kinds = "".join(values.dtype.kind for values in examples)
        alike = examples.labels.shape == examples.misjudged.shape == examples.images.shape[:1]
        if kinds not in ("uib", "uub") or examples.images.dtype != np.uint8 or examples.images.ndim != 4 or not alike:
            raise ValueError("its arrays do not belong together")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return examples


def _by_turns(labels: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> list[int]:
    """Indices in the order: the first of each class, the second of each class, and so on."""
    turns: dict[int, int] = {}
    keys = []
    for place in places.tolist():
        label = int(labels[place])
        turns[label] = turns.get(label, -1) + 1
        keys.append((turns[label], label, place))
    return [place for _, _, place in sorted(keys)]
