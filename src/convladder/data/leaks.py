"""Leaks: training pictures with a copy in validation or test, found before training.

A picture is used once, in the last of train, validation and test that holds it: training pictures must not select the
epoch, and neither training nor validation pictures may be tested. If chance makes the splits, copies stay together.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from convladder.data.cache import cache_folder, decode_files
from convladder.data.checks import group_equal
from convladder.data.rows import Ahead
from convladder.data.similarity import HASHED_SIDE, group_similar, hash_thumbnails
from convladder.data.splits import SPLITS

if TYPE_CHECKING:
    from convladder.data.dataset import Dataset

LEFT_OUT = len(SPLITS)  # instead of the number of a split
HASHED_AT_ONCE = 1024

Rows = npt.NDArray[np.int64]


def number_copies(paths: Sequence[str], *, near: bool, cache: bool, ahead: Ahead) -> Rows:
    """A number for each file, equal for copies: equal pixels at 32×32, and near copies by a perceptual hash.

    The size is fixed, so that the same copies are found at every image size.

    Args:
        paths: The files.
        near: Whether near copies count. Many drawings and small pictures are similar without being copies.
        cache: As in `decode_files`.
        ahead: Gets the pixels that are wanted next.
    """
    shape, kept = (HASHED_SIDE, HASHED_SIDE, 3), cache and cache_folder() is not None
    small = decode_files(paths, "copies", lambda: shape, "crop", cache=kept, fill=ahead)
    numbers = np.arange(len(paths))
    repeated = small.constant.copy()
    for group in group_equal(small.digests, small.constant):
        numbers[small.sources[group]] = small.sources[group[0]]
        repeated[group[1:]] = True
    if not near or not len(small.sources):
        return numbers
    starts = range(0, len(small.images), HASHED_AT_ONCE)
    hashes, halves = zip(
        *(hash_thumbnails(small.images[start : start + HASHED_AT_ONCE]) for start in starts), strict=True
    )
    first = np.arange(len(paths))  # the first picture of each group, which numbers it
    for group in group_similar(np.concatenate(hashes), np.concatenate(halves), repeated):
        first[small.sources[group]] = small.sources[group[0]]
    return np.asarray(first[numbers])


def without_leaks(numbers: Rows, splits: Rows) -> Rows:
    """The splits; LEFT_OUT for pictures with a copy in a later split."""
    latest = np.zeros(int(numbers.max()) + 1, np.int64)
    np.maximum.at(latest, numbers, splits)
    return np.where(splits < latest[numbers], LEFT_OUT, splits)


def say_left_out(names: Sequence[str], numbers: Rows, splits: Rows) -> str:
    """A line that says how many pictures are left out, with an example and its copy. Empty if there are none.

    Args:
        names: Name of each picture, with its class.
        numbers: As `number_copies` returns them.
        splits: As `without_leaks` returns them.
    """
    left_out = np.flatnonzero(splits == LEFT_OUT)
    if not len(left_out):
        return ""
    kept = np.flatnonzero((numbers == numbers[left_out[0]]) & (splits != LEFT_OUT))
    of = kept[splits[kept].argmax()]
    pictures = "1 picture is" if len(left_out) == 1 else f"{len(left_out):,} pictures are"
    return (
        f"Pictures in more than one split: {pictures} left out of training, because copies or near copies are in "
        f"validation or test ({names[left_out[0]]} is {names[of]}, {SPLITS[splits[of]]}). "
        "--keep-leaks keeps them."
    )


def leaked(data: "Dataset") -> Rows:
    """Rows of the test pictures with a copy in training; under cross-validation, with another copy among all."""
    numbers = data.copies
    tested = numbers[len(numbers) - len(data.test) :]
    if data.by_folds:
        return np.flatnonzero(_counts(numbers[: len(data.train)], tested) > 1)
    found = np.flatnonzero(_counts(numbers[: len(numbers) - len(data.test)], tested) > 0)
    return np.array(
        [row for row in found if np.ptp(data.test.images[row])], np.int64
    )  # pictures of a single colour do not count


def _counts(numbers: npt.NDArray[np.uint64], asked: npt.NDArray[np.uint64]) -> Rows:
    known, counts = np.unique(numbers, return_counts=True)
    places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return np.where(known[places] == asked, counts[places], 0)
