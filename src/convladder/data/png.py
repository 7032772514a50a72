"""PNG without its metadata: of a file, the chunks that make pixels, and what may tell how they are turned.

Pillow gives a picture up where metadata, which changes no pixel, is damaged or unpacks to more than a megabyte, and
reads chunks whole, however long.
"""

import bisect
import io
import zlib
from itertools import accumulate
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST = 1 << 16  # bytes of a chunk that tells an orientation; what is longer is skipped, as what is damaged
MOST_PARTS = 100  # a file of more is none that a program wrote, since pixels stand in one piece
TRANSPARENCY, EXIF = b"tRNS", b"eXIf"
# Beginnings of text chunks that Pillow looks for an orientation in: Adobe's programs and ImageMagick write such.
TELLING = {b"iTXt": b"XML:com.adobe.xmp\0", b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0"}


def without_metadata(file: BinaryIO) -> BinaryIO:
    """A file as it is; where it is a PNG with metadata, what is left without them. Nothing long is read."""
    kept = [(0, len(SIGNATURE))]
    skipped = False
    if file.read(len(SIGNATURE)) == SIGNATURE:
        start = len(SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            stop = start + 12 + length
            if not kind[0] & 0x20 or kind == TRANSPARENCY or _tells_orientation(file, kind, length):
                kept[-1:] = [(kept[-1][0], stop)] if kept[-1][1] == start else [kept[-1], (start, stop)]
            else:
                skipped = True
            start = file.seek(stop)
            if kind == b"IEND" or len(kept) > MOST_PARTS:
                break
    file.seek(0)
    return io.BufferedReader(_Parts(file, kept)) if skipped and len(kept) <= MOST_PARTS else file


def _tells_orientation(file: BinaryIO, kind: bytes, length: int) -> bool:
    """Whether a chunk, of which the head was read, is sound, short, and may tell how the picture is turned."""
    if length > LONGEST or (kind != EXIF and kind not in TELLING):
        return False
    content, checksum = file.read(length), file.read(4)
    if int.from_bytes(checksum, "big") != zlib.crc32(kind + content) or not content.startswith(TELLING.get(kind, b"")):
        return False
    rest = content[len(TELLING.get(kind, b"")) :]
    if kind == b"iTXt":
        return rest.startswith(b"\0\0")  # not compressed
    if kind == b"zTXt":
        unpacking = zlib.decompressobj()
        try:
            unpacking.decompress(rest[1:], LONGEST)
        except zlib.error:
            return False
        return rest.startswith(b"\0") and unpacking.eof
    return True


class _Parts(io.RawIOBase):
    """Parts of a file, (start, stop) each, as one file."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        self._file, self._parts, self._position = file, parts, 0
        self._ends = list(accumulate(stop - start for start, stop in parts))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ends[-1]}[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        number = bisect.bisect_right(self._ends, self._position)
        if number == len(self._parts):
            return 0
        left = self._ends[number] - self._position
        self._file.seek(self._parts[number][1] - left)
        content = self._file.read(min(left, len(buffer)))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
