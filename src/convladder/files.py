"""Files and folders that appear complete or not at all, and files of others, read with care.

What is written is written beside its place, flushed, then renamed.

Until then it has a name that begins with TEMPORARY, and is locked. The system releases the lock of a process
that was killed, so the next one that writes into that folder sees what is abandoned, and removes it.

What is read may be damaged, or made by somebody who means harm: it is a file and no pipe, it unpacks to memory in
proportion to its size, and every failure is an OSError or a ValueError whose text is one line.
"""

import contextlib
import csv
import errno
import functools
import json
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder.errors import ConvladderError

TEMPORARY = ".convladder-"
UNPACKED_FREE = 1 << 28  # bytes that any compressed file may unpack to
UNPACKED_SHARE = 100  # and so many times its own size; drawings reach 10, a bomb 1,000
DEEPEST_JSON = 100  # lists and objects within one another: more than Python can print from any depth of calls


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
        handle, name = _locked(lambda: _empty_file(path))
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
    except Exception as error:
        if refusal := _as_unwritable(path, error):
            raise refusal from error
        raise


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
    except Exception as error:
        if refusal := _as_unwritable(path, error):
            raise refusal from error
        raise


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
        make = functools.partial(tempfile.TemporaryDirectory, prefix=TEMPORARY, dir=place)
        handle, name = _locked(lambda: stack.enter_context(make()))
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


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock that the system releases if the process is killed. The file `path` stands for it, and stays.

    Raises:
        BlockingIOError: Another process holds it, and `wait` is False.
        OSError: The file cannot be made, or its file system has no locks.
    """
    import fcntl

    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _empty_file(path: Path) -> str:
    handle, name = tempfile.mkstemp(prefix=TEMPORARY, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    return name


def _locked(make: Callable[[], str]) -> tuple[int, str]:
    """Make a temporary file or folder, and lock it: again if another process has taken it for an abandoned one."""
    while True:
        name = make()
        with contextlib.suppress(FileNotFoundError):
            handle = os.open(name, os.O_RDONLY)
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


def _as_unwritable(path: Path, error: Exception) -> ConvladderError | None:
    """`unwritable`, also where a library has put what the system said into an exception of its own; None otherwise."""
    if isinstance(error, OSError):
        return unwritable(path, error)
    if isinstance(error, ConvladderError):
        return None
    said = str(error)
    reasons = (os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES))
    reason = next((text for text in reasons if text in said), None)
    return None if reason is None else unwritable(path, OSError(0, reason))


def regular(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses pipes and devices, because they may block or never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # `open` itself refuses folders
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def most_unpacked(size: int) -> int:
    """How many bytes a compressed file of `size` bytes may unpack to."""
    return UNPACKED_FREE + UNPACKED_SHARE * size


def read_json(path: Path, **options: Any) -> Any:
    """Read a JSON file, with the options of `json.loads`.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, or is nested more than 100 levels deep.
    """
    with open(path, "rb", opener=regular) as file:
        return parse_json(file.read().decode("utf-8"), **options)


def parse_json(text: str, **options: Any) -> Any:
    """Parse JSON, with the options of `json.loads`.

    Raises:
        ValueError: It is not JSON, or is nested more than 100 levels deep.
    """
    deep = ValueError(f"it is nested more than {DEEPEST_JSON} levels deep")
    try:
        content = json.loads(text, **options)
    except RecursionError:
        raise deep from None
    level = [content]
    for _ in range(DEEPEST_JSON + 1):
        containers = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        if not containers:
            return content
        level = [inner for one in containers for inner in one]
    raise deep


def read_arrays(path: Path, *names: str, most: int | None = None) -> dict[str, npt.NDArray[Any]]:
    """Read arrays of an .npz file: those that are named, or all. Nothing in it is ever unpickled.

    Args:
        path: The file.
        names: Names of the arrays.
        most: How many bytes all arrays may unpack to; by default what `most_unpacked` says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged, lacks an array, or unpacks to too much.
    """
    try:
        with open(path, "rb", opener=regular) as file:
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > (most or most_unpacked(os.fstat(file.fileno()).st_size)):
                raise ValueError(f"its arrays unpack to {unpacked:,} bytes, which is too much for such a file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in names or archive.files}
        strange = [name for name, values in arrays.items() if not isinstance(values, np.ndarray)]
        if strange:
            raise ValueError(f"{strange[0]} in it is not an array")
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise many classes of errors for damaged files
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    return arrays
