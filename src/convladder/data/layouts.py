"""Layouts: tells whether the subfolders of a folder are classes or splits.

Unclear names and contents are refused, because a wrong guess would silently train on the wrong thing.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

from convladder.data.candidates import Entry, check_depth, is_hidden, list_entries, seems_picture
from convladder.data.splits import FILLERS, SPLITS, recognize_split, resolve_evaluation, tokenize, word_set
from convladder.errors import ConvladderError
from convladder.markup import printable

PLAIN = ("train", "val", "valid", "validation", "test")  # names that need no remark
UNLABELLED = word_set("pred predict prediction predictions unlabeled unlabelled")
ANNOTATIONS = word_set(
    "annotation annotations annot annots label labels mask masks trimaps bbox bboxes segmentation segmentations "
    "groundtruth gt ground truth class object"
)
SEEN = 6  # folders that an error message names


class Place(NamedTuple):
    """A folder with pictures of one class. `split` is one of SPLITS, or empty if no folder names it."""

    path: str
    label: str
    split: str


@dataclass
class Layout:
    """What each folder is.

    Attributes:
        places: The class folders.
        beside: Files and folders that belong to no class.
        notes: How unusual names were read, one line each.
    """

    places: list[Place] = field(default_factory=list)
    beside: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class _Folder:
    """A folder whose content is listed when it is needed. Links to folders are followed only in the topmost one."""

    def __init__(self, path: str, name: str, follow: bool = False, depth: int = 0) -> None:
        self.path, self.name, self._follow, self._depth = path, name, follow, depth
        check_depth(path, depth)

    @cached_property
    def entries(self) -> list[Entry]:
        """Its content. Empty if it cannot be read; that is reported when its files are listed."""
        try:
            return list_entries(self.path)
        except OSError:
            return []

    @cached_property
    def folders(self) -> list["_Folder"]:
        return [
            _Folder(entry.path, entry.name, depth=self._depth + 1)
            for entry in self.entries
            if not is_hidden(entry.name) and os.path.isdir(entry.path) and (self._follow or not entry.is_symlink())
        ]

    @property
    def rest(self) -> list[Entry]:
        """All entries that are not among `folders`."""
        taken = {folder.name for folder in self.folders}
        return [entry for entry in self.entries if entry.name not in taken]

    @cached_property
    def direct(self) -> bool:
        """Whether it directly holds pictures."""
        return any(not os.path.isdir(entry.path) and seems_picture(entry) for entry in self.rest)

    @cached_property
    def pictured(self) -> bool:
        """Whether it holds pictures at any depth."""
        return self.direct or any(folder.pictured for folder in self.folders)

    @cached_property
    def classes(self) -> list["_Folder"]:
        """Its subfolders that hold pictures."""
        return [folder for folder in self.folders if folder.pictured]

    @cached_property
    def unwrapped(self) -> "_Folder":
        """Itself, or its only subfolder if that one's name adds nothing: seg_train/seg_train, train/images."""
        if self.direct or len(self.classes) != 1:
            return self
        (only,) = self.classes
        says_no_more = only.name.lower() == self.name.lower() or FILLERS.issuperset(tokenize(only.name))
        return only.unwrapped if says_no_more and tokenize(only.name) else self


def read_layout(folder: Path) -> Layout:
    """Find out what the subfolders of a folder are.

        CLASS/*                          splits are chosen at random
        SPLIT/CLASS/*                    with any usual names: Training, test_set, seg_train, dev, ...
        CLASS/SPLIT/*                    the same with splits inside classes
        ONE/...                          any of these, in one folder that holds all pictures

    Raises:
        OSError: It cannot be read.
        ConvladderError: The folders could be read in several ways.
    """
    list_entries(folder)
    layout = Layout()
    here = _Folder(str(folder), folder.name, follow=True)
    while (inner := _only_folder(here)) is not None:
        layout.beside += [entry for entry in here.entries if entry.name != inner.name]
        here = inner
        layout.notes.append(f"Read from {here.path}, the only folder with pictures.")
    splits = _find_splits(here)
    if splits:
        _add_splits(here, splits, layout)
        return layout
    inner_splits = _find_splits_in_classes(here)
    layout.beside += here.rest
    if not inner_splits:
        _check_classes(here)
    for one in here.folders:
        if not inner_splits:
            layout.places.append(Place(one.path, one.name, ""))
            continue
        layout.beside += one.rest
        layout.places += [Place(part.path, one.name, inner_splits.get(part.name, "train")) for part in one.folders]
    if inner_splits:
        layout.notes.append(_say_splits(inner_splits, "in each class "))
    return layout


def has_picture_folders(folder: Path) -> bool:
    """Whether a folder has subfolders with pictures, at any depth."""
    return bool(_Folder(str(folder), folder.name, follow=True).classes)


def _only_folder(here: _Folder) -> _Folder | None:
    """The only subfolder with pictures, if they are in subfolders of it and nothing beside it can be a class."""
    if here.direct or len(here.classes) != 1:
        return None
    (only,) = here.classes
    empty = any(not folder.entries for folder in here.folders)  # a class whose pictures are not there yet
    return None if only.direct or empty else only


def _find_splits(here: _Folder) -> dict[str, str]:
    """From the name of each split folder to its split; empty if the folders are classes."""
    known = {f.name: found for f in here.classes if (found := recognize_split(f.name))}
    splits = {found.split for found in known.values()}
    flat = [f for f in here.classes if not f.unwrapped.classes]
    # A class can be called train (of vehicles) or valid: then it stands among other folders that hold pictures.
    if not known or (len(splits) == 1 and len(flat) == len(here.classes) > 2):
        return {}
    if "train" not in splits:
        if len(splits) > 1:
            _refuse(here, "none of them is for training")
        return {}
    if any(f in flat for f in here.classes if f.name in known and known[f.name].split == "train"):
        _refuse(here, "the training pictures are not in class folders")
    strange = [f.name for f in here.classes if f.name not in known and not (_unlabelled(f) and f in flat)]
    if strange:
        _refuse(here, f"{', '.join(strange[:3])} is not the name of a split")
    resolved = resolve_evaluation(splits)
    assigned = Counter(resolved[found.split] for found in known.values())
    twice = [split for split, count in assigned.items() if count > 1]
    if twice or len({found.rest for found in known.values()}) > 1:
        _refuse(here, f"more than one may be for {_purpose(twice[0])}" if twice else "the names do not belong together")
    return {name: resolved[found.split] for name, found in known.items()}


def _add_splits(here: _Folder, splits: dict[str, str], layout: Layout) -> None:
    """Add the classes of each split. All splits must have the same classes, because a typo would make a new class."""
    names: dict[str, set[str]] = {split: set() for split in SPLITS}
    for folder in here.folders:
        split, inside = splits.get(folder.name), folder.unwrapped
        if not split or not inside.classes:
            layout.beside += [entry for entry in here.entries if entry.name == folder.name]
            if folder.pictured:
                layout.notes.append(f"{folder.path} has no class folders: its pictures are not used.")
            continue
        _check_classes(inside, within=True)
        layout.beside += inside.rest + ([] if inside is folder else folder.rest)
        layout.places += [Place(one.path, one.name, split) for one in inside.folders]
        names[split] |= {one.name for one in inside.classes}
    layout.beside += here.rest
    untrained = sorted((names["validation"] | names["test"]) - names["train"])
    if untrained:
        _refuse(here, f"the training folder has no class {', '.join(untrained[:3])}, but another folder has")
    if any(name.lower() not in PLAIN for name in splits):
        layout.notes.append(_say_splits(splits))


def _find_splits_in_classes(here: _Folder) -> dict[str, str]:
    """From the name of each folder in classes to its split, if all are splits: cat/train, cat/test, dog/train, ..."""
    inner = [part for one in here.classes for part in one.classes]
    known = {part.name: found for part in inner if (found := recognize_split(part.name))}
    splits = {found.split for found in known.values()}
    if len(splits) < 2:
        return {}
    if any(one.direct for one in here.classes) or any(p.name not in known for p in inner) or "train" not in splits:
        _refuse(here, "some folders in a class have names of splits, others have not")
    untrained = [one.name for one in here.classes if all(known[p.name].split != "train" for p in one.classes)]
    if untrained:
        _refuse(here, f"{untrained[0]} has no training folder")
    resolved = resolve_evaluation(splits)
    return {name: resolved[found.split] for name, found in known.items()}


def _check_classes(here: _Folder, within: bool = False) -> None:
    """Refuse folders that are not classes. `within` a split, also refuse classes that are split once more."""
    if within and (inner_splits := _find_splits_in_classes(here)):
        _refuse(here, f"the classes are split once more, into {', '.join(inner_splits)}")
    names = {folder.name.casefold(): folder.name for folder in here.classes}
    words = [[word for word in tokenize(name) if not word.isdecimal()] for name in names.values()]
    if len(words) > 1 and all(one == words[0] for one in words) and FILLERS.intersection(words[0]):
        _refuse(here, "by their names these are parts of one data set, not classes")
    plain = [FILLERS.issuperset(one) and bool(one) for one in words]
    if len(words) > 1 and any(plain) and all(one and FILLERS.union(ANNOTATIONS).issuperset(one) for one in words):
        _refuse(here, "by their names these are pictures and annotations, not classes")
    shared: set[str] = set()
    for folder in here.classes:
        inner = {part.name.casefold() for part in folder.classes}
        siblings = (inner & names.keys()) - {folder.name.casefold()}
        if siblings:
            _refuse(here, f"{folder.name} holds another {names[siblings.pop()]}")
        if folder.direct or len(inner) < 2:
            continue
        if inner & shared:
            _refuse(here, f"several hold {sorted(inner & shared)[0]}, so either level may be the classes")
        shared |= inner


def _unlabelled(folder: _Folder) -> bool:
    """Whether its name says that it holds unlabelled pictures."""
    return not UNLABELLED.isdisjoint(tokenize(folder.name))


def _say_splits(splits: dict[str, str], where: str = "") -> str:
    said = ", ".join(f"{name} is for {_purpose(split)}" for name, split in splits.items())
    return f"Folders {where}read as splits: {said}."


def _purpose(split: str) -> str:
    return {"train": "training", "test": "testing"}.get(split, split)


def _seen(folders: Sequence[_Folder]) -> Iterator[str]:
    for folder in folders[:SEEN]:
        inner = [part.name for part in folder.classes]
        within = ", ".join(inner[:3]) + (f" and {len(inner) - 3} more" if inner[3:] else "")
        yield f"{folder.name} (with {'pictures' if not inner else within})"
    if folders[SEEN:]:
        yield f"{len(folders) - SEEN} more"


def _refuse(here: _Folder, why: str) -> NoReturn:
    tables = [entry.name for entry in here.entries if entry.name.lower().endswith((".csv", ".tsv"))]
    instead = (
        f"use the table: --data {os.path.join(here.path, tables[0])}"
        if tables
        else ("list the pictures in a .csv file with the header path,label,split")
    )
    raise ConvladderError(
        printable(
            f"{here.path} holds {'; '.join(_seen(here.classes))}: {why}. Expected <class>/*, or train/<class>/* and "
            f"test/<class>/*: rename or move the other folders, or {instead}."
        )
    )
