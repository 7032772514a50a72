"""Decoding: from a picture file to the array that a model takes. Training, evaluation and serving all use it.

How each kind of picture is read:

    gray, 1 bit per pixel         black is 0, white 255
    16 bits, gray or colour       the high byte; if all values fit into 14, 12, 10 or 8 bits, as in cameras' files, the
                                  highest 8 of those
    32 bits, and float            scaled so that its lowest value is 0 and its highest 255, because the file states
                                  no range; NaN becomes 0, an infinity the nearer end
    palette                       its colours
    alpha, or a transparent       composited on white
    CMYK, YCbCr                   red, green and blue, by Pillow's plain formula, without colour profiles
    animated, several pages       the first frame or page
    EXIF orientation              rotated upright
    gray for a colour model       three equal channels
    colour for a gray model       0.299 red + 0.587 green + 0.114 blue
"""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    ROWSPERSTRIP,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from convladder.data.png import without_metadata
from convladder.data.reader import Reader, check_scans, check_tags
from convladder.data.resizing import RESIZINGS, accept_fit
from convladder.errors import ConvladderError, check_choice
from convladder.workers import CHUNK

PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
# Limits of a single picture. A file of some kilobytes can claim more, and fill the memory or keep a processor busy.
PIXEL_LIMIT = 100_000_000
BYTE_LIMIT = 800_000_000
DEPTHS = (8, 10, 12, 14, 16)  # bits that a 16-bit picture may really use
PIXELS_A_STRIP = 1 << 18  # converted at a time, because some conversions take 30 bytes per pixel
WHITE, BLACK = 255, 0

BYTES_A_CHUNK = 16e6  # of files that a worker gets at a time

Shape = tuple[int, int, int]

ORIENTATION = 0x0112  # the EXIF tag, and the rotation for each of its values
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns about odd metadata, which changes no pixel, and about sizes that PIXEL_LIMIT refuses anyway.
warnings.filterwarnings("ignore", module=r"PIL\.")


@accept_fit
def decode_image(
    path: str | Path | bytes, input_shape: tuple[int, int, int], resize: str = "stretch"
) -> npt.NDArray[np.uint8]:
    """Read a picture by its content, rotate it upright, and resize it to a model's size and channels.

    Args:
        path: A JPEG, PNG, BMP, GIF, WebP or TIFF file with any name, or its bytes.
        input_shape: (height, width, channels) of the model; 1 or 3 channels.
        resize: How another proportion is brought to the model's: "crop" cuts off what is too long, in equal parts on
            both sides; "pad" puts black on both sides of what is too short; "stretch" changes the proportion.

    Returns:
        Pixels of shape `input_shape`, range 0–255. Shrinking uses antialiasing.

    Raises:
        ConvladderError: The file does not exist, has another format, is damaged, has more than 100 million pixels, or
            needs more than 800 MB to decode. `name_defect` tells which.
    """
    check_choice("way to resize", resize, RESIZINGS)
    with open_picture(path) as picture:
        return read_pixels(picture, input_shape, resize)


def decode_twice(
    path: str, first: tuple[Shape, str], second: tuple[Shape, str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """What `decode_image` returns for two shapes and ways to resize, from one decoding of the file.

    The second is None where it needs more of the file, or other channels.
    """
    (shape, resize), (also, other) = first, second
    with open_picture(path) as picture:
        stretched, more = _stretched(picture, *first), _stretched(picture, *second)
        least = min(max(shape[:2]), max(also[:2]))
        shrinks = picture.format == "JPEG" and min(picture.size) >= 2 * least  # else all of it is read for both
        picture.draft(_mode(shape), (max(shape[:2]),) * 2)
        here = picture.size
        size = _size_read(path, also) if shrinks else here
        fits = (size[0] * size[1] + more) * _bytes_a_pixel(_mode(also)) <= BYTE_LIMIT
        pixels = _read_upright(picture, _mode(shape), max(shape[:2]), stretched)
        alike = fits and _mode(shape) == _mode(also) and size == here
        return _fit(pixels, shape, resize), _fit(pixels, also, other) if alike else None


def _size_read(path: str, shape: Shape) -> tuple[int, int]:
    """The size at which a JPEG is read for a shape."""
    with open_picture(path) as picture:
        picture.draft(_mode(shape), (max(shape[:2]),) * 2)
        return picture.size


def read_pixels(picture: Image.Image, input_shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8]:
    """Like `decode_image`, for a picture that is already open, so that its header can be read first. Closes it."""
    stretched = _stretched(picture, input_shape, resize)
    pixels = _read_upright(picture, _mode(input_shape), max(input_shape[:2]), stretched)
    return _fit(pixels, input_shape, resize)


def _stretched(picture: Image.Image, shape: Shape, resize: str) -> int:
    """Pixels that stretching keeps beside those of the picture."""
    # Pillow resizes the rows first. In a picture that will be rotated, these are still columns.
    return shape[1] * max(picture.size) if resize == "stretch" else 0


def _mode(shape: Shape) -> str:
    return "L" if shape[2] == 1 else "RGB"


def _fit(pixels: Image.Image, shape: Shape, resize: str) -> npt.NDArray[np.uint8]:
    height, width, _ = shape
    return np.asarray(_resize(pixels, width, height, resize), dtype=np.uint8).reshape(shape)


def _read_upright(picture: Image.Image, mode: str, side: int, stretched: int = 0) -> Image.Image:
    """The pixels of an open picture, rotated upright. Closes it.

    Args:
        picture: A JPEG is read at 1/2, 1/4 or 1/8 of its size, if that leaves at least `side` pixels.
        mode: "L" or "RGB".
        side: Pixels that each side must keep.
        stretched: Number of further pixels that will be in memory at the same time.
    """
    coefficients = 2 * len(picture.getbands()) * picture.width * picture.height
    picture.draft(mode, (side, side))
    needed = _bytes_to_decode(picture, mode, coefficients)
    if stretched:
        needed = max(needed, (picture.width * picture.height + stretched) * _bytes_a_pixel(mode))
    if needed > BYTE_LIMIT:
        raise Image.DecompressionBombError(
            f"{picture.width:,}×{picture.height:,} pixels that need {needed:,} bytes to decode; the limit is "
            f"{BYTE_LIMIT:,}"
        )
    file, swapped = getattr(picture, "fp", None), _swap_bytes(picture)
    picture.load()  # before the orientation is read, because Pillow rotates a TIFF itself and removes the tag
    if swapped:
        _take_highest_bits(picture, file, swapped)
    orientation = _orientation(picture)
    pixels = _convert(picture, mode)
    if pixels is not picture:
        picture.close()  # frees its memory
    if orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[orientation])
        picture.close()
    return pixels


def significant_bits(picture: Image.Image) -> int:
    """How many of a picture's 16 bits are used. Scanners and cameras store 8, 10, 12 or 14 bits in 16-bit files."""
    if not picture.mode.startswith("I;16") and not _swap_bytes(picture):
        return 16  # it has 8 bits at most, or states no range
    picture.load()
    return _count_bits(picture)


def _count_bits(picture: Image.Image) -> int:
    """How many bits are used in a 16-bit picture that is loaded."""
    if picture.mode.startswith("I;16"):
        highest = max(int(np.asarray(strip).max()) for _, strip in _strips(picture))
    else:
        ends: Any = picture.getextrema()  # range of the high bytes
        highest = 256 * max(high for _, high in ends[: 4 if picture.mode == "CMYK" else 3]) + 255
    return next(bits for bits in DEPTHS if highest < 1 << bits)


def _swap_bytes(picture: Image.Image) -> str:
    """The raw mode with which Pillow keeps the low byte of 16-bit colours instead of the high one; else empty.

    Must be called before the picture is loaded.
    """
    tiles = getattr(picture, "tile", None)
    args = tiles[0].args if tiles else ""
    rawmode = str(args[0] if isinstance(args, tuple) else args).replace(";16N", f";16{sys.byteorder[0].upper()}")
    if rawmode == "LA;16B" or rawmode[-4:] not in (";16B", ";16L") or picture.mode.startswith("I"):
        return ""
    return rawmode[:-1] + ("L" if rawmode.endswith("B") else "B")


def _take_highest_bits(picture: Image.Image, file: Any, swapped: str) -> None:
    """If a picture with 16 bits per channel uses fewer, replace the high byte by the highest 8 that are used."""
    bits = _count_bits(picture)
    if bits == 16:
        return
    file.seek(0)
    with Image.open(file, formats=PICTURE_FORMATS) as low:
        low.tile = [
            tile._replace(args=(swapped, *tile.args[1:]) if isinstance(tile.args, tuple) else swapped)
            for tile in low.tile
        ]
        low.load()
        for (place, high), (_, rest) in zip(_strips(picture), _strips(low), strict=True):
            both = np.asarray(high) << (16 - bits) | np.asarray(rest) >> (bits - 8)
            if picture.mode == "RGBA":
                both[..., 3] = np.asarray(high)[..., 3]
            picture.paste(Image.fromarray(both, picture.mode), place)


def _bytes_a_pixel(mode: str) -> int:
    """Bytes per pixel in Pillow's memory."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def _bytes_to_decode(picture: Image.Image, mode: str, coefficients: int) -> int:
    """Peak memory until a picture is in `mode`: its pixels, plus the decoder's memory or the converted copy."""
    pixels = picture.width * picture.height
    decoder = 0
    if picture.format == "WEBP":
        decoder = 12 * pixels  # two canvases, and a copy to read from
    elif picture.info.get("progressive"):
        decoder = coefficients  # of the whole picture, even if it is shrunk while it is read
    elif isinstance(picture, TiffImageFile):  # the largest strip or tile, which is unpacked at once
        tags = picture.tag_v2
        width = tags.get(TILEWIDTH, picture.width)
        height = tags.get(TILELENGTH, min(tags.get(ROWSPERSTRIP, picture.height), picture.height))
        bits = max(tags.get(BITSPERSAMPLE, (1,))) * tags.get(SAMPLESPERPIXEL, 1)
        decoder = width * height * bits // 8
    if _swap_bytes(picture):
        pixels *= 2  # read twice if the high bytes are dark
    return pixels * _bytes_a_pixel(picture.mode) + max(decoder, pixels * _bytes_a_pixel(mode))


def decode_outline(path: str | Path, side: int) -> npt.NDArray[np.float32]:
    """A picture in gray, upright, with its own proportions; the longer side has at most `side` pixels.

    Raises:
        ConvladderError: As `decode_image` does.
    """
    with open_picture(path) as picture:
        gray = _read_upright(picture, "L", side)
        gray.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.asarray(gray, np.float32)


@contextlib.contextmanager
def open_picture(path: str | Path | bytes) -> Iterator[Image.Image]:
    """Open a picture and read its header. Its pixels are read when they are needed.

    Raises:
        ConvladderError: As in `decode_image`, also for errors while the pixels are read in the context.
    """
    name = "The picture" if isinstance(path, bytes) else path
    try:
        # A file, not a path: Pillow 13 would map it into memory, and garble a TIFF that is rotated by 90°.
        with Reader(path) as file, _opened(file) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise Image.DecompressionBombError(
                    f"{picture.width:,}×{picture.height:,} pixels; the limit is {PIXEL_LIMIT:,}"
                )
            file.left = None  # the pixels may take any number of reads
            check_scans(picture, file)
            yield picture
    except UnidentifiedImageError as error:
        raise ConvladderError(f"{name} is not a picture. Expected one of: {', '.join(PICTURE_FORMATS)}.") from error
    except Exception as error:  # decoders raise many classes of errors for damaged files
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise ConvladderError(f"Could not read {name} ({reason}).") from error


def _opened(file: Reader) -> Image.Image:
    check_tags(file)
    return Image.open(without_metadata(file), formats=PICTURE_FORMATS)


def name_defect(error: ConvladderError) -> str:
    """Why `decode_image` refused, in a word or two: "no picture", "too large", "truncated" or "unreadable"."""
    cause = error.__cause__
    if isinstance(cause, UnidentifiedImageError):
        return "no picture"
    if isinstance(cause, Image.DecompressionBombError):
        return "too large"
    text = str(cause).lower()
    if any(word in text for word in ("truncated", "unexpected end", "broken data stream", "not enough")):
        return "truncated"
    return "unreadable"


def _orientation(picture: Image.Image) -> int | None:
    if (
        picture.format == "JPEG" and "exif" not in picture.info
    ):  # the search would cost as much as the rest of the header
        return None
    try:
        return picture.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata; the pixels may still be sound
        return None


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    """Convert to "L" or "RGB", as the table at the top says."""
    if picture.mode == mode and "transparency" not in picture.info:
        return picture
    shift = _count_bits(picture) - 8 if picture.mode.startswith("I;16") else 0
    low, high = _range(picture) if picture.mode in ("I", "F") else (0.0, 0.0)

    def convert(strip: Image.Image) -> Image.Image:
        if strip.mode.startswith("I;16"):
            highest = (np.asarray(strip).astype(np.uint16) >> shift).astype(np.uint8)
            return Image.fromarray(highest).convert(mode)
        if strip.mode in ("I", "F"):
            values = np.clip(np.nan_to_num(np.asarray(strip, dtype=np.float64), nan=low), low, high)
            scaled = (values - low) * (255 / (high - low) if high > low else 0)
            return Image.fromarray(scaled.round().astype(np.uint8)).convert(mode)
        if strip.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in strip.info:
            above = strip.convert("RGBA")
            ground = Image.new("RGBA", above.size, (WHITE, WHITE, WHITE, 255))
            return Image.alpha_composite(ground, above).convert(mode)
        if strip.mode not in ("1", "L", "RGB"):
            strip = strip.convert("RGB")
        return strip.convert(mode)

    if picture.width * picture.height <= PIXELS_A_STRIP:
        return convert(picture)
    converted = Image.new(mode, picture.size)
    for place, strip in _strips(picture):
        converted.paste(convert(strip), place)
    return converted


def _strips(picture: Image.Image) -> Iterator[tuple[tuple[int, int], Image.Image]]:
    """Yield strips of rows, or parts of a very long row, each with its position (left, top)."""
    rows = max(1, PIXELS_A_STRIP // picture.width)
    for top in range(0, picture.height, rows):
        for left in range(0, picture.width, PIXELS_A_STRIP):
            right, bottom = min(left + PIXELS_A_STRIP, picture.width), min(top + rows, picture.height)
            yield (left, top), picture.crop((left, top, right, bottom))


def _range(picture: Image.Image) -> tuple[float, float]:
    """The lowest and highest finite value; 0 and 0 if there is none."""
    ends = []
    for _, strip in _strips(picture):
        values = np.asarray(strip, dtype=np.float64)
        values = values[np.isfinite(values)]
        ends += [float(values.min()), float(values.max())] if values.size else []
    return min(ends, default=0.0), max(ends, default=0.0)


def _resize(picture: Image.Image, width: int, height: int, resize: str) -> Image.Image:
    if picture.size == (width, height):
        return picture
    bilinear = Image.Resampling.BILINEAR  # Pillow widens the filter when it shrinks, so this is antialiased
    if resize == "stretch":
        return picture.resize((width, height), bilinear)
    if resize == "crop":
        scale = min(picture.width / width, picture.height / height)  # source pixels per pixel of the model
        # Rounding must not lead out of the picture: 239 / 224 · 224 is more than 239, and Pillow refuses that box.
        across, down = min(scale * width, picture.width), min(scale * height, picture.height)
        left, top = (picture.width - across) / 2, (picture.height - down) / 2
        box = (left, top, left + across, top + down)
        return picture.resize((width, height), bilinear, box=box)
    scale = max(picture.width / width, picture.height / height)
    inner = max(1, round(picture.width / scale)), max(1, round(picture.height / scale))
    ground = Image.new(picture.mode, (width, height), BLACK if picture.mode == "L" else (BLACK,) * 3)
    ground.paste(picture.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return ground


def chunk_size(paths: Sequence[str]) -> int:
    """How many of these files a worker gets at a time: 128 small ones, or a few photographs."""
    sizes = []
    for path in paths[:: max(1, len(paths) // 16)]:
        with contextlib.suppress(OSError):
            sizes.append(os.stat(path).st_size)
    return int(min(CHUNK, max(1, BYTES_A_CHUNK * len(sizes) // max(1, sum(sizes)))))
