"""Dataset: images, labels and class names, in three splits, with a fingerprint."""

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convladder.data.resizing import accept_fit
from convladder.errors import ConvladderError
from convladder.markup import printable
from convladder.signals import check_stop

BYTES_A_READ = 1 << 25
MOST_CLASSES_NAMED = 20
IMAGES_A_SLICE = 500
SMALLEST_PHOTOGRAPH = 64  # pixels of the shorter side: digits and icons have fewer
NOTHING_TO_TEST = (
    "No class of {name} has two different pictures. Expected at least one that has, so that one can be learned from "
    "and the other be tested: add pictures."
)
PLACES_A_SLICE = 1 << 20  # of a slice's images together: 500 of 45×45, 20 of 224×224, whose maps take 0.4 GB


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
        resize: How pictures of other proportions were brought to this size, and shall be for predictions: "crop", "pad"
            or "stretch".
        account: Of data from files of pictures, what became of each file.
        native_side: Of data from files of pictures, the median of their shorter sides in pixels; 0 of arrays.
        held_out: Whether chance chose the test pictures from all, since no folder names any.
        by_folds: Whether the test pictures are among the training pictures as well, to be tested by cross-validation.
        content: Of data from files of pictures, a SHA-256 over class names, labels, splits and the files' bytes: the
            same at every size that they are decoded at.
        leaks_left_out: How many pictures are not learned from, because a copy of them validates or tests.
        alike: Of pictures with near copies, by the digest of their pixels, what is equal for near copies.
        noticed: Of arrays, a line for each thing that whoever trains on them should know.
        source: What `load_dataset` was called with, so that it can be called again: `source`, an absolute path or the
            name of an embedded set, and its settings, as run.json keeps them; none for data built in Python.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    resize: str = "stretch"
    account: Account | None = None
    native_side: int = 0
    held_out: bool = False
    by_folds: bool = False
    content: str = ""
    leaks_left_out: int = 0
    alike: Mapping[int, int] = field(default_factory=dict)
    noticed: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def fit(self) -> str:
        """What `resize` was called before."""
        return self.resize

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    def lines(self) -> list[str]:
        """What became of the files, and what was noticed in them or in arrays, a line each."""
        return self.account.lines() if self.account else list(self.noticed)

    @property
    def splits(self) -> tuple[Split, ...]:
        """All splits that hold pictures of their own: each picture stands in one of them, once."""
        return (self.train,) if self.by_folds else (self.train, self.validation, self.test)

    @property
    def photographs(self) -> bool:
        """Whether these are pictures in files, of a size that a pretrained network can make something of."""
        return self.native_side >= SMALLEST_PHOTOGRAPH

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

    @property
    def identity(self) -> str:
        """What runs must share to be compared: `content`; of arrays the same over their pixels, whatever validates."""
        if self.content:
            return self.content
        learnt = np.concatenate([self.train.labels, self.validation.labels])
        digests = np.split(self.digests, [len(learnt)])
        return digest_content(self.class_names, [digests[0], learnt], [digests[1], self.test.labels])

    @cached_property
    def digests(self) -> npt.NDArray[np.uint64]:
        """Of the pictures of train, validation and test, in this order: equal for equal pixels."""
        return np.concatenate([digest_images(split.images) for split in (self.train, self.validation, self.test)])

    @property
    def copies(self) -> npt.NDArray[np.uint64]:
        """The same, equal for near copies as well, where they are known."""
        if not self.alike:
            return self.digests
        return np.array([self.alike.get(digest, digest) for digest in self.digests.tolist()], np.uint64)

    def without_validation(self) -> "Dataset":
        """The same data, the validation images back among the training images."""
        if not len(self.validation):
            return self
        images = join(self.train.images, self.validation.images)
        labels = np.concatenate([self.train.labels, self.validation.labels])
        empty = Split(self.validation.images[:0], self.validation.labels[:0])
        return replace(self, train=Split(images, labels), validation=empty)

    def pooled(self) -> "Dataset":
        """The same pictures, with nothing held out: all are to be trained on, and tested by cross-validation.

        Of copies in a class one is kept, because the others would give its answer away; unless leaks are kept. The
        test pictures are those of classes that have two or more, so that one is left to learn the class from.
        """
        splits = (self.train, self.validation, self.test)
        images = join(join(self.train.images, self.validation.images), self.test.images)
        labels = np.concatenate([split.labels for split in splits])
        rows = np.arange(len(labels))
        if not (self.source or {}).get("keep_leaks"):
            first = np.unique(np.stack([labels.astype(np.uint64), self.copies]), axis=1, return_index=True)[1]
            rows = np.sort(first)
        tested = rows[np.bincount(labels[rows])[labels[rows]] > 1]
        if not len(tested):
            raise ConvladderError(NOTHING_TO_TEST.format(name=self.name))
        account = self.account
        if account is not None:
            account = replace(account, paths=tuple(account.paths[row] for row in (*rows, *tested)))
        return replace(
            self,
            train=Split(images[rows], labels[rows]),
            validation=Split(images[:0], labels[:0]),
            test=Split(images[tested], labels[tested]),
            account=account,
            by_folds=True,
        )


Dataset.__init__ = accept_fit(Dataset.__init__)  # type: ignore[method-assign]


def describe_classes(data: Dataset) -> str:
    """The classes with their numbers of pictures, of many the largest and the smallest, and the sizes of the splits."""
    labels = np.concatenate([split.labels for split in data.splits])
    counts = np.bincount(labels, minlength=data.num_classes)
    order = list(range(data.num_classes))
    if data.num_classes > MOST_CLASSES_NAMED:
        order = [int(label) for label in np.argsort(-counts, kind="stable")]
        order = [*order[: MOST_CLASSES_NAMED - 1], order[-1]]
    named = [f"{printable(data.class_names[label])} ({counts[label]:,})" for label in order]
    if data.num_classes > MOST_CLASSES_NAMED:
        named[-1] = f"… {named[-1]}"
    return (
        f"{data.num_classes:,} classes: {', '.join(named)}. {len(data.train):,} pictures for training, "
        f"{len(data.validation):,} for validation, {len(data.test):,} for testing."
    )


def digest_images(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Equal for equal pixels, shape (count,)."""
    digests = []
    for part in slices(images):
        digests += [hashlib.blake2b(image.data, digest_size=8).digest() for image in np.ascontiguousarray(part)]
    return np.frombuffer(b"".join(digests), np.uint64)


def digest_content(class_names: Sequence[str], *parts: Sequence[npt.NDArray[Any]]) -> str:
    """SHA-256 over what is learnt from and what is tested on, each as digests and labels, in whatever order."""
    digest = hashlib.sha256("\0".join(class_names).encode())
    for digests, labels in parts:
        order = np.lexsort((labels, digests))
        digest.update(digests[order].tobytes() + labels[order].tobytes())
    return digest.hexdigest()


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
