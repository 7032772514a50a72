"""The film of a training, film.npz in the run folder: what the network was at some forty moments, for those who look.

`training.filming` writes it while the network is trained. The page, the report and the lesson get it as JSON from here.
"""

import base64
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import read_arrays
from convladder.markup import printable
from convladder.runs.run import Run

FILM = "film.npz"
LARGEST = 4 << 20  # bytes when unpacked; a film has a tenth of that
RISE = 1.05  # overfitting: the validation loss ends at least so many times as high as its minimum
LATER = 2  # epochs at least after the minimum, all of them above it
# The arrays of a film that have a row for each moment.
BY_MOMENT = (
    *("step", "epoch", "seconds", "loss", "accuracy", "answers", "probabilities"),
    *("filters", "filter_peaks", "maps", "map_peaks"),
)


@dataclass(frozen=True)
class Film:
    """The arrays of film.npz. Moments are in the order of the training; unknown numbers are NaN.

    Attributes:
        images: The filmed test images as thumbnails, shape (images, height, width, channels), uint8.
        labels: Shape (images,).
        step: Steps before each moment, shape (moments,).
        epoch: Passes over the training images before each moment, shape (moments,).
        seconds: Seconds of fitting before each moment, shape (moments,).
        loss: Running mean of the training loss over the epoch, shape (moments,).
        accuracy: Running mean of the training accuracy over the epoch, shape (moments,).
        answers: The class that the network chose for each image, shape (moments, images).
        probabilities: Shape (moments, images, classes), uint8; 255 stands for 1.
        filters: Weights of the first layer, shape (moments, filters, height, width, channels), int8; 127 stands for the
            moment's peak. Without filters all but the first dimension are 0.
        filter_peaks: The largest absolute weight, shape (moments,).
        maps: Feature maps of the first images, shape (moments, images, maps, rows, columns), int8, like the filters.
        map_peaks: Shape (moments,).
        counts: How many filters and how many maps the layer has, shape (2,).
        epochs: A row for each epoch: its number, the steps, training loss and accuracy, validation loss and accuracy.
        spent: Seconds that the film took so far, shape (1,).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.float32]
    seconds: npt.NDArray[np.float32]
    loss: npt.NDArray[np.float32]
    accuracy: npt.NDArray[np.float32]
    answers: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.uint8]
    filters: npt.NDArray[np.int8]
    filter_peaks: npt.NDArray[np.float32]
    maps: npt.NDArray[np.int8]
    map_peaks: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]
    epochs: npt.NDArray[np.float64]
    spent: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def fits(self, classes: int) -> bool:
        """Whether the arrays belong together, and the classes exist."""
        moments, images = len(self.step), len(self.images)
        by_moment = (self.epoch, self.seconds, self.loss, self.accuracy, self.filter_peaks, self.map_peaks)
        return (
            moments > 0
            and all(values.dtype.kind in "iuf" for values in vars(self).values())
            and all(values.dtype.kind in "iu" for values in (self.step, self.labels, self.answers, self.counts))
            and self.images.ndim == 4
            and self.images.dtype == self.probabilities.dtype == np.uint8
            and all(values.shape == (moments,) for values in by_moment)
            and self.answers.shape == (moments, images)
            and self.probabilities.shape == (moments, images, classes)
            and self.labels.shape == (images,)
            and all(((known >= 0) & (known < classes)).all() for known in (self.labels, self.answers))
            and (self.filters.ndim, self.maps.ndim) == (5, 5)
            and len(self.filters) == len(self.maps) == moments
            and self.filters.dtype == self.maps.dtype == np.int8
            and self.maps.shape[1] <= images
            and self.counts.shape == (2,)
            and self.epochs.ndim == 2
            and self.epochs.shape[1] == 6
            and self.spent.shape == (1,)
            and bool(np.isfinite(self.epochs[:, :2]).all())
        )


def read_film(run: Run) -> Film:
    """Read a run's film.

    Raises:
        ConvladderError: There is none; the message says why. Or it is damaged.
    """
    path = run.path / FILM
    if not path.exists():
        raise ConvladderError(_why_none(run))
    return load_film(path, len(run.info["class_names"]))


def load_film(path: Path, classes: int) -> Film:
    """Read a film of a network that knows so many classes.

    Raises:
        ConvladderError: It is damaged.
    """
    try:
        arrays = read_arrays(path, most=LARGEST)
        film = Film(**{name: arrays[name] for name in Film.__dataclass_fields__ if name in arrays})
        if not film.fits(classes):
            raise ValueError("its arrays do not belong together")
    except (OSError, ValueError, TypeError) as error:
        raise ConvladderError(
            f"{path} is damaged ({error}). Nothing else of the run needs it: delete it, or train again for a new film."
        ) from error
    return film


def describe_film(run: Run, most: int = 1000) -> dict[str, Any]:
    """A film as JSON for the player, serving/web/film/player.js.

    Args:
        run: A run, finished or not.
        most: How many moments it holds at most, chosen evenly.

    Returns:
        Numbers by moment as lists, None where unknown; pictures, filters and maps as `shape` and `values`: base64 of
        zlib of a byte a value. `sure` is the probability of the answer, `right` that of the label. `overfit` says where
        the network began to overfit, if it did.

    Raises:
        ConvladderError: As `read_film`.
    """
    film = read_film(run)
    chosen = np.unique(np.linspace(0, len(film.step) - 1, min(most, len(film.step))).round().astype(int))
    probabilities = film.probabilities[chosen] / 255
    images = np.arange(len(film.images))
    answers = film.answers[chosen]
    validated = film.epochs[np.isfinite(film.epochs[:, 4])]
    running = run.info["status"] == "running"
    return {
        "format": 1,
        "name": printable(run.path.resolve().name),
        "rung": run.info["rung"],
        "class_names": run.info["class_names"],
        "running": running,
        "age": max(0.0, round(time.time() - (run.path / FILM).stat().st_mtime, 1)) if running else 0.0,
        "images": _pack(film.images),
        "labels": film.labels.tolist(),
        "steps": film.step[chosen].tolist(),
        **{name: _numbers(getattr(film, name)[chosen]) for name in ("epoch", "seconds", "loss", "accuracy")},
        "answers": answers.tolist(),
        "sure": _rows(np.take_along_axis(probabilities, answers[..., np.newaxis], axis=2)[..., 0]),
        "right": _rows(probabilities[:, images, film.labels]),
        "filters": _pack_scaled(film.filters[chosen], film.filter_peaks[chosen], film.counts[0]),
        "maps": _pack_scaled(film.maps[chosen], film.map_peaks[chosen], film.counts[1]),
        "validation": {
            "epochs": validated[:, 0].astype(int).tolist(),
            "steps": validated[:, 1].astype(int).tolist(),
            "loss": _numbers(validated[:, 4]),
            "accuracy": _numbers(validated[:, 5]),
        },
        "overfit": find_overfitting(validated),
    }


def find_overfitting(epochs: npt.NDArray[np.float64]) -> dict[str, Any] | None:
    """Where a training began to overfit: the minimum of the validation loss, if the loss really rises after it.

    Args:
        epochs: Rows of a Film's `epochs`, all of them validated.

    Returns:
        `epoch`, `step`, `loss` there and `last`, the loss at the end. None if fewer than two epochs follow, if one of
        the last two is less than 5 % above the minimum, or if the training loss rose too: then it diverged.
    """
    if not len(epochs):
        return None
    loss = epochs[:, 4]
    lowest = int(loss.argmin())
    rises = len(loss) - 1 - lowest >= LATER and loss[-LATER:].min() >= RISE * loss[lowest]
    if not rises or not epochs[-1, 2] < epochs[lowest, 2]:
        return None
    number, step = (int(value) for value in epochs[lowest, :2])
    return {"epoch": number, "step": step, "loss": round(float(loss[lowest]), 4), "last": round(float(loss[-1]), 4)}


def list_films(folders: Mapping[str, Path], files: Sequence[str]) -> list[dict[str, Any]]:
    """What films.json says: for each run its `name`, and its film's `file`, or `why` there is none.

    Args:
        folders: Run folders by the names that the page shows.
        files: Addresses of their films.
    """
    listed = []
    for (name, folder), file in zip(folders.items(), files, strict=True):
        entry: dict[str, Any] = {"name": name, "file": file, "why": "", "running": False}
        try:
            run = Run(folder)
            entry["running"] = run.info.get("status") == "running"
            read_film(run)
        except ConvladderError as error:
            entry |= {"file": None, "why": printable(str(error))}
        listed.append(entry)
    return listed


def _why_none(run: Run) -> str:
    if run.info.get("rung") == "transfer" and not run.info.get("own_network"):
        return (
            f"{run.path} has no film: the head of transfer is solved, not trained step by step. Expected a run of "
            "another rung, such as finetune."
        )
    if run.info.get("status") == "running":
        return f"{run.path} has no film yet: its training has not taken a step. Wait for the first."
    return f"{run.path} has no {FILM}. Expected a run of this version: train again to get a film."


def _pack(values: npt.NDArray[Any]) -> dict[str, Any]:
    packed = zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
    return {"shape": list(values.shape), "values": base64.b64encode(packed).decode()}


def _pack_scaled(values: npt.NDArray[np.int8], peaks: npt.NDArray[np.float32], of: int) -> dict[str, Any] | None:
    return _pack(values) | {"peaks": _numbers(peaks), "of": int(of)} if values.size else None


def _numbers(values: npt.NDArray[Any]) -> list[float | None]:
    """Finite numbers to four digits after the point; None for others."""
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]


def _rows(values: npt.NDArray[np.float64]) -> list[list[float]]:
    return [[round(float(value), 3) for value in row] for row in values]
