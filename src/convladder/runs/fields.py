"""The JSON files of a run folder, read so that a damaged or hostile one is a line that names it."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from convladder.errors import ConvladderError
from convladder.files import read_json
from convladder.inference.artifact import LARGEST_NUMBER

NUMBER = (int, float)
NUMBER_OR_NONE = (int, float, NoneType)
# What the keys of run.json and of each split in metrics.json hold. Which of them are there depends on the version and
# on how far the run got.
KINDS_OF_RUN: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("status", "rung", "dataset", "fingerprint", "started", "precision"), str),
    **dict.fromkeys(("seed", "ensemble", "parameters"), int),
    **dict.fromkeys(("fit_seconds", "test_accuracy", "threshold", "temperature"), NUMBER),
    **dict.fromkeys(("images", "recipe", "choices", "versions", "hardware"), dict),
    **dict.fromkeys(("validation_accuracy", "macs"), NUMBER_OR_NONE),
    **dict.fromkeys(("class_names", "input_shape"), list),
    "content": (str, NoneType),
    "data": (dict, NoneType),
}
KINDS_OF_SCORES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("low", "high"), NUMBER_OR_NONE),
    "accuracy": NUMBER,
    "images": int,
}
SIDES = 3  # of input_shape: height, width and channels


class MissingKeyError(ConvladderError, LookupError):
    """A file of a run lacks something. Templates take a LookupError for a value that may be missing."""


class Fields(dict[str, Any]):
    """An object of a JSON file. A key that it lacks is an error that names the file, wherever it is asked for.

    Args:
        path: The file.
        content: The object.
    """

    def __init__(self, path: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._path = path

    def __missing__(self, key: str) -> Any:
        raise MissingKeyError(str(damaged(self._path, f"it has no {key}")))

    def check(self, kinds: Mapping[str, type | tuple[type, ...]]) -> None:
        """Raise a ConvladderError if the value of a key is of another kind."""
        for key, kind in kinds.items():
            if key in self and not isinstance(self[key], kind):
                raise damaged(self._path, f"{key} in it is of type {type(self[key]).__name__}")
            if isinstance(self.get(key), int | float) and not abs(self[key]) <= LARGEST_NUMBER:  # or is NaN
                raise damaged(self._path, f"{key} in it is no finite number")


def read_fields(path: Path) -> Fields:
    """Read a JSON file of one object.

    Raises:
        OSError: It cannot be read.
        ConvladderError: It is not JSON, or holds something else.
    """
    try:
        content = read_json(path, object_hook=lambda read: Fields(path, read))
    except ValueError as error:
        raise damaged(path, f"not JSON: {error}") from error
    if not isinstance(content, Fields):
        raise damaged(path, f"it is of type {type(content).__name__}")
    return content


def check_run(info: Fields) -> None:
    """Raise a ConvladderError if something in run.json is of another kind than `train` writes."""
    info.check(KINDS_OF_RUN)
    if isinstance(info.get("images"), Fields):
        info["images"].check(dict.fromkeys(info["images"], int))
    names, sides = info.get("class_names", ["any"]), info.get("input_shape", [1] * SIDES)
    if not names or not all(isinstance(name, str) for name in names):
        raise damaged(info._path, "class_names in it are not texts")
    if len(sides) != SIDES or not all(isinstance(side, int) and side > 0 for side in sides):
        raise damaged(info._path, "input_shape in it is not [height, width, channels]")


def check_metrics(metrics: Fields) -> None:
    """Raise a ConvladderError if something in metrics.json is of another kind than `train` writes."""
    metrics.check(dict.fromkeys(metrics, (dict, NoneType)))
    for scores in filter(None, metrics.values()):
        scores.check(KINDS_OF_SCORES)


def damaged(path: Path, reason: object) -> ConvladderError:
    """The error for a file of a run that is not as `train` wrote it."""
    return ConvladderError(
        f"{path} is damaged ({reason}). Expected what train wrote: copy the run again, or train anew."
    )
