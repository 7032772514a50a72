"""Checks of a set of pictures that need no more than digests and labels: made at every training, and by the audit."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convladder.data.splits import SPLITS

MOST_CLASSES_A_PICTURE = 0.5  # of the pictures: as many labels are no classes, but numbers or names of each
FEWEST_TO_JUDGE = 20  # pictures
FEW_A_CLASS = 10  # training pictures of a class, below which it is said
IMBALANCE = 2.0  # of the largest class to the smallest, from which it is said, and weighed in training

Groups = list[npt.NDArray[np.int64]]


def group_equal(digests: npt.NDArray[np.uint64], skip: npt.NDArray[np.bool_]) -> Groups:
    """Rows with equal digests, as groups of at least two row numbers; without the rows to skip."""
    rows = np.flatnonzero(~skip)
    order = rows[np.argsort(digests[rows], kind="stable")]
    borders = np.flatnonzero(np.diff(digests[order]) != 0) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def sort_copies(
    groups: Groups, labels: npt.NDArray[np.int64], splits: npt.NDArray[np.int64]
) -> tuple[Groups, Groups, Groups]:
    """The groups within one class and split, across classes, and across splits; one may be of the last two."""
    across_classes = [group for group in groups if len(set(labels[group].tolist())) > 1]
    across_splits = [group for group in groups if len(set(splits[group].tolist())) > 1]
    within = [
        group for group in groups if len(set(labels[group].tolist())) == 1 and len(set(splits[group].tolist())) == 1
    ]
    return within, across_classes, across_splits


def count_classes(labels: npt.NDArray[np.int64], class_names: Sequence[str]) -> dict[str, int]:
    """How many pictures each class has."""
    counts = np.bincount(labels, minlength=len(class_names))
    return {name: int(count) for name, count in zip(class_names, counts, strict=True)}


def same_class_names(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that a person would take for one: differing in case, spaces or Unicode composition alone."""
    groups: dict[str, list[str]] = {}
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())
        groups.setdefault(key, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def few_pictures(counts: dict[str, int]) -> dict[str, int]:
    """The classes with fewer than 10 pictures."""
    return {name: count for name, count in counts.items() if count < FEW_A_CLASS}


def imbalance(counts: dict[str, int]) -> float:
    """How many times as many pictures the largest class has as the smallest one that has any."""
    present = [count for count in counts.values() if count]
    return max(present) / min(present) if present else 1.0


def too_many_classes(classes: int, pictures: int) -> bool:
    """Whether there are so many labels that they can be no classes."""
    return pictures >= FEWEST_TO_JUDGE and classes > MOST_CLASSES_A_PICTURE * pictures


def class_weights(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """What a picture of each class counts in training, so that all classes together count alike; 1 on average.

    Returns:
        Shape (largest label + 1,), or None where the largest class has fewer than twice as many as the smallest.
    """
    counts = np.bincount(labels)
    present = counts[counts > 0]
    if present.max() < IMBALANCE * present.min():
        return None
    return (len(labels) / (len(present) * np.maximum(counts, 1))).astype(np.float32)


def list_remarks(
    paths: Sequence[str],
    labels: npt.NDArray[np.int64],
    splits: npt.NDArray[np.int64],
    class_names: Sequence[str],
    digests: npt.NDArray[np.uint64],
    constant: npt.NDArray[np.bool_],
) -> list[str]:
    """A line for each thing that whoever trains on these pictures should know.

    Args:
        paths: Shape (count,), as all of the following.
        labels: Of each picture.
        splits: Of each picture; 0 is for training.
        class_names: One a label.
        digests: Equal for equal pixels.
        constant: Whether a picture is of one colour alone.
    """
    within, across_classes, across_splits = sort_copies(group_equal(digests, constant), labels, splits)

    def named(rows: npt.NDArray[np.int64]) -> str:
        named = (f"{paths[row]} of {class_names[labels[row]]}, {SPLITS[splits[row]]}" for row in rows[:3])
        return "; ".join(named) + ("; …" if len(rows) > 3 else "")

    lines = []
    if across_splits:
        lines.append(
            f"Pictures in more than one split: {len(across_splits):,} ({named(across_splits[0])}). "
            "Scores are too good: remove the copies."
        )
    if across_classes:
        lines.append(
            f"Pictures in more than one class: {len(across_classes):,} ({named(across_classes[0])}). "
            "Remove those whose label is wrong."
        )
    if within:
        lines.append(f"Pictures with copies in their class: {len(within):,} ({named(within[0])}).")
    if constant.any():
        lines.append(f"Pictures of one colour alone: {int(constant.sum()):,} ({named(np.flatnonzero(constant))}).")
    alike = same_class_names(class_names)
    if alike:
        lines.append(
            f"Class names that differ in case or spaces alone: {', '.join(alike[0])}. Perhaps they are one class."
        )
    counts = count_classes(labels[splits == 0], class_names)
    few = few_pictures(counts)
    if few:
        listed = ", ".join(f"{name} {count}" for name, count in few.items())
        lines.append(f"Classes with fewer than {FEW_A_CLASS} pictures for training: {listed}.")
    tested = count_classes(labels[splits == 2], class_names)
    untested = [name for name in class_names if not tested[name]]
    if untested:
        lines.append(
            f"Classes without a picture to test: {', '.join(untested)}. They are trained on, and how well they are "
            "recognized stays unknown: add pictures."
        )
    if imbalance(counts) >= IMBALANCE:
        lines.append(
            f"The largest class has {imbalance(counts):.1f} times as many pictures for training as the smallest."
        )
    return lines
