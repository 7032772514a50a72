"""The cache of decoded pictures: each picture is decoded once, into one file that is memory-mapped later.

Each entry is a folder. Its name is a hash over each file's path, size and times of change, and over the settings:

    convladder/<key>/images       rows of height × width × channels bytes, one per picture, in the given order
    convladder/<key>/index.npz    which files the rows come from, which files were left out, and what was noticed
    convladder/<key>.lock         held while the entry is built, so that a second process waits

An entry is built in `<key>.new`, and renamed when it is complete, so a killed process leaves no broken entry. The next
process goes on with what it left: `<key>.new/journal` says which pictures were decoded, and their digests prove it.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import PIL

from convladder.data.decoding import Shape, chunk_size
from convladder.data.journal import Journal
from convladder.data.rows import Ahead, DecodeInto, Result, Target, digest
from convladder.errors import ConvladderError, check_range
from convladder.files import locked, read_arrays, scratch_folder
from convladder.startup import has_home
from convladder.workers import map_files

PICTURES_VERSION = 4  # of an entry's content, and of how pictures are decoded
LIMIT_VARIABLE = "CONVLADDER_CACHE_GB"
DEFAULT_LIMIT_GB = 20.0
JOURNAL, AHEAD = "journal", "ahead"
SHOWN_FROM = 1000  # pictures; a progress bar is shown from here on

Kept = TypeVar("Kept")
Item = TypeVar("Item")


@dataclass(frozen=True)
class DecodedFiles:
    """Decoded pictures.

    Attributes:
        images: Shape (count, height, width, channels), uint8, mapped from a file.
        sources: Shape (count,): the index of the path that each row comes from.
        digests: Shape (count,), uint64: equal for equal pixels.
        files: Shape (count,), uint64: equal for equal files, at any decoded size.
        constant: Shape (count,): whether all pixels of the picture are equal.
        left_out: Index of each path that could not be decoded, and the reason.
    """

    images: npt.NDArray[np.uint8]
    sources: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint64]
    files: npt.NDArray[np.uint64]
    constant: npt.NDArray[np.bool_]
    left_out: list[tuple[int, str]]


def decode_files(
    paths: Sequence[str],
    settings: str,
    choose_shape: Callable[[], Shape],
    resize: str,
    *,
    cache: bool = True,
    fill: Ahead | None = None,
    take: Ahead | None = None,
) -> DecodedFiles:
    """Decode files, or map the pixels that were decoded before.

    Args:
        paths: The files.
        settings: What else the pixels depend on, except `resize`.
        choose_shape: Returns (height, width, channels); called only if the pixels are not in the cache.
        resize: As `decode_image` takes it.
        cache: Whether to keep the decoded pixels for later. If not, they are in a temporary file that disappears
            with the process.
        fill: Where to put the pixels for another call.
        take: Where to take pixels from that another call has put there.

    Raises:
        ConvladderError: The cache or the temporary file cannot be written; exit status 1.
    """
    root = cache_folder() if cache else None
    if cache and root is None:
        warnings.warn(
            "Decoded pictures are not cached, because there is no home folder that can be written to. Set "
            "XDG_CACHE_HOME to a folder, or use --no-cache.",
            stacklevel=2,
        )
    try:
        if root is None:
            with scratch_folder() as folder:
                _build(folder, paths, choose_shape(), resize, fill, take)
                return _open(folder)  # a mapped file stays readable after it is deleted

        def build(folder: Path) -> None:
            shape = choose_shape()
            make_room(folder.parent, len(paths) * int(np.prod(shape)))
            _build(folder, paths, shape, resize, fill, take)

        return keep(root, _key(paths, settings, resize), build, _open)
    except OSError as error:
        raise ConvladderError(
            f"Could not write decoded pictures to {root or os.environ.get('TMPDIR', '/tmp')} "
            f"({error.strerror or error}). Free some space there, or choose another folder with "
            f"{'XDG_CACHE_HOME, or use --no-cache' if root else 'TMPDIR'}.",
            exit_status=1,
        ) from error


def keep(root: Path, key: str, build: Callable[[Path], None], read: Callable[[Path], Kept]) -> Kept:
    """Read an entry of the cache. Build it first if it is missing or damaged.

    Args:
        root: The cache, as `cache_folder` returns it.
        key: The entry's name, made from everything that its content depends on.
        build: Fills a folder, which is empty, or holds what a process that was killed has left. It calls `make_room`
            for the space that it needs.
        read: Reads the folder's content. FileNotFoundError, ValueError, KeyError and EOFError mean damage.

    Raises:
        OSError: The cache cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    entry = root / key
    with locked(entry.with_suffix(".lock")):
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            os.utime(entry)  # the least recently used entries are removed first
            return read(entry)
        shutil.rmtree(entry, ignore_errors=True)  # a damaged entry
        new = entry.with_suffix(".new")
        new.mkdir(exist_ok=True)  # a process that was killed may have left it
        try:
            build(new)
            new.rename(entry)
        except Exception:  # and not where a signal stops it: the next process goes on with it
            shutil.rmtree(new, ignore_errors=True)
            raise
        return read(entry)


def cache_folder() -> Path | None:
    """Folder of the cache: in the user's cache folder, after the XDG base directory specification.

    None if the user's home cannot be written to and XDG_CACHE_HOME is not set.
    """
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "convladder"
    if has_home():
        with contextlib.suppress(OSError):
            folder = Path.home() / ".cache" / "convladder"
            folder.mkdir(parents=True, exist_ok=True)
            return folder
    return None


def _build(
    folder: Path, paths: Sequence[str], shape: Shape, resize: str, fill: Ahead | None, take: Ahead | None
) -> None:
    target, size = folder / "images", int(np.prod(shape))
    target.touch()
    needed = len(paths) * size - 512 * target.stat().st_blocks
    if shutil.disk_usage(folder).free < needed:
        raise OSError(0, f"{needed / 1e6:,.0f} MB are needed")
    journal = Journal(folder / JOURNAL, list(shape))
    with contextlib.closing(journal):
        journal.cut(_count_sound(journal.entries, target, size))
        rest = list(enumerate(paths))[len(journal.entries) :]
        decoded = _decode(rest, Target(str(target), shape, resize), fill, take)
        kept: list[int] = []
        digests: list[int] = []
        files: list[int] = []
        constant: list[bool] = []
        left_out: list[tuple[int, str]] = []
        results: Iterator[Any] = itertools.chain(journal.entries, map(_added_to(journal), decoded))
        for number, result in enumerate(with_bar(results, "Decoding pictures", len(paths))):
            if isinstance(result, str | None):
                left_out.append((number, result or "crashed the process that read it"))
            else:
                kept.append(number)
                digests.append(result[0])
                files.append(result[1])
                constant.append(result[2])
    (folder / JOURNAL).unlink()  # rows are moved from now on, so it no longer says where they are
    _close_gaps(target, kept, size)
    np.savez(
        folder / "index.npz",
        shape=np.array(shape),
        sources=np.array(kept, np.int64),
        digests=np.array(digests, np.uint64),
        files=np.array(files, np.uint64),
        constant=np.array(constant, np.bool_),
        left_out=np.array(json.dumps(left_out)),
    )


def _decode(
    items: Sequence[tuple[int, str]], target: Target, fill: Ahead | None, take: Ahead | None
) -> Iterator[Result | str | None]:
    """What became of each file; None for one that ended the process that read it."""
    ahead = fill.begin(Path(target.path).with_name(AHEAD), items) if fill else None
    there = {path for _, path in items if take and take.has(path, target)}
    rest = [item for item in items if item[1] not in there]
    decoded = map_files(DecodeInto(target, ahead), rest, chunk_size([path for _, path in rest]))
    for row, path in items:
        if take and path in there:
            yield take.take(path, target, row)
            continue
        result, also = next(decoded) or (None, None)
        if fill and also:
            fill.put(path, row, also)
        yield result
    if ahead:
        Path(ahead.path).unlink()  # it stays readable for the process that has it open


def _added_to(journal: Journal) -> Callable[[Item], Item]:
    def add(result: Item) -> Item:
        journal.add(result)
        return result

    return add


def _count_sound(results: Sequence[Any], target: Path, size: int) -> int:
    """How many of the first results have their pixels in the file: a power cut may have kept one and not the other."""
    with target.open("rb") as file:
        for number, result in enumerate(results):
            if isinstance(result, list) and digest(os.pread(file.fileno(), size, number * size)) != result[0]:
                return number
    return len(results)


def _close_gaps(target: Path, kept: Sequence[int], size: int) -> None:
    """Move the written rows together, over the rows that were not written."""
    with target.open("r+b") as file:
        for new, old in enumerate(kept):
            if new != old:
                os.pwrite(file.fileno(), os.pread(file.fileno(), size, old * size), new * size)
        file.truncate(len(kept) * size)
        os.fsync(file.fileno())


def _open(folder: Path) -> DecodedFiles:
    index = read_arrays(folder / "index.npz")
    sources, shape = index["sources"], tuple(int(side) for side in index["shape"])
    left_out = [(number, reason) for number, reason in json.loads(str(index["left_out"]))]
    digests, files, constant = index["digests"], index["files"], index["constant"]
    images: npt.NDArray[np.uint8]
    if len(sources):
        images = np.memmap(folder / "images", np.uint8, "r", shape=(len(sources), *shape))
    else:  # an empty file cannot be mapped
        images = np.empty((0, *shape), np.uint8)
    return DecodedFiles(images, sources, digests, files, constant, left_out)


def _key(paths: Sequence[str], settings: str, resize: str) -> str:
    """A hash over everything that the pixels depend on. ctime detects changes that keep the size and mtime."""
    digest = hashlib.sha256(f"{PICTURES_VERSION} {PIL.__version__} {settings} {resize}".encode())
    for path in paths:
        digest.update(b"\0" + os.fsencode(path))
        with contextlib.suppress(OSError):  # deleted since it was listed
            status = os.stat(path)
            digest.update(f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode())
    return digest.hexdigest()[:32]


def make_room(root: Path, needed: int) -> None:
    """Remove the least recently used entries until `needed` bytes fit under the limit."""
    given = os.environ.get(LIMIT_VARIABLE, "")
    try:
        gigabytes = float(given) if given else DEFAULT_LIMIT_GB
    except ValueError as error:
        raise ConvladderError(f"{LIMIT_VARIABLE} is {given!r}. Expected a number of gigabytes, such as 20.") from error
    check_range(LIMIT_VARIABLE, gigabytes, 0, 1_000_000)
    limit = 1e9 * gigabytes
    if needed > limit:
        raise ConvladderError(
            f"The decoded pictures need {needed / 1e9:.1f} GB, but the limit of the cache is {limit / 1e9:g} GB. "
            f"Raise {LIMIT_VARIABLE}, choose a smaller --image-size, or use --no-cache."
        )
    entries = []
    for folder in root.iterdir():
        with contextlib.suppress(OSError):  # another process may be removing it
            if folder.suffix == ".new":
                _remove_unused(folder)
            elif folder.is_dir() and folder.with_suffix(".lock").exists():  # others are not of `keep`: copies of runs
                size = sum(file.stat().st_size for file in folder.iterdir())
                entries.append((folder.stat().st_mtime, size, folder))
    entries.sort()
    total = sum(size for _, size, _ in entries) + needed
    for _, size, folder in entries:
        if total <= limit:
            break
        if _remove_unused(folder):
            total -= size


def _remove_unused(folder: Path) -> bool:
    """Remove an entry, or what a killed process was building, unless another process builds or opens it now."""
    with contextlib.suppress(BlockingIOError), locked(folder.with_suffix(".lock"), wait=False):
        shutil.rmtree(folder, ignore_errors=True)  # a process that has it mapped can still read it
        return True
    return False


def with_bar(results: Iterable[Item], what: str, total: int) -> Iterable[Item]:
    """Show a progress bar on standard error, if that is a terminal and there are many results."""
    if total < SHOWN_FROM or not sys.stderr.isatty():
        return results
    from rich.console import Console
    from rich.progress import track

    return track(results, what, total, console=Console(stderr=True), transient=True)
