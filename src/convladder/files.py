"""Files and folders that appear complete or not at all: written beside their place, flushed, then renamed."""

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
    """Create a folder if it does not exist.

    Raises:
        ConvladderError: It cannot be created; exit status 1.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`. Rename it to `path` on success, remove it on failure.

    Raises:
        ConvladderError: It cannot be written (no space or no permission); exit status 1.
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
    """Yield an empty temporary folder beside `path`. Rename it to `path` on success, remove it on failure.

    Args:
        path: An existing folder is replaced only if it holds a file named `mark`.
        mark: Name of the file that marks an earlier export.

    Raises:
        ConvladderError: Something else exists there, exit status 2; or it cannot be written, exit status 1.
    """
    if path.exists() and not (path / mark).is_file():
        raise ConvladderError(f"{path} exists and is not an export. Expected a new path, or an earlier export.")
    create_folder(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as name:
            written, former = Path(name) / "written", Path(f"{name}.former")  # kept if something fails
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
    """Write indented JSON."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write rows with the same keys as CSV with a header."""
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    """Write an .npz file."""
    with whole_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]


def unwritable(path: Path, error: OSError) -> ConvladderError:
    """The error for a path that cannot be written, with the system's reason; exit status 1."""
    return ConvladderError(
        f"Could not write {path} ({error.strerror or error}). "
        "Expected a directory with space and write permission: fix that, or choose another one.",
        exit_status=1,
    )
