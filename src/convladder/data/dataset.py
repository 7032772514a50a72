"""Dataset: images, labels and class names, in three splits, with a fingerprint."""

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Split(NamedTuple):
    """Images of shape (count, height, width, channels), uint8, and their labels, shape (count,), int64."""

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of images, not of fields."""
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """What a network is trained, chosen and tested on.

    Attributes:
        name: What it is called in tables.
        class_names: One a label, in the order of the labels.
        train: What the weights are fitted to.
        validation: What the epoch and the rung are chosen on; may be empty.
        test: Read once, when everything has been chosen.
        fit: How pictures of other proportions were brought to this size, and shall be for predictions: "crop", "pad"
            or "stretch".
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fit: str = "stretch"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the class names and every split's pixels and labels: equal if and only if the data are."""
        digest = hashlib.sha256("\0".join(self.class_names).encode())
        for split in (self.train, self.validation, self.test):
            digest.update(repr(split.images.shape).encode())
            digest.update(np.ascontiguousarray(split.images).data)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()

    def without_validation(self) -> "Dataset":
        """The same data, the validation images back among the training images."""
        if not len(self.validation):
            return self
        images = np.concatenate([self.train.images, self.validation.images])
        labels = np.concatenate([self.train.labels, self.validation.labels])
        empty = Split(self.validation.images[:0], self.validation.labels[:0])
        return replace(self, train=Split(images, labels), validation=empty)
