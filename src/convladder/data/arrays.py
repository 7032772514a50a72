"""Arrays of images and labels to a Dataset: checked, their classes those that occur, what is amiss in them said."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder.data.checks import remark, too_many_classes
from convladder.data.dataset import Dataset, Split, digest_images
from convladder.errors import ConvladderError

Rows: TypeAlias = npt.NDArray[np.int64]


def check_arrays(arrays: dict[str, npt.NDArray[Any]], path: Path) -> dict[str, npt.NDArray[Any]]:
    """Give back the arrays, if they are images and labels for training and testing."""
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not len(images):
            raise ConvladderError(
                f"x_{split} of {path} is {images.dtype} of shape {images.shape}. Expected uint8 of "
                "(count, height, width) or (count, height, width, channels), with a count of at least 1."
            )
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.min() < 0:
            raise ConvladderError(
                f"y_{split} of {path} is {labels.dtype} of shape {labels.shape}. Expected {len(images)} integers, "
                "from 0 up."
            )
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        raise ConvladderError(
            f"The images of {path} are {arrays['x_train'].shape[1:]} for training and "
            f"{arrays['x_test'].shape[1:]} for testing. Expected one shape."
        )
    return arrays


def load_arrays(
    arrays: dict[str, npt.NDArray[Any]], name: str, *, validation: float, seed: int, known: bool = False
) -> Dataset:
    """Make a Dataset of checked arrays; its classes are the labels that occur, and their values the names.

    Args:
        arrays: As `check_arrays` gives them.
        name: Of the data set.
        validation: The share of the training images to hold out, by class.
        seed: Of that choice.
        known: Whether there is nothing to be said of them.

    Raises:
        ConvladderError: There is one label alone, nearly as many as images, or too few images to hold out of each.
    """
    values, labels = np.unique(np.concatenate([arrays["y_train"], arrays["y_test"]]), return_inverse=True)
    if len(values) < 2:
        raise ConvladderError(f"All labels of {name} are {values[0]}. Expected two classes or more.")
    if too_many_classes(len(values), len(labels)):
        raise ConvladderError(
            f"The {len(labels):,} labels of {name} have {len(values):,} values, {values[0]} to {values[-1]}. Expected "
            "classes, with some images each."
        )
    class_names = tuple(map(str, values))
    trained = len(arrays["y_train"])
    alone = np.flatnonzero(np.bincount(labels[:trained]) == 1)
    if validation and len(alone):
        raise ConvladderError(
            f"The training images of {name} cannot be split by class, since only one has the label "
            f"{class_names[alone[0]]}. Expected two or more of each: correct the label, or add images."
        )
    kept, held_out = _hold_out(labels[:trained], validation, seed)
    images = _with_channels(arrays["x_train"])
    train, validated = (Split(images[rows], labels[rows]) for rows in (kept, held_out))
    test = Split(_with_channels(arrays["x_test"]), labels[trained:])
    data = Dataset(name, class_names, train, validated, test)
    if known:
        return data
    names = [f"x_train[{row}]" for row in (*kept, *held_out)] + [f"x_test[{row}]" for row in range(len(test))]
    parts = (train, validated, test)
    lines = remark(
        names,
        np.concatenate([part.labels for part in parts]),
        np.repeat(np.arange(len(parts)), list(map(len, parts))),
        class_names,
        np.concatenate([digest_images(part.images) for part in parts]),
        np.concatenate([part.images.min(axis=(1, 2, 3)) == part.images.max(axis=(1, 2, 3)) for part in parts]),
    )
    return replace(data, noticed=tuple(lines))


def _with_channels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images if images.ndim == 4 else images[..., np.newaxis]


def _hold_out(labels: npt.NDArray[np.int64], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on and a stratified share of all."""
    count = round(share * len(labels))
    if not count:
        return np.arange(len(labels)), np.arange(0)
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ConvladderError(f"The training images cannot be split by class: {error}") from error
    return np.sort(kept), np.sort(held_out)
