"""Resuming: whether a run that has not ended can go on, and whether all is as it was when it was started."""

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convladder.errors import ConvladderError
from convladder.files import lock, unwritable

# The parts of run.json that change a run's result, besides its recipe and data.
SAME = ("rung", "own_network", "layers", "choices", "ensemble", "seed", "deterministic", "parameters", "precision")
SECONDS_A_LOOK = 0.1  # at a folder that another process trains into
VERSIONS = ("convladder", "keras", "tensorflow")  # up to the second number


def begun(folder: Path) -> Path:
    """The folder, if it holds a run.

    Raises:
        ConvladderError: It does not.
    """
    if not os.path.isfile(folder / "run.json"):
        raise ConvladderError(
            f"{folder} holds no run.json. Expected the folder of a run that was stopped, killed or failed."
        )
    return folder


@contextlib.contextmanager
def in_use(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep other processes from training into a run folder. The system releases it, however this process ends.

    Args:
        folder: The run folder.
        patience: Seconds to wait for another process that trains into it. One whose caller was killed needs a moment
            to end.

    Raises:
        ConvladderError: Another process trains into it, or it cannot be opened.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error) from error
    ends = time.monotonic() + patience
    while True:
        try:
            lock(descriptor)
            break
        except BlockingIOError:
            if time.monotonic() < ends:
                time.sleep(SECONDS_A_LOOK)
                continue
            os.close(descriptor)
            raise ConvladderError(
                f"{folder} is being trained by another process. Expected a run that was ended: wait for that "
                "process, or end it."
            ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def check_same(folder: Path, started: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run with anything that would change its result.

    Args:
        folder: The run folder.
        started: Its run.json.
        now: What run.json would hold if the run were started now.

    Raises:
        ConvladderError: Something differs. The message names all of it.
    """
    free = set()
    if now["rung"] == "finetune":
        free.add("precision")  # it is chosen by measuring, and the checkpoint holds which
    if now["own_network"]:
        free.add("rung")  # of networks without a name Keras makes one, which differs from process to process
    same = [name for name in SAME if name not in free]
    told = [
        in_words(name.replace("_", " "), was, wanted)
        for before, after, names in [
            (started, now, same),
            (started.get("recipe", {}), now["recipe"], now["recipe"]),
            (_minor(started), _minor(now), VERSIONS),
        ]
        for name in names
        if (was := before.get(name)) != (wanted := after.get(name))
    ]
    if not told and started.get("fingerprint") != now["fingerprint"]:
        raise ConvladderError(
            f"The data have changed since {folder} was started on {started.get('dataset')}. Expected the same "
            "pictures, labels and splits: restore them, or train anew."
        )
    refuse(folder, told)


def note_machine(folder: Path, started: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json adds if a run goes on with other versions or on another machine. A warning says it, too."""

    def differences(earlier: Mapping[str, Any]) -> list[str]:
        return [
            in_words(name, was, value)
            for kind in ("versions", "hardware")
            for name, value in now[kind].items()
            if (was := earlier.get(kind, {}).get(name)) != value
        ]

    machines = [started, *started.get("continued_on", [])]
    if not all(map(differences, machines)):
        return {}
    warnings.warn(
        f"{folder} was trained with {'; '.join(differences(machines[-1]))}. It goes on, and its numbers may differ "
        "from those of a run that nothing interrupted.",
        stacklevel=3,
    )
    return {"continued_on": [*machines[1:], {"versions": now["versions"], "hardware": now["hardware"]}]}


def in_words(name: str, was: Any, wanted: Any) -> str:
    """A difference: seed 1, not 2."""
    return f"{name} {_shown(was)}, not {_shown(wanted)}"


def refuse(folder: Path, differences: list[str]) -> None:
    """Raise a ConvladderError if there are differences."""
    if differences:
        raise ConvladderError(
            f"{folder} was started with {'; '.join(differences)}. Expected the same to resume it: leave out what "
            "differs, or train anew without resuming."
        )


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}={_shown(inner)}" for key, inner in value.items()) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def _minor(info: Mapping[str, Any]) -> dict[str, str]:
    return {name: ".".join(version.split(".")[:2]) for name, version in info.get("versions", {}).items()}
