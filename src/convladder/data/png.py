"""PNG files without metadata: only the chunks with pixels, and those that may tell the orientation.

Pillow refuses a picture whose metadata is damaged or unpacks to more than a megabyte, although metadata changes no
pixel. It also reads whole chunks, however long.
"""

import bisect
import io
import zlib
from itertools import accumulate
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST = 1 << 16  # bytes of a chunk with an orientation; longer and damaged chunks are skipped
MOST_PARTS = 100  # no real program writes more, because the pixels' chunks are consecutive
MOST_AFTER = 1000  # chunks behind the pixels that are looked at: an animation has its other frames there
PIXELS, TRANSPARENCY, EXIF = b"IDAT", b"tRNS", b"eXIf"
# First bytes of the text chunks where Pillow looks for an orientation. Adobe's programs and ImageMagick write them.
TELLING = {b"iTXt": b"XML:com.adobe.xmp\0", b"tEXt": b"Raw profile type exif\0", b"zTXt": b"Raw profile type exif\0"}


def without_metadata(file: BinaryIO) -> BinaryIO:
    """The file without PNG metadata. Files of other formats are returned unchanged. No long chunk is read."""
    kept = [(0, len(SIGNATURE))]
    skipped = False
    after = -1  # chunks since the last one of pixels
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
            after = 0 if kind == PIXELS else after + (after >= 0)
            if after > MOST_AFTER:
                skipped = True
            if kind == b"IEND" or len(kept) > MOST_PARTS or after > MOST_AFTER:
                break
    file.seek(0)
    return io.BufferedReader(_Parts(file, kept)) if skipped and len(kept) <= MOST_PARTS else file


def _tells_orientation(file: BinaryIO, kind: bytes, length: int) -> bool:
    """Whether a chunk, whose head was just read, is intact, short, and may tell the orientation."""
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
    """Several parts of a file, each (start, stop), as one file."""

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
