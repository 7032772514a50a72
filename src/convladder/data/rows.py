"""Rows of pixels: each picture is decoded into its place in a file, where needed for two sizes at once."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder.data.decoding import Shape, decode_image, decode_twice, name_defect
from convladder.errors import ConvladderError

SPARE = 3  # times the pixels for a second call: so much room there must be for them

Result: TypeAlias = tuple[int, int, bool]  # digests of the pixels and of the file, and whether all pixels are equal


@dataclass(frozen=True)
class Target:
    """A file for pixels, their shape, and how pictures are resized to it."""

    path: str
    shape: Shape
    resize: str

    def write(self, row: int, pixels: npt.NDArray[np.uint8], file: int) -> Result:
        """Write the pixels of a picture whose file has this digest."""
        content = pixels.tobytes()
        self.put(row, content)
        constant = content == pixels[0, 0].tobytes() * (len(content) // pixels.shape[2])
        return digest(content), file, constant

    def put(self, row: int, content: bytes) -> None:
        """Write the bytes of a row."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:  # written, not mapped: on a full disk this raises, while a mapped write would kill the process
            os.pwrite(descriptor, content, row * len(content))
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class DecodeInto:
    """Decodes a file and writes its pixels at their place. Worker processes call this."""

    target: Target
    ahead: Target | None = None

    def __call__(self, item: tuple[int, str]) -> tuple[Result | str, Result | None]:
        """What became of the file, or the reason to leave it out; and what became of it for a second call."""
        row, path = item
        first, second = self.target, self.ahead
        also = None
        try:
            if second is None:
                pixels = decode_image(path, first.shape, first.resize)
            else:
                pixels, also = decode_twice(path, (first.shape, first.resize), (second.shape, second.resize))
            file = digest(Path(path).read_bytes())
        except ConvladderError as error:
            return "empty" if _is_empty(path) else name_defect(error), None
        except OSError:  # deleted meanwhile
            return "unreadable", None
        return first.write(row, pixels, file), None if also is None or second is None else second.write(row, also, file)


class Ahead:
    """Pixels for a second call of `decode_files`, which the first call has from the same decoding of each file.

    They are in a file without a name, which is gone when this is closed.

    Args:
        choose_shape: As `decode_files` takes it, for the second call; called only if the first has to decode.
        resize: Of the second call.
    """

    def __init__(self, choose_shape: Callable[[], Shape], resize: str) -> None:
        self.choose_shape, self.resize = choose_shape, resize
        self.shape: Shape | None = None
        self._rows: dict[str, tuple[int, Result]] = {}
        self._stamps: dict[str, int | None] = {}
        self._file: BinaryIO | None = None

    def begin(self, path: Path, items: Sequence[tuple[int, str]]) -> Target | None:
        """Where the first call puts those of these rows and files; None if there is little room."""
        shape = self.choose_shape()
        if not items or shutil.disk_usage(path.parent).free < SPARE * (1 + items[-1][0]) * int(np.prod(shape)):
            return None
        self._stamps = {name: _stamp(name) for _, name in items}
        path.unlink(missing_ok=True)  # a process that was killed may have left it
        self._file = path.open("x+b")
        self.shape = shape
        return Target(str(path), shape, self.resize)

    def close(self) -> None:
        """Give up what is there."""
        if self._file is not None:
            self._file.close()
        self._rows.clear()

    def put(self, path: str, row: int, result: Result) -> None:
        """Note that the pixels of a file are there, in this row."""
        self._rows[path] = row, result

    def has(self, path: str, target: Target) -> bool:
        """Whether it has the pixels that a second call wants, of a file that has not changed since."""
        alike = (self.shape, self.resize) == (target.shape, target.resize)
        return alike and path in self._rows and self._stamps[path] == _stamp(path)

    def take(self, path: str, target: Target, row: int) -> Result:
        """Copy the pixels of a file to where the second call wants them."""
        assert self._file is not None
        (source, result), size = self._rows[path], int(np.prod(target.shape))
        target.put(row, os.pread(self._file.fileno(), size, source * size))
        return result


def digest(content: bytes) -> int:
    """A number of 64 bits, equal for equal bytes."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def _stamp(path: str) -> int | None:
    """When a file last changed, which no program can set; None if there is none."""
    try:
        return os.stat(path).st_ctime_ns
    except OSError:
        return None


def _is_empty(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return False
