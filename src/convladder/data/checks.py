"""Checks that need only digests and labels. Every training and the audit run them."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convladder.data.splits import SPLITS

MOST_CLASSES_A_PICTURE = 0.5  # of the pictures: more labels are not classes, but numbers or names of single pictures
FEWEST_TO_JUDGE = 20  # pictures
FEW_A_CLASS = 10  # training pictures: classes with fewer are reported
IMBALANCE = 2.0  # largest class to smallest: from here on it is reported, and training weights the classes

Groups = list[npt.NDArray[np.int64]]


def group_equal(digests: npt.NDArray[np.uint64], skip: npt.NDArray[np.bool_]) -> Groups:
    """Groups of at least two rows with equal digests, without the rows to skip."""
    rows = np.flatnonzero(~skip)
    order = rows[np.argsort(digests[rows], kind="stable")]
    borders = np.flatnonzero(np.diff(digests[order]) != 0) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def sort_copies(
    groups: Groups, labels: npt.NDArray[np.int64], splits: npt.NDArray[np.int64]
) -> tuple[Groups, Groups, Groups]:
    """Groups within one class and split, across classes, and across splits. A group can be in both of the last two."""
    across_classes = [group for group in groups if len(set(labels[group].tolist())) > 1]
    across_splits = [group for group in groups if len(set(splits[group].tolist())) > 1]
    within = [
        group for group in groups if len(set(labels[group].tolist())) == 1 and len(set(splits[group].tolist())) == 1
    ]
    return within, across_classes, across_splits


def count_classes(labels: npt.NDArray[np.int64], class_names: Sequence[str]) -> dict[str, int]:
    """Number of pictures in each class."""
    counts = np.bincount(labels, minlength=len(class_names))
    return {name: int(count) for name, count in zip(class_names, counts, strict=True)}


def same_class_names(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that a person would take for one: they differ only in case, spaces or Unicode composition."""
    groups: dict[str, list[str]] = {}
    for name in names:
        key = "".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("-", " ").split())
        groups.setdefault(key, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def few_pictures(counts: dict[str, int]) -> dict[str, int]:
    """The classes with fewer than 10 pictures."""
    return {name: count for name, count in counts.items() if count < FEW_A_CLASS}


def imbalance(counts: dict[str, int]) -> float:
    """Ratio of the largest class to the smallest one that is not empty."""
    present = [count for count in counts.values() if count]
    return max(present) / min(present) if present else 1.0


def too_many_classes(classes: int, pictures: int) -> bool:
    """Whether there are too many labels for them to be classes."""
    return pictures >= FEWEST_TO_JUDGE and classes > MOST_CLASSES_A_PICTURE * pictures


def class_weights(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.float32] | None:
    """Weight of each class's pictures in training, so that all classes count equally. The mean weight is 1.

    Returns:
        Shape (largest label + 1,), or None if the largest class has less than twice as many pictures as the smallest.
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
    """Lines for the user, one per problem with these pictures.

    Args:
        paths: Path of each picture, shape (count,).
        labels: Label of each picture, shape (count,).
        splits: Split of each picture, shape (count,); 0 is training.
        class_names: One per label.
        digests: Shape (count,); equal for equal pixels.
        constant: Shape (count,); whether all pixels of a picture are equal.
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
            "Remove the ones with the wrong label."
        )
    if within:
        lines.append(f"Pictures with copies in their class: {len(within):,} ({named(within[0])}).")
    if constant.any():
        lines.append(f"Pictures of a single colour: {int(constant.sum()):,} ({named(np.flatnonzero(constant))}).")
    alike = same_class_names(class_names)
    if alike:
        lines.append(
            f"Class names that differ only in case or spaces: {', '.join(alike[0])}. Perhaps they are one class."
        )
    counts = count_classes(labels[splits == 0], class_names)
    few = few_pictures(counts)
    if few:
        listed = ", ".join(f"{name} {count}" for name, count in few.items())
        lines.append(f"Classes with fewer than {FEW_A_CLASS} training pictures: {listed}.")
    tested = count_classes(labels[splits == 2], class_names)
    untested = [name for name in class_names if not tested[name]]
    if untested:
        lines.append(
            f"Classes without test pictures: {', '.join(untested)}. They are trained on, but their accuracy cannot be "
            "measured: add pictures."
        )
    if imbalance(counts) >= IMBALANCE:
        lines.append(f"The largest class has {imbalance(counts):.1f} times as many training pictures as the smallest.")
    return lines
