"""Familiarity: how like its training pictures a picture is to a network.

A picture's strangeness is the distance of its features to the nearest of 200 centres of the training pictures'
features. Two kinds of features are looked at, and the larger distance counts, each divided by the one that 99 % of the
held-out pictures stay below:

- what the last layer reads, with length 1 (Sun et al. 2022, arXiv:2204.06507, with centres in place of all pictures);
- what the first stage gives, averaged over places, in standard deviations. It knows textures and grounds that the last
  layers have learned to ignore. A pretrained network does without it.

The familiarity is the share of held-out pictures that are at least as strange.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.evaluating.few import FEW_FOR_DETAIL
from convladder.evaluating.metrics import share_interval
from convladder.files import read_arrays, write_arrays

CENTRES = 200  # 2,000 pictures in place of them were no better on MNIST, and 0.002 of AUROC on photographs
LARGEST_WIDTH = 256  # of features; more are projected
PROJECTED_WIDTH = 128
ROWS_KEPT = 1000  # of the held-out pictures' strangeness, as quantiles
TAIL = 0.99
FOLDS = 5
FEWEST = 10  # held-out pictures; with fewer, folds of the training pictures are held out in turn
SHORTEST_TAIL = 0.01  # so that squares of distances fit into float16
SMALLEST_SPREAD = 1e-3  # of a feature, in those of all features
TINY = 1e-9

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where the training pictures lie in one kind of features, as few operations as possible.

    The square of a distance, in tails, is the smallest of `bias + x @ weights`, plus the square of x where it has not
    length 1. A tail is the distance that 99 % of the held-out pictures stay below.

    Attributes:
        scale: Features are multiplied with it; shape (features,). Without elements they get the length 1 instead.
        projection: Of features of length 1, to features that get the length 1 again; shape (features, width), float16,
            without columns if there is none.
        weights: Shape (width, centres), float16.
        bias: Shape (centres,).
    """

    scale: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float16]
    weights: npt.NDArray[np.float16]
    bias: npt.NDArray[np.float32]

    def squares(self, features: Features) -> npt.NDArray[np.float32]:
        """From features, shape (count, features), to squares of distances in tails, shape (count,)."""
        x = _map(features, self.scale, self.projection)
        found = (self.bias + x @ self.weights.astype(np.float32)).min(axis=1)
        return np.asarray(found + (x**2).sum(axis=1) if self.scale.size else found, np.float32)


@dataclass(frozen=True)
class Familiarity:
    """What was learned of how training pictures lie.

    Attributes:
        places: For each kind of features, where they lie: of the last layer, and perhaps of the first stage.
        held_out: Squares of the strangeness of held-out pictures, ascending, shape (at most 1,000,).
    """

    places: tuple[Place, ...]
    held_out: npt.NDArray[np.float32]

    def squares(self, kinds: Sequence[Features]) -> npt.NDArray[np.float32]:
        """The squares of the strangeness, shape (count,), of features of each kind, shape (count, features)."""
        squares = [place.squares(features) for place, features in zip(self.places, kinds, strict=True)]
        return np.asarray(np.max(squares, axis=0), np.float32)

    def measure(self, kinds: Sequence[Features]) -> npt.NDArray[np.float32]:
        """The familiarity, 0 to 1, shape (count,), of features of each kind, shape (count, features)."""
        return self.share(self.squares(kinds))

    def share(self, squares: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The share of held-out pictures that are at least as strange, from squares of the strangeness."""
        return np.asarray(1 - np.searchsorted(self.held_out, squares) / len(self.held_out), np.float32)


def learn_familiarity(train: Sequence[Features], held_out: Sequence[Features], *, frozen: bool) -> Familiarity | None:
    """Learn where training pictures lie, and how strange held-out ones are.

    Args:
        train: For each kind of features, those of training pictures, shape (count, features).
        held_out: The same of pictures that the network was not fitted to; there may be none.
        frozen: Whether the network was not fitted to the training pictures either, so that folds of them serve too.

    Returns:
        With the strangeness of the held-out pictures where they are 100, or 10 and the network is fitted; else that of
        each fold from the others. Of fewer than 100 pictures, quantiles of a t distribution of the logarithms stand
        for the pictures, because one in a hundred of them cannot be counted. None for fewer than 10 pictures, which
        tell nothing.
    """
    few = len(held_out[0]) < (FEW_FOR_DETAIL if frozen else FEWEST)
    if few and frozen:
        train = [np.concatenate(pair) for pair in zip(train, held_out, strict=True)]
    if few and len(train[0]) < FEWEST:
        return None
    spaces = [_Space(features, last=not number) for number, features in enumerate(train)]
    if few:
        apart = [_by_folds(features, last=not number) for number, features in enumerate(train)]
    else:
        apart = [space.distances(features) for space, features in zip(spaces, held_out, strict=True)]
    tails = [max(float(np.quantile(distances, TAIL)), SHORTEST_TAIL) for distances in apart]
    strangeness = np.max([distances / tail for distances, tail in zip(apart, tails, strict=True)], axis=0)
    places = tuple(space.place(tail) for space, tail in zip(spaces, tails, strict=True))
    return Familiarity(places, _quantiles(strangeness) ** 2)


def write_familiarity(path: Path, familiarity: Familiarity) -> None:
    """Write an archive that `read_familiarity` reads."""
    arrays: dict[str, Any] = {"held_out": familiarity.held_out}
    for number, place in enumerate(familiarity.places):
        arrays |= {f"{number}/{field.name}": np.asarray(getattr(place, field.name)) for field in fields(place)}
    write_arrays(path, **arrays)


def read_familiarity(path: Path) -> Familiarity | None:
    """What was written; None where the file is missing, as in old runs.

    Raises:
        ConvladderError: It is damaged.
    """
    if not path.exists():
        return None
    try:
        arrays = read_arrays(path)
        count = sum(name.endswith("/bias") for name in arrays)
        places = tuple(
            Place(**{field.name: arrays[f"{number}/{field.name}"] for field in fields(Place)})
            for number in range(count)
        )
        return Familiarity(places, arrays["held_out"])
    except (OSError, ValueError, KeyError) as error:
        raise ConvladderError(f"{path} is damaged ({error}). Expected what train wrote: train again.") from error


def count_unlike(
    familiarity: npt.NDArray[np.float32], right: npt.NDArray[np.bool_], threshold: float
) -> dict[str, Any]:
    """How many pictures are unlike the training pictures, and how well they are answered.

    Args:
        familiarity: Shape (count,), at least one.
        right: Whether each is answered correctly, shape (count,).
        threshold: Below it a picture is unlike the training pictures.

    Returns:
        `threshold`; the number of `images`; how many are `unlike`; their `share`, and its 95 % interval from `low` to
        `high`; `accuracy` of these, and `accuracy_of_others`, None where there are none.
    """
    unlike = familiarity < threshold
    count, images = int(unlike.sum()), len(unlike)
    low, high = share_interval(count, images)
    accuracies = (float(right[rows].mean()) if rows.any() else None for rows in (unlike, ~unlike))
    counted = {"threshold": threshold, "images": images, "unlike": count, "share": count / images}
    return counted | {"low": low, "high": high} | dict(zip(("accuracy", "accuracy_of_others"), accuracies, strict=True))


class _Space:
    """Where features lie, before the tail is known.

    Args:
        features: Of training pictures, shape (count, features).
        last: Whether the last layer reads them, so that they get the length 1.
    """

    def __init__(self, features: Features, *, last: bool) -> None:
        width = features.shape[1]
        self.scale = np.zeros(0, np.float32)
        self.projection = np.zeros((width, 0), np.float16)
        if not last:
            smallest = SMALLEST_SPREAD * features.std()
            spread = np.maximum(features.std(axis=0), smallest)
            self.scale = np.divide(1, spread, out=np.zeros(width, np.float32), where=spread > 0)
        elif width > LARGEST_WIDTH:
            self.projection = _find_directions(_unit(features)).astype(np.float16)
        self.centres = _find_centres(_map(features, self.scale, self.projection))

    def distances(self, features: Features) -> npt.NDArray[np.float32]:
        """To the nearest centre, shape (count,)."""
        x = _map(features, self.scale, self.projection)
        squares = (x**2).sum(axis=1)[:, np.newaxis] + (self.centres**2).sum(axis=1) - 2 * x @ self.centres.T
        return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0)), np.float32)

    def place(self, tail: float) -> Place:
        """With distances in tails."""
        lengths = (self.centres**2).sum(axis=1) / tail**2
        if self.scale.size:
            weights = -2 * self.centres.T / tail
            return Place((self.scale / tail).astype(np.float32), self.projection, weights.astype(np.float16), lengths)
        weights = -2 * self.centres.T / tail**2
        return Place(self.scale, self.projection, weights.astype(np.float16), lengths + np.float32(1 / tail**2))


def _map(features: Features, scale: npt.NDArray[np.float32], projection: npt.NDArray[np.float16]) -> Features:
    """To the space of the centres."""
    if scale.size:
        return np.asarray(features * scale, np.float32)
    x = _unit(features)
    return _unit(x @ projection.astype(np.float32)) if projection.size else x


def _find_directions(unit: Features) -> Features:
    """The 128 orthogonal directions in which rows are longest, shape (features, 128)."""
    count, width = unit.shape
    if count >= width // 2:
        return np.asarray(np.linalg.eigh(unit.T @ unit)[1][:, -PROJECTED_WIDTH:])
    # Of few rows this takes a tenth of the time. Beyond their number, chance chooses among the directions in which only
    # strange pictures have something.
    longest = np.linalg.svd(unit, full_matrices=False)[2][:PROJECTED_WIDTH].T
    others = np.random.default_rng(0).normal(size=(width, PROJECTED_WIDTH - longest.shape[1]))
    return np.asarray(np.linalg.qr(np.concatenate([longest, others], axis=1))[0], np.float32)


def _find_centres(mapped: Features) -> Features:
    """At most 200 points that stand for all."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if len(np.unique(mapped, axis=0)) <= CENTRES:
        return mapped
    with threadpool_limits(2, "openmp"):  # the sums of more threads are added in any order, and differ in the last bits
        return np.asarray(KMeans(CENTRES, n_init=1, random_state=0).fit(mapped).cluster_centers_, np.float32)


def _by_folds(features: Features, *, last: bool) -> npt.NDArray[np.float32]:
    """For each picture its distance to centres of the other folds."""
    folds = np.random.default_rng(0).permutation(len(features)) % FOLDS
    distances = np.zeros(len(features), np.float32)
    for fold in range(FOLDS):
        distances[folds == fold] = _Space(features[folds != fold], last=last).distances(features[folds == fold])
    return distances


def _quantiles(strangeness: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """At most 1,000 ascending values with the distribution of the given ones."""
    if len(strangeness) >= FEW_FOR_DETAIL:
        count = min(ROWS_KEPT, len(strangeness))
        return np.quantile(strangeness, (np.arange(count) + 0.5) / count).astype(np.float32)
    from scipy.stats import t

    logarithms = np.log(np.maximum(strangeness, TINY))
    count = len(logarithms)
    spread = logarithms.std(ddof=1) * np.sqrt(1 + 1 / count)
    shares = (np.arange(ROWS_KEPT) + 0.5) / ROWS_KEPT
    return np.exp(logarithms.mean() + spread * t.ppf(shares, count - 1)).astype(np.float32)


def _unit(x: Features) -> Features:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)
