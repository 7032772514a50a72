"""From picture files to a Dataset: splits and decodes them, and accounts for every file."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convladder.data.cache import DecodedFiles, decode_files
from convladder.data.checks import list_remarks
from convladder.data.dataset import NOTHING_TO_TEST, SMALLEST_PHOTOGRAPH, Account, Dataset, Split, digest_content
from convladder.data.decoding import Shape, decode_image, open_picture
from convladder.data.folders import Listing, sort_classes
from convladder.data.leaks import LEFT_OUT, number_copies, say_left_out, without_leaks
from convladder.data.resizing import RESIZINGS
from convladder.data.rows import Ahead
from convladder.data.splits import SPLITS
from convladder.errors import ConvladderError, check_choice, check_range

TEST_SHARE = 0.15  # of each class, if no folder names a test split
SAMPLE = 100  # files that determine size and channels, if these are not given
LARGEST_DEFAULT_SIDE = 48  # two cores train a rung from scratch on this size in a minute
SMALLEST_IMAGE_SIZE, LARGEST_IMAGE_SIZE = 8, 1024
COPY = "copies of pictures for validation or testing"
GRAY_TOLERANCE = 8  # of 255: how much the three channels of a gray picture may differ


@dataclass(frozen=True)
class Settings:
    """How pictures become pixels.

    Attributes:
        image_size: Height and width. None means the median of the shorter sides, at most 48.
        channels: 1 or 3. None means 1 if no picture has colour. 100 evenly spread files determine both.
        resize: As `decode_image` takes it.
        cache: Whether to keep the decoded pictures for later.
        keep_leaks: Whether to train on copies of validation and test pictures.

    Raises:
        ConvladderError: One of them is out of range.
    """

    image_size: int | None
    channels: int | None
    resize: str
    cache: bool
    keep_leaks: bool

    def __post_init__(self) -> None:
        check_choice("way to resize", self.resize, RESIZINGS)
        if self.image_size is not None:
            check_range("the image size", self.image_size, SMALLEST_IMAGE_SIZE, LARGEST_IMAGE_SIZE)
        if self.channels not in (None, 1, 3):
            raise ConvladderError(f"{self.channels} channels are not possible. Expected 1 (gray) or 3 (colour).")


def load_pictures(listing: Listing, name: str, settings: Settings, *, validation: float, seed: int) -> Dataset:
    """Decode the files of a listing into a Dataset whose images are mapped from a file.

    Args:
        listing: The files.
        name: Name of the data set.
        settings: How to decode them.
        validation: Share of the training images to hold out if the listing has no validation split, 0 to 0.5.
        seed: Seed of that choice, and of the test images if the listing has none.

    Raises:
        ConvladderError: No file can be read, fewer than two classes are left, or training or test pictures are missing.
    """
    class_names = sort_classes(set(listing.labels))
    label_of = {class_name: label for label, class_name in enumerate(class_names)}
    labels = np.array([label_of[class_name] for class_name in listing.labels], np.int64)
    side = median_side(listing.paths)
    near = side >= SMALLEST_PHOTOGRAPH
    with contextlib.closing(Ahead(lambda: _choose_shape(listing.paths, settings), settings.resize)) as ahead:
        copies = number_copies(listing.paths, near=near, cache=settings.cache, ahead=ahead)
        splits = choose_splits(labels, listing.splits, validation, seed, None if settings.keep_leaks else copies)
        named = [f"{path} of {label}" for path, label in zip(listing.paths, listing.labels, strict=True)]
        leaks = np.flatnonzero(splits == LEFT_OUT)
        said = say_left_out(named, copies, splits)
        # Each split is a range of rows in one file, in the order of the listing.
        order = np.argsort(splits, kind="stable")[: int((splits != LEFT_OUT).sum())]
        paths = [listing.paths[number] for number in order]
        labels, splits, copies = labels[order], splits[order], copies[order]

        wanted = f"{settings.image_size} {settings.channels}"
        decoded = decode_files(
            paths, wanted, lambda: _choose_shape(paths, settings), settings.resize, cache=settings.cache, take=ahead
        )
    unusable = [(paths[number], reason) for number, reason in decoded.left_out]
    if not len(decoded.sources):
        raise ConvladderError(
            f"None of the {len(paths):,} files of {name} could be read as a picture (the first, {unusable[0][0]}: "
            f"{unusable[0][1]}). Expected JPEG, PNG, BMP, GIF, WebP or TIFF."
        )
    labels, splits, copies = labels[decoded.sources], splits[decoded.sources], copies[decoded.sources]
    labels, class_names = _drop_empty_classes(labels, class_names)
    parts = {split: _part(decoded, labels, splits, number) for number, split in enumerate(SPLITS)}
    _check_parts(parts, name, said, copied=len(labels) > len(np.unique(copies)))
    if len(class_names) < 2:
        raise ConvladderError(f"{name} has one class, {class_names[0]}. Expected at least two folders of pictures.")
    used = [paths[source] for source in decoded.sources]
    remarks = list_remarks(used, labels, splits, class_names, copies.astype(np.uint64), decoded.constant)
    remarks = [said, *remarks] if said else remarks
    return Dataset(
        name,
        tuple(class_names),
        parts["train"],
        parts["validation"],
        parts["test"],
        resize=settings.resize,
        native_side=side,
        held_out="test" not in listing.splits,
        alike=_alike(copies, decoded.digests.astype(">u8").view(np.uint64)),
        leaks_left_out=len(leaks),
        content=_content(class_names, labels, splits, decoded.files),
        account=_account(listing, [*unusable, *((listing.paths[number], COPY) for number in leaks)], remarks, used),
    )


def _account(
    listing: Listing, left_out: Sequence[tuple[str, str]], remarks: Sequence[str], used: Sequence[str]
) -> Account:
    return Account(
        files=len(listing.paths) + len(listing.left_out) + sum(listing.ignored.values()),
        ignored=dict(listing.ignored),
        left_out=(*listing.left_out, *left_out),
        remarks=(*listing.notes, *remarks),
        paths=tuple(used),
    )


def _check_parts(parts: Mapping[str, Split], name: str, leaks: str, *, copied: bool) -> None:
    """Refuse data with nothing to train on or to test on, and say where copies are the reason."""
    if not len(parts["train"]) and leaks:
        raise ConvladderError(f"{name} has only copies for training. Expected other pictures. {leaks}")
    if len(parts["train"]) and not len(parts["test"]) and copied:
        raise ConvladderError(NOTHING_TO_TEST.format(name=name))
    for split in ("train", "test"):
        if not len(parts[split]):
            raise ConvladderError(
                f"{name} has no pictures for {split}. Expected at least two in a class, or some in a folder {split}."
            )


def choose_splits(
    labels: npt.NDArray[np.int64],
    given: Sequence[str],
    validation: float,
    seed: int,
    copies: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """The split of each file, as its index in SPLITS: the given one, or else a random choice stratified by class.

    Args:
        labels: Shape (count,).
        given: For each file "train", "validation", "test", or an empty text if its folder does not say.
        validation: Share of the training images to hold out if no validation split is given.
        seed: Seed of the choice.
        copies: A number for each file, equal for copies. Copies are put into one split; if they were given several,
            those in earlier splits are LEFT_OUT. By default, each file is chosen independently.
    """
    splits = np.array([SPLITS.index(split) if split else 0 for split in given], np.int64)
    copies = np.arange(len(labels)) if copies is None else copies
    splits = without_leaks(copies, splits)
    free = np.flatnonzero(splits == 0)
    _, first, group = np.unique(copies[free], return_index=True, return_inverse=True)
    chosen = np.zeros(len(labels), np.bool_)
    chosen[free[first]] = True
    hold_out_test, hold_out_validation = 2 not in splits, 1 not in splits and validation > 0
    for label in np.unique(labels):
        candidates = np.flatnonzero((labels == label) & chosen)
        shuffled = np.random.default_rng((seed, int(label))).permutation(candidates)
        # At least one, if one is left to train on.
        tested = max(1, round(TEST_SHARE * len(shuffled))) if hold_out_test and len(shuffled) > 1 else 0
        left = len(shuffled) - tested
        validated = max(1, round(validation * left)) if hold_out_validation and left > 1 else 0
        splits[shuffled[:tested]] = 2
        splits[shuffled[tested : tested + validated]] = 1
    splits[free] = splits[free[first]][group]
    return splits


def median_side(paths: Sequence[str]) -> int:
    """Median of the shorter sides of 100 evenly spread pictures, from their headers; 0 if none can be read."""
    shorter = []
    for path in _sample(paths):
        with contextlib.suppress(ConvladderError), open_picture(path) as picture:
            shorter.append(min(picture.size))
    return int(np.median(shorter)) if shorter else 0


def _choose_shape(paths: Sequence[str], settings: Settings) -> Shape:
    side, channels = settings.image_size, settings.channels
    if side is None:
        side = int(np.clip(median_side(paths) or LARGEST_DEFAULT_SIDE, SMALLEST_IMAGE_SIZE, LARGEST_DEFAULT_SIDE))
    if channels is None:
        channels = 3 if any(map(_has_colours, _sample(paths))) else 1
    return side, side, channels


def _sample(paths: Sequence[str]) -> list[Path]:
    return [Path(paths[number]) for number in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int))]


def _has_colours(path: Path) -> bool:
    try:
        pixels = decode_image(path, (32, 32, 3)).astype(np.int64)
    except ConvladderError:
        return False
    return bool(np.ptp(pixels, axis=2).max() > GRAY_TOLERANCE)


def _content(
    class_names: Sequence[str],
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int64],
    files: npt.NDArray[np.uint64],
) -> str:
    """SHA-256 over training and test pictures. Validation pictures count as training pictures."""
    tested = splits == SPLITS.index("test")
    return digest_content(class_names, *([files[rows], labels[rows]] for rows in (~tested, tested)))


def _alike(copies: npt.NDArray[np.int64], digests: npt.NDArray[np.uint64]) -> dict[int, int]:
    """From the digest of each picture that has copies to the number of their group."""
    _, first, group, counts = np.unique(copies, return_index=True, return_inverse=True, return_counts=True)
    several = counts[group] > 1
    return dict(zip(digests[several].tolist(), digests[first][group][several].tolist(), strict=True))


def _drop_empty_classes(
    labels: npt.NDArray[np.int64], class_names: list[str]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Drop the classes without a readable file."""
    present, renumbered = np.unique(labels, return_inverse=True)
    return renumbered.astype(np.int64), [class_names[label] for label in present]


def _part(decoded: DecodedFiles, labels: npt.NDArray[np.int64], splits: npt.NDArray[np.int64], number: int) -> Split:
    start, stop = np.searchsorted(splits, [number, number + 1])
    return Split(decoded.images[start:stop], labels[start:stop])
