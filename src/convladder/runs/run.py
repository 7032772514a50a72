"""The run folder: each file is written completely or not at all, and read back as a Run."""

import contextlib
import csv
import errno
import inspect
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convladder.data.loading import EMBEDDED
from convladder.errors import ConvladderError
from convladder.evaluating.learned import Beside, likely_cause, set_beside_constant
from convladder.files import create_folder, read_arrays, regular, scratch_folder, unwritable, write_json
from convladder.inference.kinds import name_file
from convladder.markup import html_of
from convladder.runs.fields import Fields, check_metrics, check_run, damaged, read_fields

if TYPE_CHECKING:
    import keras

    from convladder.data.dataset import Dataset
    from convladder.inference.classifier import Classifier


SCORED_SPLITS = ("validation", "test")
FAMILIARITY_FILE = "familiarity.npz"
PREDICTIONS = "predictions.npz"
LEARNED = "learned.npz"  # digests of the training and validation pictures


class Run:
    """A run folder: what was trained, on which data, how and how well. Files are read when they are needed.

    Args:
        path: The folder.

    Raises:
        ConvladderError: The folder holds no readable run.json.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        _ = self.info

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return html_of(self)

    @cached_property
    def info(self) -> dict[str, Any]:
        """run.json: rung, recipe, dataset, seed, versions, hardware, status, seconds."""
        info = self._read_fields("run.json")
        check_run(info)
        return info

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """metrics.json: for each split ("validation", "test") accuracy, metrics per class, calibration and more."""
        metrics = self._read_fields("metrics.json")
        check_metrics(metrics)
        return metrics

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """history.csv: one row per epoch."""
        path = self.path / "history.csv"
        try:
            with open(path, newline="", encoding="utf-8", opener=regular) as file:
                return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except OSError as error:
            raise self._unfinished(path.name, error) from error
        except (ValueError, TypeError, csv.Error) as error:  # a row may be too short or too long
            raise damaged(path, error) from error

    def epochs(self, key: str) -> list[list[float]]:
        """A column of history.csv for each member of the ensemble, one value per epoch; empty if it does not exist."""
        members: dict[float, list[float]] = {}
        for row in self._history_so_far():
            if key in row:
                members.setdefault(row.get("member", 1), []).append(row[key])
        return list(members.values())

    @cached_property
    def predictions(self) -> dict[str, npt.NDArray[Any]]:
        """predictions.npz: the test images' `probabilities`, shape (count, num_classes), and `labels`.

        If validation images were held out, also their `validation_probabilities` and `validation_labels`. Of the
        test images in `familiarity_rows`, at most 2,000, also their `familiarity` and `strangeness`.
        """
        return self._read_predictions()

    @cached_property
    def learned(self) -> npt.NDArray[np.uint64]:
        """Digests of the pixels of all training and validation pictures, ascending; empty for old runs."""
        if not (self.path / LEARNED).exists():
            return np.empty(0, np.uint64)
        digests = self._read_arrays(LEARNED, "digests")["digests"]
        if digests.dtype != np.uint64 or digests.ndim != 1:
            raise damaged(self.path / LEARNED, f"its digests are {digests.dtype} of shape {digests.shape}")
        return digests

    @cached_property
    def answers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The answers for the test images, and their labels, both of shape (count,). The probabilities are released."""
        predictions = vars(self).get("predictions") or self._read_predictions()
        return predictions["probabilities"].argmax(axis=1), predictions["labels"]

    @cached_property
    def beside_constant(self) -> Beside:
        """Its answers for the test images, compared with the constant answer."""
        taken, labels = self.answers
        classes = 1 + int(max(taken.max(), labels.max()))
        counts = (np.bincount(numbers, minlength=classes).tolist() for numbers in (labels, taken))
        return set_beside_constant(int((taken == labels).sum()), *counts)

    @property
    def no_better(self) -> str:
        """A sentence if the run does not beat the constant answer; else empty."""
        beside = self.beside_constant
        if beside.beats is not False:
            return ""
        history = self._history_so_far()
        names = self.info.get("class_names", [str(number) for number in range(1 + beside.commonest)])
        return beside.words(names, likely_cause(self.info, history, beside.share))

    def _history_so_far(self) -> list[dict[str, float]]:
        """The history; empty if there is none yet."""
        return self.history if os.path.lexists(self.path / "history.csv") else []

    def _read_predictions(self) -> dict[str, npt.NDArray[Any]]:
        stored = self._read_arrays(PREDICTIONS)
        prefixes = ["", "validation_"] if "validation_labels" in stored else [""]
        for prefix in prefixes:
            none = np.empty(0)
            probabilities, labels = (stored.get(f"{prefix}{key}", none) for key in ("probabilities", "labels"))
            classes = len(self.info.get("class_names") or ()) or (probabilities.shape or (0,))[-1]
            if (
                (labels.dtype.kind not in "iu" or probabilities.dtype.kind != "f")
                or (labels.ndim != 1 or probabilities.shape != (len(labels), classes))
                or not (len(labels) and labels.min() >= 0 and labels.max() < classes)
            ):
                raise damaged(self.path / PREDICTIONS, f"it holds no probabilities and labels of {classes} classes")
        return stored

    def load_dataset(self) -> "Dataset":
        """Load the data that the run was trained on, and check that they are the same.

        Raises:
            ConvladderError: The data were built in Python, have changed, or are gone.
        """
        from convladder.data.loading import load_dataset

        if not self.info.get("data"):
            raise ConvladderError(
                f"{self.path} does not say where its data came from. Expected a run of data from a file or folder: "
                "name images with --data."
            )
        known = {"fit", *inspect.signature(load_dataset).parameters}  # resize was called fit before
        if not (isinstance(self.info["data"]["source"], str) and known.issuperset(self.info["data"])):
            raise damaged(self.path / "run.json", f"data in it has the keys {', '.join(self.info['data'])}")
        data = self.arrange(load_dataset(**self.info["data"]))
        if data.fingerprint != self.info["fingerprint"]:
            raise ConvladderError(
                f"{self.info['data']['source']} has changed since {self.path} was trained on it. Expected the same "
                "images and labels: restore them, or name other images with --data."
            )
        return data

    def arrange(self, data: "Dataset") -> "Dataset":
        """Split loaded data as for this run: with validation images, without them, or with nothing held out."""
        if "tested_by" in self.info:
            return data.pooled()
        return data if self.info["images"]["validation"] else data.without_validation()

    def load_model(self) -> "keras.Model":
        """The best weights, as a Keras model, not compiled.

        Raises:
            ConvladderError: The file is missing or damaged, or holds what could run code (see docs/security.md).
        """
        from convladder.models.reading import read_network

        return read_network(self.path / "model.keras")

    def classifier(self) -> "Classifier":
        """The shipped model of a finished run."""
        from convladder.inference.classifier import Classifier

        return Classifier(self.path / "model.onnx")

    def _read_fields(self, name: str) -> Fields:
        try:
            return read_fields(self.path / name)
        except OSError as error:
            raise self._unfinished(name, error) from error

    def _read_arrays(self, name: str, *names: str) -> dict[str, npt.NDArray[Any]]:
        try:
            return read_arrays(self.path / name, *names)
        except OSError as error:
            raise self._unfinished(name, error) from error
        except ValueError as error:
            raise damaged(self.path / name, error) from error

    def _unfinished(self, name: str, error: OSError) -> ConvladderError:
        kind = name_file(self.path) or f"{name}: {error.strerror or error}"
        return ConvladderError(f"{self.path} is not a finished run ({kind}). Expected a folder that train wrote.")


def embedded_name(info: Mapping[str, Any]) -> str | None:
    """The embedded data set that a run was trained on, if any. A user's data with the same name do not count."""
    source = (info.get("data") or {}).get("source")
    return source if source in EMBEDDED else None


def create_run_folder(directory: Path, rung: str, info: Mapping[str, Any]) -> Path:
    """Create the next folder of a rung: pool-1, pool-2 and so on. It appears with its run.json.

    Raises:
        ConvladderError: The directory cannot be written; exit status 1.
    """
    create_folder(directory)
    try:
        with scratch_folder(directory) as scratch:
            made = scratch / "run"
            made.mkdir()
            write_json(made / "run.json", info)
            return number_run(made, directory, rung)
    except OSError as error:
        raise unwritable(directory, error) from error


def number_run(made: Path, directory: Path, rung: str) -> Path:
    """Make a whole folder the next run of a rung.

    Raises:
        OSError: The directory cannot be written.
    """
    taken = [path.name.removeprefix(f"{rung}-") for path in directory.glob(f"{rung}-*")]
    number = 1 + max((int(number) for number in taken if number.isdecimal()), default=0)
    while True:
        folder = directory / f"{rung}-{number}"
        try:
            return made.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            number += 1  # another process was faster


def finished_runs(directory: Path) -> list[Run]:
    """The finished runs in a directory, newest first. Unreadable folders are skipped."""
    return [run for run in _runs(directory) if run.info.get("status") == "finished"]


def unfinished_runs(directory: Path) -> list[Run]:
    """The runs in a directory that were killed, stopped or failed, or are under way; newest first."""
    return [run for run in _runs(directory) if run.info.get("status") != "finished"]


def _runs(directory: Path) -> Iterator[Run]:
    ages: dict[Path, float] = {}
    for path in directory.glob("*/run.json"):
        with contextlib.suppress(FileNotFoundError):  # another process may have moved or removed it since
            ages[path.parent] = path.stat().st_mtime
    for folder in sorted(ages, key=ages.__getitem__, reverse=True):
        with contextlib.suppress(ConvladderError):
            yield Run(folder)
