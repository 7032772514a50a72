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
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.evaluating.few import FEW_FOR_DETAIL
from convladder.files import write_arrays

CENTRES = 200  # 2,000 pictures in place of them were no better on MNIST, and 0.002 of AUROC on photographs
LARGEST_WIDTH = 256  # of features; more are projected
PROJECTED_WIDTH = 128
ROWS_KEPT = 1000  # of the held-out pictures' strangeness, as quantiles
TAIL = 0.99
FOLDS = 5
FEWEST_HELD_OUT = 10  # with fewer, folds of the training pictures are held out in turn
TINY = 1e-9

Features = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """Where the training pictures lie in one kind of features.

    Attributes:
        shift: Subtracted from features; shape (features,).
        scale: Features are multiplied with it, then; shape (features,).
        projection: Shape (features, width); without columns if there is none.
        unit: 1 if features have length 1 before and after the projection, else 0.
        centres: Shape (count, width), float16.
        tail: The distance that 99 % of the held-out pictures stay below.
    """

    shift: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    projection: npt.NDArray[np.float16]
    unit: int
    centres: npt.NDArray[np.float16]
    tail: float

    def distances(self, features: Features) -> npt.NDArray[np.float32]:
        """From features, shape (count, features), to distances in tails, shape (count,)."""
        return _nearest(self.map(features), self.centres.astype(np.float32)) / np.float32(self.tail)

    def map(self, features: Features) -> Features:
        """To the space of the centres."""
        x = (features - self.shift) * self.scale
        if self.unit:
            x = _unit(x)
        if self.projection.size:
            x = _unit(x @ self.projection.astype(np.float32))
        return np.asarray(x, np.float32)


@dataclass(frozen=True)
class Familiarity:
    """What was learned of how training pictures lie.

    Attributes:
        places: For each kind of features, where they lie: of the last layer, and perhaps of the first stage.
        held_out: Strangeness of held-out pictures, ascending, shape (at most 1,000,).
    """

    places: tuple[Place, ...]
    held_out: npt.NDArray[np.float32]

    def strangeness(self, kinds: Sequence[Features]) -> npt.NDArray[np.float32]:
        """From features of each kind, shape (count, features), to shape (count,)."""
        found = [place.distances(features) for place, features in zip(self.places, kinds, strict=True)]
        return np.max(found, axis=0)

    def measure(self, kinds: Sequence[Features]) -> npt.NDArray[np.float32]:
        """The familiarity, 0 to 1, shape (count,), of features of each kind."""
        ranks = np.searchsorted(self.held_out, self.strangeness(kinds))
        return np.asarray(1 - ranks / len(self.held_out), np.float32)


def learn_familiarity(train: Sequence[Features], held_out: Sequence[Features], *, frozen: bool) -> Familiarity:
    """Learn where training pictures lie, and how strange held-out ones are.

    Args:
        train: For each kind of features, those of training pictures, shape (count, features).
        held_out: The same of pictures that the network was not fitted to; there may be none.
        frozen: Whether the network was not fitted to the training pictures either, so that folds of them serve too.

    Returns:
        With the strangeness of the held-out pictures where they are 100, or 10 and the network is fitted; else that of
        each fold from the others. Of fewer than 100 pictures, quantiles of a t distribution of the logarithms stand
        for the pictures, because one in a hundred of them cannot be counted.
    """
    few = len(held_out[0]) < (FEW_FOR_DETAIL if frozen else FEWEST_HELD_OUT)
    if not few:
        places = tuple(_place(kind, last=not number) for number, kind in enumerate(train))
        apart = [_nearest_of(place, kind) for place, kind in zip(places, held_out, strict=True)]
    else:
        both = [np.concatenate(pair) for pair in zip(train, held_out, strict=True)] if frozen else list(train)
        places = tuple(_place(kind, last=not number) for number, kind in enumerate(both))
        apart = [_by_folds(kind, last=not number) for number, kind in enumerate(both)]
    tails = [max(float(np.quantile(distances, TAIL)), TINY) for distances in apart]
    strangeness = np.max([distances / tail for distances, tail in zip(apart, tails, strict=True)], axis=0)
    scaled = tuple(replace(place, tail=tail) for place, tail in zip(places, tails, strict=True))
    return Familiarity(scaled, _quantiles(strangeness))


def write_familiarity(path: Path, familiarity: Familiarity) -> None:
    """Write an archive that `read_familiarity` reads."""
    arrays: dict[str, Any] = {"held_out": familiarity.held_out}
    for number, place in enumerate(familiarity.places):
        arrays |= {f"{number}/{field.name}": np.asarray(getattr(place, field.name)) for field in fields(place)}
    write_arrays(path, **arrays)


def read_familiarity(path: Path) -> Familiarity | None:
    """What was written; None where the file is missing, as in old runs."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as archive:
        count = sum(name.endswith("/centres") for name in archive.files)
        places = tuple(
            Place(**{field.name: archive[f"{number}/{field.name}"] for field in fields(Place)})
            for number in range(count)
        )
        return Familiarity(places, archive["held_out"])


def _place(features: Features, *, last: bool) -> Place:
    """Centres of features, at the tail 1."""
    width = features.shape[1]
    shift, scale = np.zeros(width, np.float32), np.ones(width, np.float32)
    projection = np.zeros((width, 0), np.float16)
    if not last:
        spread = features.std(axis=0)
        shift = features.mean(axis=0)
        scale = (1 / (spread + 1e-3 * features.std() + TINY)).astype(np.float32)
    elif width > LARGEST_WIDTH:
        _, directions = np.linalg.eigh((unit := _unit(features)).T @ unit)
        projection = directions[:, -PROJECTED_WIDTH:].astype(np.float16)
    place = Place(shift, scale, projection, int(last), np.zeros((0, 0), np.float16), 1.0)
    return _with_centres(place, features)


def _with_centres(place: Place, features: Features) -> Place:
    from sklearn.cluster import KMeans

    mapped = place.map(features)
    if len(np.unique(mapped, axis=0)) > CENTRES:
        mapped = KMeans(CENTRES, n_init=1, random_state=0).fit(mapped).cluster_centers_
    return replace(place, centres=mapped.astype(np.float16))


def _nearest_of(place: Place, features: Features) -> npt.NDArray[np.float32]:
    return _nearest(place.map(features), place.centres.astype(np.float32))


def _by_folds(features: Features, *, last: bool) -> npt.NDArray[np.float32]:
    """For each picture its distance to centres of the other folds."""
    folds = np.random.default_rng(0).permutation(len(features)) % min(FOLDS, len(features))
    distances = np.zeros(len(features), np.float32)
    for fold in range(folds.max() + 1):
        rest = features[folds != fold] if folds.max() else features
        distances[folds == fold] = _nearest_of(_place(rest, last=last), features[folds == fold])
    return distances


def _quantiles(strangeness: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """At most 1,000 ascending values with the distribution of the given ones."""
    if len(strangeness) >= FEW_FOR_DETAIL:
        count = min(ROWS_KEPT, len(strangeness))
        return np.quantile(strangeness, (np.arange(count) + 0.5) / count).astype(np.float32)
    from scipy.stats import t

    logarithms = np.log(np.maximum(strangeness, TINY))
    count = len(logarithms)
    spread = logarithms.std(ddof=1) * np.sqrt(1 + 1 / count) if count > 1 else 1.0
    shares = (np.arange(ROWS_KEPT) + 0.5) / ROWS_KEPT
    return np.exp(logarithms.mean() + spread * t.ppf(shares, max(1, count - 1))).astype(np.float32)


def _unit(x: Features) -> Features:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)


def _nearest(x: Features, centres: Features) -> npt.NDArray[np.float32]:
    squares = (x**2).sum(axis=1)[:, np.newaxis] + (centres**2).sum(axis=1) - 2 * x @ centres.T
    return np.asarray(np.sqrt(np.maximum(squares.min(axis=1), 0)), np.float32)
