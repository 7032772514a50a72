"""The Dataset: images, labels and class names in three splits, with a fingerprint."""

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
SMALLEST_PHOTOGRAPH = 64  # pixels of the shorter side; digits and icons have fewer
NOTHING_TO_TEST = (
    "No class of {name} has two different pictures. Expected at least one class with two, one to train on and one to "
    "test: add pictures."
)
PLACES_A_SLICE = 1 << 20  # pixels per slice: 500 images of 45×45, or 20 of 224×224, whose feature maps take 0.4 GB


class Split(NamedTuple):
    """Images of shape (count, height, width, channels), uint8, and their labels, shape (count,), int64.

    The images may be a numpy.memmap: an array in a file, read only where it is indexed.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """The number of images, not of the tuple's fields."""
        return len(self.labels)


@dataclass(frozen=True)
class Account:
    """What became of every file of a folder, and what problems were found.

    Attributes:
        files: Number of all files: used, left out and ignored.
        ignored: Number of files that were skipped, by reason.
        left_out: Path and reason for each file that should be a picture and cannot be used.
        remarks: One line per problem, such as copies in two splits or classes with few images.
        paths: Path of each used picture, in the order train, validation, test.
    """

    files: int
    ignored: Mapping[str, int] = field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    @property
    def pictures(self) -> int:
        """The number of files that are used."""
        return self.files - len(self.left_out) - sum(self.ignored.values())

    def lines(self) -> list[str]:
        """The account as lines of text. Unprintable characters of names are escaped."""
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
    """The images that a network is trained, selected and tested on.

    Attributes:
        name: Its name in tables.
        class_names: One per label, in the order of the labels.
        train: Images that the weights are fitted to.
        validation: Images that select the epoch and the rung. May be empty.
        test: Images that are used once, after everything is selected.
        resize: How pictures of other proportions were resized, and will be for predictions: "crop", "pad"
            or "stretch".
        account: What became of each file; None for data from arrays.
        native_side: Median of the pictures' shorter sides in their files, in pixels; 0 for arrays.
        held_out: Whether the test pictures were chosen at random, because no folder names any.
        by_folds: Whether the test pictures are training pictures too, and are tested by cross-validation.
        content: For pictures in files, a SHA-256 over class names, labels, splits and the files' bytes. It is the
            same at every decoded size.
        leaks_left_out: Number of pictures left out of training because a copy is in validation or test.
        alike: From the digest of a picture's pixels to a number that its near copies share.
        noticed: For arrays, one line per problem.
        source: The arguments of `load_dataset`, so that it can be called again: `source`, an absolute path or the
            name of an embedded set, and the settings, as run.json keeps them. Empty for data built in Python.
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
        """What became of the files, and the problems of files or arrays, one per line."""
        return self.account.lines() if self.account else list(self.noticed)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that do not overlap: each picture is in exactly one of them."""
        return (self.train,) if self.by_folds else (self.train, self.validation, self.test)

    @property
    def photographs(self) -> bool:
        """Whether these are pictures in files, large enough for a pretrained network."""
        return self.native_side >= SMALLEST_PHOTOGRAPH

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the class names and every split's pixels and labels: equal only for equal data."""
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
        """Runs with equal identity can be compared. `content`; for arrays, a hash of pixels and labels."""
        if self.content:
            return self.content
        learnt = np.concatenate([self.train.labels, self.validation.labels])
        digests = np.split(self.digests, [len(learnt)])
        return digest_content(self.class_names, [digests[0], learnt], [digests[1], self.test.labels])

    @cached_property
    def digests(self) -> npt.NDArray[np.uint64]:
        """A digest per picture of train, validation and test, in this order: equal for equal pixels."""
        return np.concatenate([digest_images(split.images) for split in (self.train, self.validation, self.test)])

    @property
    def copies(self) -> npt.NDArray[np.uint64]:
        """Like `digests`, but equal for known near copies too."""
        if not self.alike:
            return self.digests
        return np.array([self.alike.get(digest, digest) for digest in self.digests.tolist()], np.uint64)

    def without_validation(self) -> "Dataset":
        """The same data, with the validation images moved to the training images."""
        if not len(self.validation):
            return self
        images = join(self.train.images, self.validation.images)
        labels = np.concatenate([self.train.labels, self.validation.labels])
        empty = Split(self.validation.images[:0], self.validation.labels[:0])
        return replace(self, train=Split(images, labels), validation=empty)

    def pooled(self) -> "Dataset":
        """The same pictures with nothing held out: train on all of them, and test by cross-validation.

        Of copies in a class only one is kept, because the others would give the answer away; unless leaks are kept.
        Pictures are tested only in classes with at least two, so that one is left to learn the class from.
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
    """Classes and splits with their numbers of pictures; of many classes, the largest and the smallest."""
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
    """Digests, shape (count,): equal for equal pixels."""
    digests = []
    for part in slices(images):
        digests += [hashlib.blake2b(image.data, digest_size=8).digest() for image in np.ascontiguousarray(part)]
    return np.frombuffer(b"".join(digests), np.uint64)


def digest_content(class_names: Sequence[str], *parts: Sequence[npt.NDArray[Any]]) -> str:
    """SHA-256 over training and test data, each as digests and labels, independent of their order."""
    digest = hashlib.sha256("\0".join(class_names).encode())
    for digests, labels in parts:
        order = np.lexsort((labels, digests))
        digest.update(digests[order].tobytes() + labels[order].tobytes())
    return digest.hexdigest()


def release(images: npt.NDArray[np.uint8]) -> None:
    """Release the memory of a mapped file's pages; the system may still cache them. Other arrays are left alone.

    Otherwise a pass over the images would count all of them as memory of this process.
    """
    mapped: object = images if isinstance(images, np.memmap) else None
    while isinstance(mapped, np.ndarray):
        mapped = mapped.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def slices(images: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the images in order, in slices so small that a network's feature maps fit into memory."""
    height, width = images.shape[1:3]
    size = max(1, min(IMAGES_A_SLICE, PLACES_A_SLICE // (height * width)))
    for start in range(0, len(images), size):
        check_stop()
        yield images[start : start + size]
        release(images)


def join(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Concatenate. Nothing is read if the two are adjacent in one mapped file."""
    whole = first.base
    if isinstance(whole, np.memmap) and second.base is whole and _address(first) + first.nbytes == _address(second):
        start = (_address(first) - _address(whole)) // whole.strides[0]
        return whole[start : start + len(first) + len(second)]
    return np.concatenate([first, second])


def _address(array: npt.NDArray[np.uint8]) -> int:
    return int(array.__array_interface__["data"][0])
