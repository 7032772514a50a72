"""The audit: finds what is wrong with a folder of pictures before you train on it."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convladder.data.candidates import NOT_READ, READ
from convladder.data.checks import (
    FEW_A_CLASS,
    IMBALANCE,
    Groups,
    count_classes,
    few_pictures,
    group_equal,
    imbalance,
    same_class_names,
    sort_copies,
)
from convladder.data.csv_tables import is_table, list_csv
from convladder.data.decoding import chunk_size, decode_image, name_defect, open_picture, significant_bits
from convladder.data.folders import Listing, list_folder, sort_classes
from convladder.data.loading import locate
from convladder.data.similarity import HASHED_SIDE, group_similar, hash_thumbnails
from convladder.data.splits import SPLITS
from convladder.errors import ConvladderError
from convladder.workers import map_files

TINY = 8  # pixels of the shorter side
ODD_SIZE = 4.0  # times the median, or the median divided by this
ODD_PROPORTION = 2.0
HASHED_AT_ONCE = 1024

ENDINGS_OF_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
}

LABEL_ERRORS = "likely label errors"

ADVICE = {
    "empty": "The file is empty: copy it again, or delete it.",
    "no picture": "The content is not JPEG, PNG, BMP, GIF, WebP or TIFF, whatever the name says.",
    "truncated": "The end of the file is missing: copy it again.",
    "too large": "It claims more than 100 million pixels or needs over 800 MB to decode: shrink it, or delete it.",
    "unreadable": "The content is damaged, or the file cannot be opened.",
    "a link to nothing": "The target of the link does not exist.",
    "no such file": "The row names a file that does not exist.",
    "a row without path or label": "Complete the row, or remove it.",
    "a row without split": "Complete the row, or remove it.",
    "misnamed": "The content has another format than the file's extension says. It can be read.",
    "fewer than 16 bits": "Its values use only 8, 10, 12 or 14 of 16 bits. It is scaled, so that it is not too dark.",
    "tiny": f"A side has fewer than {TINY} pixels, too few to learn anything from.",
    "one colour": "All pixels are equal: often the result of a failed download.",
    "copies": "The same file is in a class twice, so it counts twice in training: keep one.",
    "copies across classes": "The same file has two labels, so one of them is wrong.",
    "copies across splits": "The same file is in training and evaluation, so scores are too good: remove one.",
    "near copies": "Nearly the same picture is in a class twice, saved again, resized or retouched: keep one.",
    "near copies across classes": "Nearly the same picture has two labels: one of them may be wrong.",
    "near copies across splits": "Nearly the same picture is in training and evaluation: scores may be too good.",
    "altered copies": "A crop of a picture, or a copy in other light, is in the same class: keep one.",
    "altered copies across classes": "A crop, or a copy in other light, has another label: one of them may be wrong.",
    "altered copies across splits": "A crop, or a copy in other light, is in training and evaluation: scores are too "
    "good.",
    "odd size": f"More than {ODD_SIZE:g} times larger or smaller than the median: perhaps an icon.",
    "odd proportions": f"More than {ODD_PROPORTION:g} times wider or taller than usual: crop cuts, stretch distorts.",
    "few pictures": f"The class has fewer than {FEW_A_CLASS} training pictures, too few to learn it from.",
    "imbalance": f"One class has at least {IMBALANCE:g} times as many pictures as another: training weights them.",
    "class without pictures": "No file of the class can be used; it is left out.",
    "class names alike": "They differ only in case, spaces or Unicode composition: perhaps they are one class.",
    LABEL_ERRORS: "A model that was not trained on the picture is sure of another class: check the label.",
    "outliers": "It is unlike the other pictures of its class: perhaps from another data set, or of something else.",
    "class name not ASCII": "It is kept as it is, but other programs and systems may display it differently.",
}


class Finding(NamedTuple):
    """One kind of thing that is wrong.

    Attributes:
        check: Its name, a key of ADVICE.
        groups: The files or classes that it affects, in groups that belong together.
    """

    check: str
    groups: list[list[str]]

    @property
    def advice(self) -> str:
        """What the finding means, and what to do."""
        return ADVICE.get(self.check, "Look at it, or remove it.")


@dataclass(frozen=True)
class Audit:
    """The contents of a folder of pictures, and what is wrong with it.

    Attributes:
        source: The folder or CSV file.
        files: The number of all files. `pictures` of them can be used, `left_out` cannot; the rest is ignored.
        pictures: See `files`.
        left_out: See `files`.
        ignored: Number of files that were skipped, by reason.
        classes: Number of usable pictures, by class.
        median_size: Width and height, in pixels.
        findings: What is wrong, in the order of ADVICE.
        notes: What could not be judged, and why.
        learning_curve: As `LearningCurve.as_dict` returns it, if it was measured.
    """

    source: str
    files: int
    pictures: int
    left_out: int
    ignored: dict[str, int]
    classes: dict[str, int]
    median_size: tuple[int, int]
    findings: list[Finding]
    notes: tuple[str, ...] = ()
    learning_curve: dict[str, Any] | None = None

    def with_findings(self, more: Sequence[Finding], notes: Sequence[str] = ()) -> "Audit":
        """The same audit with more findings."""
        found = sorted(
            [*self.findings, *(finding for finding in more if finding.groups)], key=lambda f: _place(f.check)
        )
        return replace(self, findings=found, notes=(*self.notes, *notes))

    def as_dict(self) -> dict[str, Any]:
        """What `convladder audit --json` prints."""
        findings = [
            {"check": f.check, "count": len(f.groups), "advice": f.advice, "groups": f.groups} for f in self.findings
        ]
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"findings": findings}


class Inspected(NamedTuple):
    """What the audit keeps of a picture: format, size, a digest of the file and 32×32 pixels of three channels.

    `few_bits`: the picture has 16 bits and uses fewer.
    """

    format: str
    width: int
    height: int
    few_bits: bool
    digest: int
    thumbnail: bytes


def audit(source: str | Path, columns: Mapping[str, str] | None = None) -> Audit:
    """Check every file of a folder, of a CSV file with path and label, or of the embedded "clothes".

    Args:
        source: The folder, the .csv file, or "clothes".
        columns: As `load_dataset` takes them.

    Raises:
        ConvladderError: The folder cannot be read, or holds no files in folders of classes.
    """
    if source == "mnist":
        raise ConvladderError("mnist holds arrays, not files. Expected clothes, or a folder or .csv file of pictures.")
    path = locate(source)
    listing = list_csv(path, columns) if is_table(path) else list_folder(path)
    found: dict[str, list[list[str]]] = {}
    for name, reason in listing.left_out:
        found.setdefault(reason, []).append([name])
    kept, pictures, hashes, thumbnails = _inspect_all(listing, found)
    class_names = sort_classes(listing.classes)
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = np.array([label_of[listing.labels[number]] for number in kept], np.int64)
    splits = np.array([SPLITS.index(listing.splits[number] or "train") for number in kept], np.int64)
    names = [listing.paths[number] for number in kept]
    sizes = np.array([(picture.width, picture.height) for picture in pictures], np.int64).reshape(-1, 2)

    one_colour = np.array([_one_colour(thumbnail) for thumbnail in thumbnails], np.bool_)
    _check_files(names, pictures, sizes, one_colour, found)
    digests = np.array([picture.digest for picture in pictures], np.uint64)
    copies = group_equal(digests, one_colour)
    skip = one_colour.copy()
    skip[[row for group in copies for row in group[1:]]] = True
    for prefix, groups in (("", copies), ("near ", group_similar(hashes, thumbnails, skip))):
        within, across_classes, across_splits = sort_copies(groups, labels, splits)
        found[f"{prefix}copies"] = _named(within, names)
        found[f"{prefix}copies across classes"] = _named(across_classes, names)
        found[f"{prefix}copies across splits"] = _named(across_splits, names)
    counts = count_classes(labels, class_names)
    _check_classes(count_classes(labels[splits == 0], class_names), counts, found)
    return Audit(
        source=str(path),
        files=len(listing.paths) + len(listing.left_out) + sum(listing.ignored.values()),
        pictures=len(pictures),
        left_out=len(listing.paths) + len(listing.left_out) - len(pictures),
        ignored=dict(listing.ignored),
        classes=counts,
        median_size=(int(np.median(sizes[:, 0])), int(np.median(sizes[:, 1]))) if len(pictures) else (0, 0),
        findings=[Finding(check, found[check]) for check in sorted(found, key=_place) if found[check]],
    )


def inspect_file(path: str) -> Inspected | str:
    """Read a whole picture; returns the name of its defect if that fails."""
    file = Path(path)
    try:
        if not file.stat().st_size:
            return "empty"
        with open_picture(file) as picture:
            form, (width, height) = picture.format or "", picture.size
            few_bits = significant_bits(picture) < 16
        pixels = decode_image(file, (HASHED_SIDE, HASHED_SIDE, 3))
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=8)).digest()
    except ConvladderError as error:
        return name_defect(error)
    except OSError:
        return "unreadable"
    return Inspected(form, width, height, few_bits, int.from_bytes(digest, "big"), pixels.tobytes())


def _inspect_all(
    listing: Listing, found: dict[str, list[list[str]]]
) -> tuple[list[int], list[Inspected], npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Usable files, with their hashes and 16×16 thumbnails. The defects of other files are added to `found`."""
    kept: list[int] = []
    pictures: list[Inspected] = []
    hashes, thumbnails = [np.empty(0, np.uint64)], [np.empty((0, HASHED_SIDE // 2, HASHED_SIDE // 2, 3), np.uint8)]
    waiting: list[bytes] = []

    def hash_waiting() -> None:
        hashed, halves = hash_thumbnails(
            np.frombuffer(b"".join(waiting), np.uint8).reshape(-1, HASHED_SIDE, HASHED_SIDE, 3)
        )
        hashes.append(hashed)
        thumbnails.append(halves)
        waiting.clear()

    for number, result in enumerate(map_files(inspect_file, listing.paths, chunk_size(listing.paths))):
        if isinstance(result, Inspected):
            kept.append(number)
            pictures.append(result._replace(thumbnail=b""))
            waiting.append(result.thumbnail)
            if len(waiting) == HASHED_AT_ONCE:
                hash_waiting()
        else:
            found.setdefault(result or "unreadable", []).append([listing.paths[number]])
    if waiting:
        hash_waiting()
    return kept, pictures, np.concatenate(hashes), np.concatenate(thumbnails)


def _check_files(
    names: Sequence[str],
    pictures: Sequence[Inspected],
    sizes: npt.NDArray[np.int64],
    one_colour: npt.NDArray[np.bool_],
    found: dict[str, list[list[str]]],
) -> None:
    """What is odd in a picture by itself, or beside the median of all."""

    def note(check: str, odd: Iterable[bool | np.bool_]) -> None:
        found[check] = [[name] for name, is_odd in zip(names, odd, strict=True) if is_odd]

    note("misnamed", [_misnamed(name, picture.format) for name, picture in zip(names, pictures, strict=True)])
    note("fewer than 16 bits", [picture.few_bits for picture in pictures])
    if len(pictures):
        note("tiny", sizes.min(axis=1) < TINY)
        note("odd size", _odd(sizes.min(axis=1), ODD_SIZE))
        note("odd proportions", _odd(sizes[:, 0] / sizes[:, 1], ODD_PROPORTION))
    note("one colour", one_colour)


def _check_classes(training: dict[str, int], counts: dict[str, int], found: dict[str, list[list[str]]]) -> None:
    names = list(counts)
    found["class without pictures"] = [[name] for name, count in counts.items() if not count]
    found["few pictures"] = [[f"{name} ({count})"] for name, count in few_pictures(training).items() if counts[name]]
    if imbalance(training) >= IMBALANCE:
        present = {name: count for name, count in training.items() if count}
        smallest, largest = min(present, key=lambda name: present[name]), max(present, key=lambda name: present[name])
        found["imbalance"] = [[f"{largest} ({present[largest]})", f"{smallest} ({present[smallest]})"]]
    found["class names alike"] = same_class_names(names)
    found["class name not ASCII"] = [[name] for name in names if not name.isascii()]


def _misnamed(name: str, form: str) -> bool:
    ending = os.path.splitext(name)[1].lower()
    return ending in READ + NOT_READ and ending not in ENDINGS_OF_FORMAT.get(form, (ending,))


def _odd(values: npt.NDArray[np.float64] | npt.NDArray[np.int64], factor: float) -> npt.NDArray[np.bool_]:
    """Which values are more than `factor` times larger or smaller than their median."""
    ratio = values / np.median(values)
    return (ratio > factor) | (ratio < 1 / factor)


def _one_colour(thumbnail: npt.NDArray[np.uint8]) -> bool:
    return bool((thumbnail == thumbnail[0, 0]).all())


def _named(groups: Groups, names: Sequence[str]) -> list[list[str]]:
    return [[names[row] for row in group] for group in groups]


def _place(check: str) -> int:
    order = list(ADVICE)
    return order.index(check) if check in order else len(order)
