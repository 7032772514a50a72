"""Checks of a set of pictures that need no more than digests and labels: made at every training, and by the audit."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEW = 10  # training pictures of a class, below which it is said
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


def few_pictures(counts: dict[str, int]) -> dict[str, int]:
    """The classes with fewer than 10 pictures."""
    return {name: count for name, count in counts.items() if count < FEW}


def imbalance(counts: dict[str, int]) -> float:
    """How many times as many pictures the largest class has as the smallest one that has any."""
    present = [count for count in counts.values() if count]
    return max(present) / min(present) if present else 1.0


def remark(
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
        return ", ".join(paths[row] for row in rows[:3]) + (", …" if len(rows) > 3 else "")

    lines = []
    if across_splits:
        lines.append(
            f"{len(across_splits):,} pictures stand in more than one split, so scores are too good: remove the copies "
            f"({named(across_splits[0])})."
        )
    if across_classes:
        lines.append(
            f"{len(across_classes):,} pictures stand in more than one class: remove those whose label is wrong "
            f"({named(across_classes[0])})."
        )
    if within:
        lines.append(f"{len(within):,} pictures have copies in their class ({named(within[0])}).")
    if constant.any():
        lines.append(f"{int(constant.sum()):,} pictures are of one colour alone ({named(np.flatnonzero(constant))}).")
    counts = count_classes(labels[splits == 0], class_names)
    few = few_pictures(counts)
    if few:
        listed = ", ".join(f"{name} {count}" for name, count in few.items())
        lines.append(f"Classes with fewer than {FEW} pictures for training: {listed}.")
    if imbalance(counts) >= IMBALANCE:
        lines.append(
            f"The largest class has {imbalance(counts):.1f} times as many pictures for training as the smallest."
        )
    return lines
