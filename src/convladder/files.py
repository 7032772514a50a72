"""Files and folders that appear complete or not at all: written beside their place, flushed, then renamed.

What is being written has a name that begins with TEMPORARY, and is locked. The system releases the lock of a process
that was killed, so the next one that writes into that folder sees what is abandoned, and removes it.
"""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError

TEMPORARY = ".convladder-"


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
        _remove_abandoned(path.parent)
        handle, name = _locked(lambda: tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent))
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
            os.close(handle)
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
    former = path.with_name(f".{path.name}.former")  # kept if something fails
    try:
        if former.exists() and not path.exists():
            former.rename(path)  # a process was killed between the two renames below
        if path.exists() and not (path / mark).is_file():
            raise ConvladderError(f"{path} exists and is not an export. Expected a new path, or an earlier export.")
        create_folder(path.parent)
        shutil.rmtree(former, ignore_errors=True)
        with scratch_folder(path.parent) as scratch:
            written = scratch / "written"
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
            _flush(path.parent)
            shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder that is removed afterwards; if this process is killed, by the next call for that parent.

    Args:
        parent: Where it is made. By default in the system's folder for temporary files; then those that libraries
            make in this context are made in it.

    Raises:
        OSError: It cannot be made.
    """
    place = parent or Path(tempfile.gettempdir())
    _remove_abandoned(place)
    with contextlib.ExitStack() as stack:

        def make() -> tuple[int, str]:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=place))
            return os.open(name, os.O_RDONLY), name

        handle, name = _locked(make)
        stack.callback(os.close, handle)
        if parent is None:
            stack.callback(setattr, tempfile, "tempdir", tempfile.tempdir)
            tempfile.tempdir = name
        yield Path(name)


def lock(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed. False if its file system has no locks.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


def _locked(make: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """Make a temporary file or folder, and lock it: again if another process has taken it for an abandoned one."""
    while True:
        handle, name = make()
        with contextlib.suppress(BlockingIOError):
            lock(handle)
            if os.path.exists(name):
                return handle, name
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes that were killed have left."""
    for path in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            # No link, and no pipe that would be waited for: in a public folder others may have put it there.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)


def _flush(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a renamed file is there after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some file systems flush no folders
        os.fsync(handle)
    os.close(handle)


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
