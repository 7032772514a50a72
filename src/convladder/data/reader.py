"""The file of a picture, read with limits that a hostile header cannot pass.

Pillow reads headers in Python loops: over the segments of a JPEG, the blocks of a GIF, the chunks of a PNG. A file of
some megabytes can have millions of them, each of a few bytes, and keep a processor busy for minutes. A JPEG can also
hold hundreds of thousands of scans, and each is decoded over the whole picture.
"""

import io
from pathlib import Path

from PIL import Image

from convladder.files import regular

READS, BYTES_A_READ = 10_000, 4_000  # so many reads, and one more for so many bytes; real headers take a few hundred
MOST_SCANNED = 2_000_000_000  # pixels of a JPEG times its scans: a progressive one has about ten
SCAN = b"\xff\xda"  # begins a scan; among a scan's bytes it cannot occur


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
        whole = isinstance(source, bytes)
        raw = io.BytesIO(source) if whole else open(source, "rb", buffering=0, opener=regular)
        super().__init__(raw)  # type: ignore[arg-type]
        self.left: int | None = READS + self.seek(0, io.SEEK_END) // BYTES_A_READ
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("its header has too many parts")
        return super().read(size)


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
