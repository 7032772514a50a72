"""Checkpoints: the state of a training in one file of its run folder, so that it goes on after any end.

checkpoint.npz holds arrays and one JSON text, and nothing that is pickled:

    state          JSON: the networks that are fitted, the one that is being fitted, and the seconds that are left
    fitted1/best/0 … the weights of the first network of an ensemble, and so on
    begun/…        of the network that is being fitted: its variables with the optimizer's, the metrics of the epoch so
                   far, and the best weights

The order of the images and their augmentation have no state of their own: both follow from the seed and the step.
The file is written beside its place, flushed and renamed, so what is read is always whole. It is removed when the run
is finished.
"""

import contextlib
import json
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError
from convladder.files import parse_json, read_arrays, whole_file

FILE = "checkpoint.npz"
SHARE = 0.015  # of the time so far that writing may take; with the last one, of a fitted network, it stays under 2 %
SECONDS_APART = 1.0  # at least, between two
BYTES_A_SECOND = 2e8  # of the first one, before any has been timed

Arrays = dict[str, list[npt.NDArray[Any]]]


@dataclass
class Part:
    """What a checkpoint holds of one network.

    Attributes:
        state: What JSON can hold.
        arrays: Lists of arrays by their names.
    """

    state: dict[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The size of the arrays."""
        return sum(array.nbytes for arrays in self.arrays.values() for array in arrays)


class Checkpoint:
    """The checkpoint of a run. What is there already is read.

    Args:
        folder: The run folder.

    Attributes:
        fitted: The networks that are fitted, in order.
        begun: The network that was being fitted when the file was written, until `take` hands it out.
        left: Seconds that were left of the recipe's minutes.
        ends: When they are over, on the clock of `time.monotonic()`.
        seconds: What all checkpoints of the run took to write, those of earlier processes too.

    Raises:
        ConvladderError: The file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self.fitted: list[Part] = []
        self.begun: Part | None = None
        self.left: float | None = None
        self.ends: float | None = None
        self._began = self._last = time.perf_counter()
        self.seconds = self._spent = self._cost = 0.0
        self._told = False
        if self.path.exists():
            self._read()

    def take(self) -> Part | None:
        """What there is of the network that was being fitted; only once, because the next network begins anew."""
        begun, self.begun = self.begun, None
        return begun

    def is_due(self, size: int) -> bool:
        """Whether a checkpoint of this size, in bytes, keeps to its share of the time."""
        now = time.perf_counter()
        cost = self._cost or 0.02 + size / BYTES_A_SECOND
        return now - self._last >= SECONDS_APART and self._spent + cost <= SHARE * (now - self._began)

    def save(self, begun: Part) -> None:
        """Write where a network stands."""
        self._write(begun)

    def finish(self, fitted: Part) -> None:
        """Write a network that is fitted."""
        self.fitted.append(fitted)
        self._write(None)

    def _write(self, begun: Part | None) -> None:
        """Write all. What cannot be written costs the training nothing: the last file stays, and a warning says so."""
        began = time.perf_counter()
        parts = {f"fitted{number}": part for number, part in enumerate(self.fitted, start=1)}
        if begun is not None:
            parts["begun"] = begun
        state = {
            "left": None if self.ends is None else self.ends - time.monotonic(),
            "seconds": self.seconds,
            **{name: part.state for name, part in parts.items()},
        }
        arrays = {
            f"{name}/{kind}/{number}": array
            for name, part in parts.items()
            for kind, arrays in part.arrays.items()
            for number, array in enumerate(arrays)
        }
        try:
            with whole_file(self.path) as temporary:
                np.savez(temporary, state=np.array(json.dumps(state)), **arrays)  # type: ignore[arg-type]
        except ConvladderError as error:
            if not self._told:
                kept = "the last one is kept" if os.path.exists(self.path) else "there is none to resume from"
                warnings.warn(f"{error} The training goes on without a new checkpoint; {kept}.", stacklevel=2)
                self._told = True
        self._last = time.perf_counter()
        self._cost = self._last - began
        self._spent += self._cost
        self.seconds += self._cost

    def _read(self) -> None:
        parts: dict[str, Part] = {}
        try:
            stored = read_arrays(self.path)
            state = parse_json(str(stored.pop("state")))
            for key, array in stored.items():
                name, kind, _ = key.split("/")  # numbered in order
                parts.setdefault(name, Part(state[name])).arrays.setdefault(kind, []).append(array)
            self.left, self.seconds = state["left"], state["seconds"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConvladderError(
                f"{self.path} is damaged ({error}). Expected what train wrote: copy it again, or remove it, and the "
                "training begins anew."
            ) from error
        self.begun = parts.pop("begun", None)
        self.fitted = list(parts.values())


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that is finished, if there is one, and it can be removed."""
    with contextlib.suppress(OSError):
        (folder / FILE).unlink()


def put_back(variables: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
    """Assign values to the variables of Keras or TensorFlow that they were read from.

    Raises:
        ConvladderError: They are those of another network.
    """
    shapes = [tuple(variable.shape) for variable in variables], [value.shape for value in values]
    if shapes[0] != shapes[1]:
        raise ConvladderError(
            f"The checkpoint holds {len(shapes[1])} variables, and the network has {len(shapes[0])} or others. "
            "Expected the network that the run was started with."
        )
    for variable, value in zip(variables, values, strict=True):
        own = variable.numpy().dtype
        variable.assign(value.view(own) if value.dtype.kind == "V" else value)  # .npz knows no bfloat16
