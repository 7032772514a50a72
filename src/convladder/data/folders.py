"""Folders and CSV files of pictures: which files there are, of which class and split, and what is passed over."""

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from convladder.errors import ConvladderError
from convladder.names import printable

# Names that may be a picture's. What decides is the content; what does not decode is left out, and said.
READ = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff")
# Pictures of formats that are not read: better said than passed over.
NOT_READ = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".ico", ".psd", ".eps", ".ppm", ".pgm", ".tga", ".dng")
SPLITS = ("train", "validation", "test")
SPLIT_FOLDERS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
PATH_COLUMNS = ("path", "file", "filename", "image", "picture")
LABEL_COLUMNS = ("label", "class", "category")

Entry: TypeAlias = "os.DirEntry[str]"


@dataclass
class Listing:
    """Files that may be pictures, and what became of all others.

    Attributes:
        paths: Where they are, in a stable order.
        labels: The class of each, by name.
        splits: The split of each, where the folder says it; else an empty text.
        ignored: By reason, how many files were passed over.
        left_out: Files that are no pictures for sure, with the reason.
        classes: All classes, also those without a file.
    """

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)

    def add(self, path: str, label: str, split: str) -> None:
        """Take a file in."""
        self.paths.append(path)
        self.labels.append(label)
        self.classes.add(label)
        self.splits.append(split)


def list_folder(folder: Path) -> Listing:
    """List PATH/<class>/*, or PATH/{train,val,valid,validation,test}/<class>/*; folders in a class belong to it.

    It is the second where a folder `train` stands among such names alone and holds folders itself.

    Raises:
        ConvladderError: No such folder, or no files in class folders.
    """
    try:
        top = _entries(folder)
    except OSError as error:
        raise ConvladderError(f"{folder} cannot be read ({error.strerror}). Expected a folder of pictures.") from error
    listing = Listing()
    folders = _class_folders(top, listing)
    names = {entry.name.lower() for entry in folders}
    if "train" in names and names <= set(SPLIT_FOLDERS) and _train_holds_folders(folders):
        for entry in folders:
            for class_folder in _class_folders(_entries(entry.path), listing):
                _list_class(class_folder.path, class_folder.name, SPLIT_FOLDERS[entry.name.lower()], listing)
    else:
        for entry in folders:
            _list_class(entry.path, entry.name, "", listing)
    if not listing.paths:
        raise ConvladderError(
            f"{folder} holds no pictures in folders of classes. Expected {folder / '<class>' / '*.jpg'}, the same "
            "under train, val and test, or four IDX files."
        )
    return listing


def list_pictures(folder: Path) -> list[str]:
    """Every file in a folder and the folders in it that may be a picture, in order; hidden ones are passed over.

    Raises:
        ConvladderError: There is none.
    """
    found = [
        entry.path
        for entry, hidden in _walk(str(folder), Listing())
        if not hidden and not _passed_over(entry.name) and os.path.isfile(entry.path)
    ]
    if not found:
        raise ConvladderError(f"{folder} holds no pictures. Expected {', '.join(READ)} in it or in folders of it.")
    return found


def list_csv(path: Path) -> Listing:
    """List a CSV file of path and label; paths are relative to it. A header may name the two columns.

    Raises:
        ConvladderError: It cannot be read, or no row has a path and a label.
    """
    listing = Listing()
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConvladderError(f"{path} cannot be read ({reason}). Expected a CSV file of path and label.") from error
    path_column, label_column = 0, 1
    if rows:
        header = [cell.strip().lower() for cell in rows[0]]
        paths = [header.index(name) for name in PATH_COLUMNS if name in header]
        labels = [header.index(name) for name in LABEL_COLUMNS if name in header]
        if paths and labels:
            path_column, label_column = paths[0], labels[0]
            rows = rows[1:]
    for row in rows:
        if not any(cell.strip() for cell in row):
            listing.ignored["empty row"] += 1
            continue
        cells = row + [""] * (1 + max(path_column, label_column) - len(row))
        name, label = cells[path_column].strip(), cells[label_column].strip()
        if not name or not label:
            listing.left_out.append((",".join(row), "a row without path or label"))
            continue
        picture = os.path.join(path.parent, name)
        if os.path.isfile(picture):
            listing.add(picture, printable(label), "")
        else:
            listing.left_out.append((picture, "no such file"))
    if not listing.paths:
        raise ConvladderError(
            f"{path} names no file that is there ({len(rows)} rows). Expected rows of path,label, with paths relative "
            f"to {path.parent}."
        )
    return listing


def sort_classes(names: set[str]) -> list[str]:
    """Class names in the order of their labels: by number where all are numbers, else by letters."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def same_class_names(names: list[str]) -> list[list[str]]:
    """Groups of names that a person would take for one: differing in case, spaces or Unicode composition alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())
        groups.setdefault(key, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _class_folders(entries: list[Entry], listing: Listing) -> list[Entry]:
    """Those that are folders and not hidden; the others are counted."""
    folders = []
    for entry in entries:
        reason = _passed_over(entry.name)
        if not os.path.isdir(entry.path):
            listing.ignored[reason or "outside the class folders"] += 1
        elif reason == "hidden":
            listing.ignored[reason] += sum(1 for _ in _walk(entry.path, listing))
        else:
            folders.append(entry)
    return folders


def _list_class(folder: str, name: str, split: str, listing: Listing) -> None:
    listing.classes.add(printable(name))
    for entry, hidden in _walk(folder, listing):
        reason = "hidden" if hidden else _passed_over(entry.name)
        if reason:
            listing.ignored[reason] += 1
        elif entry.is_file(follow_symlinks=False) or os.path.isfile(entry.path):
            listing.add(entry.path, printable(name), split)
        elif entry.is_symlink():
            listing.left_out.append((entry.path, "a link to nothing"))
        else:
            listing.ignored["no regular file"] += 1  # a pipe would be waited for without end


def _walk(folder: str, listing: Listing, hidden: bool = False) -> Iterator[tuple[Entry, bool]]:
    """Every file below a folder, and whether it or a folder around it is hidden; links to folders are not followed."""
    try:
        entries = _entries(folder)
    except OSError as error:
        listing.left_out.append((folder, error.strerror or "cannot be read"))
        return
    for entry in entries:
        concealed = hidden or _passed_over(entry.name) == "hidden"
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, listing, concealed)
        elif entry.is_symlink() and os.path.isdir(entry.path):
            listing.ignored["a link to a folder"] += 1
        else:
            yield entry, concealed


def _passed_over(name: str) -> str:
    """Why a file of this name is not looked at; an empty text where it is."""
    if name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini"):
        return "hidden"
    suffix = os.path.splitext(name)[1].lower()
    return "" if not suffix or suffix in READ + NOT_READ else "no picture by its name"


def _train_holds_folders(folders: list[Entry]) -> bool:
    """Else it is a class, of trains."""
    train = next(entry for entry in folders if entry.name.lower() == "train")
    return any(os.path.isdir(entry.path) for entry in _entries(train.path))


def _entries(folder: str | Path) -> list[Entry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)
