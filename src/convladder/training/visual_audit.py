"""The visual audit: finds problems of pictures with a pretrained network, without training.

From cached features it finds likely label errors, altered copies that a perceptual hash misses, and class outliers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from convladder.data.audit import LABEL_ERRORS, Audit, Finding
from convladder.data.checks import Groups, sort_copies
from convladder.data.dataset import Dataset
from convladder.data.features import Features
from convladder.data.overlap import overlap
from convladder.data.splits import SPLITS
from convladder.evaluating.mislabelling import find_mislabelled
from convladder.training.head import USUAL, Labels, cross_validate
from convladder.workers import map_files

FEWEST = 8  # pictures: smaller classes are not judged, because heads and neighbours show too little
ROUNDS = 3  # of cross-validation, each with other folds, so that one unlucky fold accuses nobody
MAYBE_SAME = 0.65  # cosine of two pictures' features, from which their overlap is computed
SAME = 0.83  # overlap from which one is a copy of the other
OUTLYING, OUTLYING_IN_CLASS = 2.5, 3.5  # deviations above the median, of all distances and of the class's distances
NEIGHBOURS = 20  # at most; a quarter of the class if that is less
ROWS_AT_ONCE = 1024
PAIRS_AT_ONCE = 32


def audit_visually(
    audit: Audit, dataset: Dataset, features: Features, labels: Labels, *, labels_judged: bool = False
) -> Audit:
    """Add the findings from features to an audit.

    Args:
        audit: The audit of the same files.
        dataset: The pictures.
        features: Their features from all splits, as `pool_features` returns them, shape (2, count, 1280).
        labels: Shape (count,).
        labels_judged: Whether the audit already has likely label errors.
    """
    groups = [group for finding in audit.findings if "copies" in finding.check for group in finding.groups]
    copies = {path: number for number, group in enumerate(groups) for path in group}
    findings = find_altered_copies(dataset, features, labels, copies)
    if not labels_judged:
        audit = audit.with_findings([judge_labels(dataset, features, labels)])
    # A picture with a wrong label is far from its class, and is reported already.
    named = {group[0] for finding in audit.findings if finding.check == LABEL_ERRORS for group in finding.groups}
    findings.append(find_outliers(dataset, features, labels, named))
    counts = np.bincount(labels, minlength=dataset.num_classes)
    few = [f"{name} ({count})" for name, count in zip(dataset.class_names, counts, strict=True) if count < FEWEST]
    note = (
        f"Not checked for label errors and outliers, because they have fewer than {FEWEST} pictures: {', '.join(few)}."
    )
    return audit.with_findings(findings, [note] if few else [])


def judge_labels(dataset: Dataset, features: Features, labels: Labels) -> Finding:
    """Pictures whose labels are probably wrong, by heads that were not fitted to them.

    Heads that are fitted to the other folds judge each picture (Northcutt et al. 2021, arXiv:1911.00068). If classes
    are so similar that heads are often wrong, nothing is reported: see `find_mislabelled`.

    Returns:
        A group for each picture, the most likely error first: its path, its label and the class that it looks like.
    """
    rounds = [
        cross_validate(features, labels, dataset.num_classes, len(features), [USUAL], seed)[0] for seed in range(ROUNDS)
    ]
    answers = np.asarray(np.mean(rounds, axis=0), np.float32)
    wrong, probabilities = find_mislabelled(answers, labels)
    judged = np.bincount(labels)[labels] >= FEWEST
    names = dataset.class_names
    groups = []
    for row in wrong[judged[wrong]]:
        best = int(probabilities[row].argmax())
        said = f"labelled {names[labels[row]]}, looks like {names[best]} ({probabilities[row, best]:.2f})"
        groups.append([_paths(dataset)[row], f"{said}, in {_split(dataset, row)}"])
    return Finding(LABEL_ERRORS, groups)


def find_altered_copies(
    dataset: Dataset, features: Features, labels: Labels, copies: Mapping[str, int]
) -> list[Finding]:
    """Crops of other pictures in the set, and the same pictures in other light, mirrored or not.

    Each picture is compared pixel by pixel with the one whose features are nearest.

    Args:
        dataset: The pictures.
        features: Their features.
        labels: Their labels.
        copies: From the path of a copy that the hash found to the number of its group; these are known.
    """
    paths = _paths(dataset)
    pairs = [
        (first, second)
        for first, second in _nearest_pairs(features)
        if paths[first] not in copies or copies[paths[first]] != copies.get(paths[second])
    ]
    found = map_files(overlap, [(paths[first], paths[second]) for first, second in pairs], PAIRS_AT_ONCE)
    same = [pair for pair, size in zip(pairs, found, strict=True) if size is not None and size >= SAME]
    splits = np.repeat(np.arange(len(SPLITS)), [len(dataset.train), len(dataset.validation), len(dataset.test)])
    return [
        Finding(f"altered copies{suffix}", [[paths[row] for row in group] for group in groups])
        for suffix, groups in zip(
            ("", " across classes", " across splits"), sort_copies(_link(same, len(paths)), labels, splits), strict=True
        )
    ]


def find_outliers(dataset: Dataset, features: Features, labels: Labels, skip: set[str]) -> Finding:
    """Pictures that are unusually far from their class, compared with all distances, or with those of the class.

    The distance is 1 minus the mean cosine with the nearest pictures of the class: a quarter of the class, at most 20,
    so that a few foreign pictures do not hide one another.

    Args:
        dataset: The pictures.
        features: Their features.
        labels: Their labels.
        skip: Paths that are reported already.
    """
    distances = np.full(len(labels), np.nan)
    far_in_class = np.zeros(len(labels), np.bool_)
    directions = _directions(features.mean(axis=0))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        if len(rows) < FEWEST:
            continue
        nearest = min(NEIGHBOURS, len(rows) // 4)
        for part in np.array_split(rows, -(-len(rows) // ROWS_AT_ONCE)):
            cosines = directions[part] @ directions[rows].T  # (part, rows)
            cosines[part[:, None] == rows] = -1  # with itself
            distances[part] = 1 - np.partition(cosines, -nearest, axis=1)[:, -nearest:].mean(axis=1)
        far_in_class[rows] = _deviations(distances[rows]) > OUTLYING_IN_CLASS
    if np.isnan(distances).all():
        return Finding("outliers", [])
    far = np.flatnonzero(far_in_class | (_deviations(distances) > OUTLYING))
    paths, names = _paths(dataset), dataset.class_names
    return Finding(
        "outliers",
        [
            [paths[row], f"unlike {names[labels[row]]}, in {_split(dataset, row)}"]
            for row in far[np.argsort(-distances[far], kind="stable")]
            if paths[row] not in skip
        ],
    )


def _deviations(distances: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Robust standard deviations above the median; NaN stays NaN."""
    centred = distances - np.nanmedian(distances)
    return centred / max(1.4826 * float(np.nanmedian(np.abs(centred))), 1e-9)


def _nearest_pairs(features: Features) -> list[tuple[int, int]]:
    """Each picture with the most similar one, mirrored or not, if they are similar enough; each pair once."""
    straight, mirrored = map(_directions, features)
    pairs = set()
    for start in range(0, len(straight), ROWS_AT_ONCE):
        part = straight[start : start + ROWS_AT_ONCE]
        cosines = np.maximum(part @ straight.T, part @ mirrored.T)
        rows = np.arange(len(part))
        cosines[rows, start + rows] = -1  # with itself
        nearest = cosines.argmax(axis=1)
        for row in np.flatnonzero(cosines[rows, nearest] >= MAYBE_SAME):
            first, second = sorted((start + int(row), int(nearest[row])))
            pairs.add((first, second))
    return sorted(pairs)


def _link(pairs: Sequence[tuple[int, int]], count: int) -> Groups:
    """Groups of rows that are linked by pairs."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    _, component = connected_components(coo_array((np.ones(len(first)), (first, second)), shape=(count, count)), False)
    return [np.flatnonzero(component == number) for number in np.unique(component[first])]


def _directions(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), np.float32(1e-9))


def _paths(dataset: Dataset) -> tuple[str, ...]:
    return dataset.account.paths if dataset.account else ()


def _split(dataset: Dataset, row: int) -> str:
    return SPLITS[int(np.searchsorted(np.cumsum([len(dataset.train), len(dataset.validation)]), row, side="right"))]
