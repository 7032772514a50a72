"""Files and folders that appear whole or not at all: written beside their place, flushed, renamed."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError


def create_folder(folder: Path) -> None:
    """Make a folder, if it is not there.

    Raises:
        ConvladderError: It cannot be made; exit status 1.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; rename it when all went well, remove it when not.

    Raises:
        ConvladderError: It cannot be written: no space, no permission; exit status 1.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def whole_folder(path: Path, mark: str) -> Iterator[Path]:
    """Give an empty folder beside `path` to write to; rename it when all went well, remove it when not.

    Args:
        path: A folder that is there is replaced if it holds a file named `mark`.
        mark: The file that tells such a folder from another.

    Raises:
        ConvladderError: Something else stands there; it cannot be written; exit status 1 for the latter.
    """
    if path.exists() and not (path / mark).is_file():
        raise ConvladderError(f"{path} is there already, and no export. Expected a new path, or a former export.")
    create_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as name:
            written, former = Path(name) / "written", Path(f"{name}.former")  # which outlives a failure
            written.mkdir()
            yield written
            if path.exists():
                path.rename(former)
            try:
                written.rename(path)
            except BaseException:
                if former.exists():
                    former.rename(path)
                raise
            shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise unwritable(path, error) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that a person can read as well."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows that share their keys, under a header."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Write an .npz file."""
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def unwritable(path: Path, error: OSError) -> ConvladderError:
    """The refusal to write there, with the system's reason; exit status 1."""
    return ConvladderError(
        f"{path} cannot be written ({error.strerror or error}). "
        "Expected a directory with room and permission: mend that, or name another one.",
        exit_status=1,
    )
