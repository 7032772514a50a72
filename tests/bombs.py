"""Pictures that ask for far more memory or time than a picture of their size may take, a megabyte or more each."""

import struct
import zlib
from collections.abc import Callable

from PIL import Image

from hostile import encoded, picture, png, png_chunk

MEGABYTES = 4  # of the files whose header has as many parts as fit
SIZE = MEGABYTES << 20
PNG, JPEG, GIF = (encoded(picture(7), kind) for kind in ("PNG", "JPEG", "GIF"))
EXIF = b"Exif\0\0II*\0\x08\0\0\0\0\0"
FRAMES = 30_000


def png_of_many(chunk: bytes) -> bytes:
    """Before the pixels as many chunks as fit."""
    return PNG[:33] + chunk * (SIZE // len(chunk)) + PNG[33:]


def png_that_hides(chunk: bytes) -> bytes:
    """A chunk among so many others that none is left out."""
    return PNG[:33] + (png_chunk(b"ABCD", b"") + png_chunk(b"abCd", b"")) * 60 + chunk + PNG[33:]


def jpeg_of_many(segment: bytes) -> bytes:
    """Before the picture as many segments as fit."""
    return JPEG[:2] + segment * (SIZE // len(segment)) + JPEG[2:]


def gif_of_many(block: bytes) -> bytes:
    """Before the first frame as many blocks as fit."""
    start = 13 + 3 * 256
    return GIF[:start] + block * (SIZE // len(block)) + GIF[start:]


def jpeg_of_scans() -> bytes:
    """A progressive picture whose last scan comes again and again."""
    gray = encoded(Image.new("L", (5000, 5000), 128), "JPEG", progressive=True)
    start = gray.rindex(b"\xff\xda")
    scan = gray[start:-2]
    return gray[:start] + scan * (2_000_000 // len(scan)) + gray[-2:]


def tiff(entries: dict[int, tuple[int, int, int]], rest: bytes = b"", after: int = 0) -> bytes:
    """A TIFF of one directory: from each tag to type, count and value."""
    listed = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + listed + struct.pack("<I", after) + rest


def gray_tiff(rows: int = 8, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """The tags of an uncompressed gray picture of 8 columns, whose strip begins at byte 8."""
    tags = {256: (3, 1, 8), 257: (4, 1, rows), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    return tags | {273: (4, 1, 8), 278: (4, 1, rows), 279: (4, 1, 8 * rows)}


def tiff_of_pages(count: int) -> bytes:
    """A picture, then as many empty pages; the last leads back to the second."""
    first = gray_tiff()
    start = 8 + 2 + 12 * len(first) + 4
    pages = b"".join(struct.pack("<HI", 0, start + 6 * ((number + 1) % count)) for number in range(count))
    return tiff(first, pages + bytes(64), after=start)


def tiff_of_strips() -> bytes:
    """One of a million strips, each of no row."""
    count = SIZE // 4
    tags = gray_tiff() | {273: (4, count, 200), 278: (4, 1, 1)}
    return tiff(tags, bytes(200) + struct.pack("<I", 8) * count)


def tiff_of_numbers(kind: int, size: int) -> bytes:
    """Tags that Pillow reads, of as many numbers as fit."""
    tags = gray_tiff() | {282: (kind, SIZE // size, 200), 258: (3, SIZE // 2, 200)}
    return tiff(tags, bytes(200) + b"\1\0\0\0" * (SIZE // 4))


def tiff_of_copies() -> bytes:
    """Thousands of tags that all lead to the same megabytes."""
    tags = gray_tiff() | dict.fromkeys(range(40000, 45000), (7, SIZE, 1000))
    return tiff(tags, bytes(SIZE + 1000))


def exif_of_copies(long: int = 60_000) -> bytes:
    """Thousands of tags of EXIF that all lead to the same bytes, in one segment."""
    content = tiff(dict.fromkeys(range(5000, 9500), (7, long, 0)))
    content += bytes(65_000 - len(content))
    return b"\xff\xe1" + struct.pack(">H", len(content) + 8) + b"Exif\0\0" + content


def bmp_of_runs() -> bytes:
    """A run that skips 255 rows of a hundred million pixels."""
    header = struct.pack("<IiiHHIIiiII", 40, 100_000_000, 1, 1, 8, 1, 6, 0, 0, 256, 0)
    rows = b"\0\2\0\xff\0\1"
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + rows


def webp_of_frames(count: int) -> bytes:
    """An animation, whose frames after the first are empty chunks of a frame."""
    animation = encoded(
        picture(7, (16, 16)), "WEBP", save_all=True, append_images=[picture(8, (16, 16))], lossless=True
    )
    start = animation.index(b"ANMF")
    length = 8 + struct.unpack("<I", animation[start + 4 : start + 8])[0]
    frame = animation[start : start + length]
    body = animation[8:start] + frame * count
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of_frames(count: int) -> bytes:
    start = 13 + 3 * 256
    return GIF[:-1] + GIF[start:-1] * count + GIF[-1:]


def png_of_frames(count: int) -> bytes:
    control = struct.pack(">IIIIIHHBB", 1, 32, 32, 0, 0, 1, 1, 0, 0)
    frame = png_chunk(b"fcTL", control) + png_chunk(b"fdAT", bytes(8))
    return PNG[:33] + png_chunk(b"acTL", struct.pack(">II", count, 0)) + PNG[33:-12] + frame * count + PNG[-12:]


LONG = zlib.compress(bytes(100_000_000), 9)

# The name, and whether it is read (its first page or frame is sound) or refused.
BOMBS: dict[str, tuple[Callable[[], bytes], bool | None]] = {
    "PNG of 2^31 pixels a side": (lambda: png(2**31 - 1, 2**31 - 1, bytes(9)), False),
    "GIF of 2^16 pixels a side": (lambda: GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:], False),
    "BMP of 2^31 pixels a side": (lambda: bmp_of_runs()[:18] + b"\xff\xff\xff\x7f" * 2 + bmp_of_runs()[26:], False),
    "TIFF of 2^32 pixels a side": (lambda: tiff(gray_tiff() | {256: (4, 1, 2**32 - 1), 257: (4, 1, 2**32 - 1)}), False),
    "JPEG of 2^16 pixels a side": (lambda: JPEG.replace(b"\0\x20\0\x20", b"\xff\xff\xff\xff", 1), False),
    "WebP of 2^24 pixels a side": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\xff" * 6 + b"ANIM\6\0\0\0" + bytes(6),
        False,
    ),
    "ICO of many pictures": (lambda: b"\0\0\1\0\xff\xff" + bytes(SIZE), False),
    "PNG whose pixels go on": (lambda: png(1, 1, bytes(100_000_000)), None),
    "PNG of a long text": (lambda: PNG[:33] + png_chunk(b"zTXt", b"a\0\0" + LONG) + PNG[33:], True),
    "PNG of a long international text": (lambda: PNG[:33] + png_chunk(b"iTXt", b"a\0\1\0\0\0" + LONG) + PNG[33:], True),
    "PNG of a long profile": (lambda: PNG[:33] + png_chunk(b"iCCP", b"a\0\0" + LONG) + PNG[33:], True),
    "PNG that hides a long text": (lambda: png_that_hides(png_chunk(b"zTXt", b"a\0\0" + LONG)), None),
    "PNG that hides a long profile": (lambda: png_that_hides(png_chunk(b"iCCP", b"a\0\0" + LONG)), None),
    "PNG of a million chunks": (lambda: png_of_many(png_chunk(b"abCd", b"")), False),
    "PNG of a million empty pixels": (lambda: png_of_many(png_chunk(b"IDAT", b"")), False),
    "APNG of many frames": (lambda: png_of_frames(FRAMES), True),
    "JPEG of a million comments": (lambda: jpeg_of_many(b"\xff\xfe\0\2"), False),
    "JPEG of a million pieces of EXIF": (lambda: jpeg_of_many(b"\xff\xe1\0\x09Exif\0\0a"), False),
    "JPEG of junk": (lambda: jpeg_of_many(b"\xff\xff"), False),
    "JPEG of other junk": (lambda: jpeg_of_many(b"a"), False),
    "JPEG of EXIF that repeats itself": (lambda: JPEG[:2] + exif_of_copies() + JPEG[2:], None),
    "JPEG of thousands of scans": (jpeg_of_scans, False),
    "GIF of a million comments": (lambda: gif_of_many(b"!\xfe\1a\0"), False),
    "GIF of one endless comment": (lambda: gif_of_many(b"!\xfe" + b"\1a" * 400_000 + b"\0"), False),
    "GIF of many frames": (lambda: gif_of_frames(FRAMES // 10), True),
    "WebP of many frames": (lambda: webp_of_frames(FRAMES // 4), True),
    "TIFF of a million pages": (lambda: tiff_of_pages(1_000_000), True),
    "TIFF of a million strips": (tiff_of_strips, False),
    "TIFF of a million fractions": (lambda: tiff_of_numbers(5, 8), False),
    "TIFF of tags that repeat themselves": (tiff_of_copies, None),
    "BMP of runs that skip rows": (bmp_of_runs, None),
}
