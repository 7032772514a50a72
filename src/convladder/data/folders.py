"""Folders of pictures: lists the files with their class and split, and counts what is skipped."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from convladder.data.candidates import READ, Entry, check_depth, is_hidden, list_entries, why_passed_over
from convladder.data.layouts import Place, read_layout
from convladder.errors import ConvladderError
from convladder.markup import printable


@dataclass
class Listing:
    """Files that may be pictures, and the number of all other files.

    Attributes:
        paths: The files' paths, in a stable order.
        labels: Class name of each file.
        splits: Split of each file; empty if its folder does not say.
        ignored: Number of skipped files, by reason.
        left_out: Files that certainly cannot be used, with the reason.
        classes: All classes, also those without files.
        notes: How the folders were read, if that may surprise, one line each.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def add(self, path: str, label: str, split: str) -> None:
        """Add a file."""
        self.paths.append(path)
        self.labels.append(label)
        self.classes.add(label)
        self.splits.append(split)

    def count_ignored(self) -> str:
        """How many files were skipped, and why."""
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.ignored.items()))


def list_folder(folder: Path) -> Listing:
    """List the pictures of a folder by class, and by split if folders name them. Folders in a class belong to it.

    Raises:
        ConvladderError: No such folder, no files in class folders, or folders that `read_layout` refuses.
    """
    try:
        layout = read_layout(folder)
    except OSError as error:
        raise ConvladderError(f"Could not read {folder} ({error.strerror}). Expected a folder of pictures.") from error
    listing = Listing(notes=layout.notes)
    for entry in layout.beside:
        _count_beside(entry, listing)
    for place in layout.places:
        _list_class(place, listing)
    if not listing.paths:
        raise ConvladderError(
            f"{folder} holds no class folders with pictures. Expected {folder / '<class>' / '*.jpg'}, the same "
            "under train, val and test, four IDX files, or a .csv file with path and label."
        )
    return listing


def list_pictures(folder: Path) -> Listing:
    """List the files in a folder and its subfolders that may be pictures, in order, and count what is skipped.

    Raises:
        ConvladderError: There are no pictures.
    """
    listing = Listing()
    _list_class(Place(str(folder), "", ""), listing)
    if not listing.paths and not listing.left_out:
        passed = f", and {listing.count_ignored()}" if listing.ignored else ""
        raise ConvladderError(
            f"{folder} holds no pictures{passed}. Expected {', '.join(READ)} in it or in its subfolders."
        )
    return listing


def sort_classes(names: set[str]) -> list[str]:
    """Class names in the order of their labels: numeric if all are numbers, else alphabetical."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def _count_beside(entry: Entry, listing: Listing) -> None:
    """Count a file, or all files of a folder, that belong to no class."""
    if entry.is_symlink() or not entry.is_dir():
        listing.ignored["hidden" if is_hidden(entry.name) else "outside the class folders"] += 1
        return
    for _, hidden in _walk(entry.path, listing, is_hidden(entry.name)):
        listing.ignored["hidden" if hidden else "outside the class folders"] += 1


def _list_class(place: Place, listing: Listing) -> None:
    label = printable(place.label)
    listing.classes.add(label)
    for entry, hidden in _walk(place.path, listing):
        reason = "hidden" if hidden else why_passed_over(entry)
        if reason:
            listing.ignored[reason] += 1
        elif os.path.isfile(entry.path):
            listing.add(entry.path, label, place.split)
        elif entry.is_symlink():
            listing.left_out.append((entry.path, "a link to nothing"))
        else:
            listing.ignored["no regular file"] += 1  # reading a pipe could block forever


def _walk(folder: str, listing: Listing, hidden: bool = False, depth: int = 0) -> Iterator[tuple[Entry, bool]]:
    """Every file below a folder, and whether it or a parent folder is hidden. Links to folders are not followed."""
    check_depth(folder, depth)
    try:
        entries = list_entries(folder)
    except OSError as error:
        listing.left_out.append((folder, error.strerror or "cannot be read"))
        return
    for entry in entries:
        concealed = hidden or is_hidden(entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, listing, concealed, depth + 1)
        elif entry.is_symlink() and os.path.isdir(entry.path):
            listing.ignored["a link to a folder"] += 1
        else:
            yield entry, concealed
