"""The file of a picture, read with limits that a hostile header cannot pass.

Pillow reads headers in Python loops: over the segments of a JPEG, the blocks of a GIF, the chunks of a PNG. A file of
some megabytes can have millions of them, each of a few bytes, and keep a processor busy for minutes. A TIFF can have
millions of strips, each without a row. A JPEG can hold hundreds of thousands of scans, and each is decoded over the
whole picture.
"""

import io
from pathlib import Path
from typing import BinaryIO, Literal

from PIL import Image

from convladder.files import regular

READS, BYTES_A_READ = 10_000, 4_000  # so many reads, and one more for so many bytes; real headers take a few hundred
MOST_SCANNED = 2_000_000_000  # pixels of a JPEG times its scans: a progressive one has about ten
SCAN = b"\xff\xda"  # begins a scan; among a scan's bytes it cannot occur
MOST_NUMBERS = 100_000  # of a tag of a TIFF: the places of its strips or tiles, or anything else that is not bytes
BYTES = (1, 2, 6, 7)  # types of tags that are bytes or text


class Reader(io.BufferedReader):
    """A picture's file, or its bytes, of which the header may be read in a limited number of reads.

    Args:
        source: A regular file, or the bytes of one.

    Attributes:
        left: How many reads are left; None for any number.

    Raises:
        OSError: It cannot be opened. `read` raises it where no read is left.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        if isinstance(source, bytes):
            super().__init__(io.BytesIO(source))
        else:
            super().__init__(open(source, "rb", buffering=0, opener=regular))  # noqa: SIM115 (closed with this one)
        self.left: int | None = READS + self.seek(0, io.SEEK_END) // BYTES_A_READ
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("its header has too many parts")
        return super().read(size)


def check_tags(file: BinaryIO) -> None:
    """Refuse a TIFF whose first directory has a tag of too many numbers. Files of other formats pass.

    Raises:
        Image.DecompressionBombError: It has.
    """
    head = file.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    version = int.from_bytes(head[2:4], order)
    if head[:2] in (b"II", b"MM") and version in (42, 43):
        word = 8 if version == 43 else 4  # bytes of a number: 43 is BigTIFF
        file.seek(min(int.from_bytes(head[word : 2 * word], order), 1 << 62))
        entries = min(int.from_bytes(file.read(word if word == 8 else 2), order), 1 << 16)
        size = 4 + 2 * word  # tag, type, count, value
        directory = file.read(entries * size)
        for start in range(0, len(directory), size):
            kind = int.from_bytes(directory[start + 2 : start + 4], order)
            count = int.from_bytes(directory[start + 4 : start + 4 + word], order)
            if kind not in BYTES and count > MOST_NUMBERS:
                raise Image.DecompressionBombError(f"a tag of {count:,} numbers; the limit is {MOST_NUMBERS:,}")
    file.seek(0)


def check_scans(picture: Image.Image, file: io.BufferedReader) -> None:
    """Refuse a JPEG whose scans would take too long to decode. Its header has just been read.

    Raises:
        Image.DecompressionBombError: It has too many scans for its size.
    """
    layers = len(getattr(picture, "layer", ()))
    place = file.tell()
    if not layers or _is_only_scan(picture, file, layers):
        return
    file.seek(0)
    scans = file.read().count(SCAN)
    file.seek(place)
    if scans * picture.width * picture.height > MOST_SCANNED:
        raise Image.DecompressionBombError(
            f"{picture.width:,}×{picture.height:,} pixels in {scans:,} scans; the limit is {MOST_SCANNED:,} for their "
            "product"
        )


def _is_only_scan(picture: Image.Image, file: io.BufferedReader, layers: int) -> bool:
    """Whether the scan header before the file's position has all layers of a sequential picture."""
    length = 6 + 2 * layers
    place = file.tell()
    file.seek(max(0, place - length))
    header = file.read(length)
    file.seek(place)
    return not picture.info.get("progressive") and header[:3] == bytes([0, length, layers])
