"""From arrays of images and labels to a Dataset: checks them, names the classes, and reports problems."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder.data.checks import list_remarks, too_many_classes
from convladder.data.dataset import Dataset, Split, digest_images
from convladder.data.leaks import LEFT_OUT, say_left_out, without_leaks
from convladder.data.splits import SPLITS
from convladder.errors import ConvladderError

Rows: TypeAlias = npt.NDArray[np.int64]


def check_arrays(arrays: dict[str, npt.NDArray[Any]], path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays, if they are images and labels for training and testing."""
    for split in ("train", "test"):
        images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
            raise ConvladderError(
                f"x_{split} of {path} is {images.dtype} of shape {images.shape}. Expected uint8 of "
                "(count, height, width) or (count, height, width, channels), each at least 1."
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
    arrays: dict[str, npt.NDArray[Any]],
    name: str,
    *,
    validation: float,
    seed: int,
    keep_leaks: bool = False,
    known: bool = False,
) -> Dataset:
    """Make a Dataset from checked arrays. Its classes are the labels that occur, named by their values.

    Args:
        arrays: As `check_arrays` returns them.
        name: Name of the data set.
        validation: Share of the training images to hold out, stratified by class.
        seed: Seed of that choice.
        keep_leaks: Whether to train on copies of validation and test images.
        known: Whether the data are known to be sound, so that checks are skipped.

    Raises:
        ConvladderError: There is only one label, there are nearly as many labels as images, or a label has too few
            images to hold one out.
    """
    values, labels = np.unique(np.concatenate([arrays["y_train"], arrays["y_test"]]), return_inverse=True)
    if len(values) < 2:
        raise ConvladderError(f"All labels of {name} are {values[0]}. Expected at least two classes.")
    if too_many_classes(len(values), len(labels)):
        raise ConvladderError(
            f"The {len(labels):,} labels of {name} have {len(values):,} values, {values[0]} to {values[-1]}. Expected "
            "classes with several images each."
        )
    class_names = tuple(map(str, values))
    trained = len(arrays["y_train"])
    alone = np.flatnonzero(np.bincount(labels[:trained]) == 1)
    if validation and len(alone):
        raise ConvladderError(
            f"The training images of {name} cannot be split by class, because only one has the label "
            f"{class_names[alone[0]]}. Expected at least two per class: correct the label, or add images."
        )
    kept, held_out = _hold_out(labels[:trained], validation, seed)
    images = _with_channels(arrays["x_train"])
    test = Split(_with_channels(arrays["x_test"]), labels[trained:])
    if known:
        train, validated = (Split(images[rows], labels[rows]) for rows in (kept, held_out))
        return Dataset(name, class_names, train, validated, test)
    splits = np.full(len(labels), SPLITS.index("test"))
    splits[kept], splits[held_out] = SPLITS.index("train"), SPLITS.index("validation")
    digests = np.concatenate([digest_images(part) for part in (images, test.images)])
    constant = np.concatenate([part.min(axis=(1, 2, 3)) == part.max(axis=(1, 2, 3)) for part in (images, test.images)])
    names = [f"x_train[{row}]" for row in range(trained)] + [f"x_test[{row}]" for row in range(len(test))]
    lines = []
    if not keep_leaks:
        copies = np.unique(digests, return_inverse=True)[1]
        copies[constant] = np.arange(len(copies), len(copies) + int(constant.sum()))
        splits = without_leaks(copies, splits)
        said = say_left_out(
            [f"{name} of {class_names[label]}" for name, label in zip(names, labels, strict=True)], copies, splits
        )
        lines += [said] if said else []
    kept, held_out = (np.flatnonzero(splits == SPLITS.index(split)) for split in ("train", "validation"))
    if not len(kept):
        raise ConvladderError(f"{name} has only copies for training. Expected other images. {lines[0]}")
    used = np.concatenate([kept, held_out, np.arange(trained, len(labels))])
    lines += list_remarks(
        [names[row] for row in used], labels[used], splits[used], class_names, digests[used], constant[used]
    )
    train, validated = (Split(images[rows], labels[rows]) for rows in (kept, held_out))
    left_out = int((splits == LEFT_OUT).sum())
    return Dataset(name, class_names, train, validated, test, noticed=tuple(lines), leaks_left_out=left_out)


def _with_channels(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return images if images.ndim == 4 else images[..., np.newaxis]


def _hold_out(labels: npt.NDArray[np.int64], share: float, seed: int) -> tuple[Rows, Rows]:
    """Rows for training, and a stratified share of all rows for validation."""
    count = round(share * len(labels))
    if not count:
        return np.arange(len(labels)), np.arange(0)
    from sklearn.model_selection import train_test_split

    try:
        kept, held_out = train_test_split(np.arange(len(labels)), test_size=count, stratify=labels, random_state=seed)
    except ValueError as error:
        raise ConvladderError(f"The training images cannot be split by class: {error}") from error
    return np.sort(kept), np.sort(held_out)
