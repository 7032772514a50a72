"""Dataset: images, labels and class names, in three splits, with a fingerprint."""

import hashlib
import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convladder.names import printable
from convladder.signals import check_stop

BYTES_A_READ = 1 << 25
IMAGES_A_SLICE = 500
PLACES_A_SLICE = 1 << 22  # of a slice's images together: 500 of 91×91, 83 of 224×224


class Split(NamedTuple):
    """Images of shape (count, height, width, channels), uint8, and their labels, shape (count,), int64.

    The images may be a numpy.memmap: an array that lies in a file, and of which is read what is asked for.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of images, not of fields."""
        return len(self.labels)


@dataclass(frozen=True)
class Account:
    """What became of every file of a folder, and what was noticed in passing.

    Attributes:
        files: All files: pictures, left out and ignored.
        ignored: By reason, how many were passed over for their names.
        left_out: Path and reason of those that should be pictures and cannot be used.
        remarks: A line for each thing that was noticed: copies in two splits, classes of few images.
        paths: Of each picture that is used, in the order of train, validation, test.
    """

    files: int
    ignored: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """How many files are used."""
        return self.files - len(self.left_out) - sum(self.ignored.values())

    def lines(self) -> list[str]:
        """What there is to say, a line each; what cannot be printed of a name is escaped."""
        passed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.ignored.items()))
        counted = f"{self.files:,} files: {self.pictures:,} pictures"
        if self.left_out:
            counted += f", {len(self.left_out):,} left out"
        if passed:
            counted += f", {sum(self.ignored.values()):,} ignored ({passed})"
        reasons: dict[str, list[str]] = {}
        for path, reason in self.left_out:
            reasons.setdefault(reason, []).append(path)
        lines = [
            f"{counted}.",
            *(
                f"Left out, {reason}: {', '.join(paths[:3])}{f' and {len(paths) - 3:,} more' if paths[3:] else ''}."
                for reason, paths in sorted(reasons.items())
            ),
            *self.remarks,
        ]
        return [printable(line) for line in lines]


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
        account: Of data from files of pictures, what became of each file.
        source: What `load_dataset` was called with, so that it can be called again: `source`, an absolute path or the
            name of an embedded set, and its settings; none for data built in Python.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    fit: str = "stretch"
    account: Account | None = None
    source: Mapping[str, Any] | None = field(default=None, compare=False)

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
            rows = max(1, BYTES_A_READ // int(np.prod(split.images.shape[1:])))
            for start in range(0, len(split), rows):
                digest.update(np.ascontiguousarray(split.images[start : start + rows]).data)
                release(split.images)
            digest.update(np.ascontiguousarray(split.labels).data)
        return digest.hexdigest()

    def without_validation(self) -> "Dataset":
        """The same data, the validation images back among the training images."""
        if not len(self.validation):
            return self
        images = join(self.train.images, self.validation.images)
        labels = np.concatenate([self.train.labels, self.validation.labels])
        empty = Split(self.validation.images[:0], self.validation.labels[:0])
        return replace(self, train=Split(images, labels), validation=empty)


def release(images: npt.NDArray[np.uint8]) -> None:
    """Give back the memory of what was read of a mapped file, which the system may keep; other arrays stay as they are.

    Without it, a pass over the images would count all of them as memory of this process.
    """
    mapped: object = images if isinstance(images, np.memmap) else None
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def slices(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """The images in order, as many at a time as a network's feature maps of them fit into memory."""
    height, width = images.shape[1:3]
    size = max(1, min(IMAGES_A_SLICE, PLACES_A_SLICE // (height * width)))
    for start in range(0, len(images), size):
        check_stop()
        yield images[start : start + size]
        release(images)


def join(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Concatenate; without reading anything where the two follow one another in one mapped file."""
    whole = first.base
    if isinstance(whole, np.memmap) and second.base is whole and _address(first) + first.nbytes == _address(second):
        start = (_address(first) - _address(whole)) // whole.strides[0]
        return whole[start : start + len(first) + len(second)]
    return np.concatenate([first, second])


def _address(array: npt.NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])
