"""Decoding: a picture in a file, as the array that a model takes. The one path for training, evaluation and serving.

What becomes of each kind of picture:

    gray, 1 bit a pixel           black is 0, white 255
    16 bits, gray or colours      the high byte; where all values fit into 14, 12, 10 or 8 bits, as those of cameras do,
                                  the highest 8 of those
    32 bits, and float            scaled from its lowest value, 0, to its highest, 255: it states no range of its own;
                                  what is no number becomes 0, an infinity the end that it is beyond
    palette                       the colours it stands for
    alpha, or a transparent       laid on white
    CMYK, YCbCr                   red, green and blue, by Pillow's plain formula, without colour profiles
    animated, several pages       the first
    EXIF orientation              turned upright
    gray for a model of colours   three equal channels
    colours for a model of gray   0.299 red + 0.587 green + 0.114 blue
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

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
from convladder.data.resizing import RESIZINGS, accept_fit
from convladder.errors import ConvladderError, check_choice
from convladder.workers import CHUNK

PICTURE_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
# What one picture may take: a file of some kilobytes may claim more, and keep a processor busy or fill the memory.
PIXEL_LIMIT = 100_000_000
BYTE_LIMIT = 800_000_000
DEPTHS = (8, 10, 12, 14, 16)  # bits that the values of a picture of 16 may take
PIXELS_A_STRIP = 1 << 18  # that are converted at a time, since some conversions take 30 bytes a pixel
WHITE, BLACK = 255, 0

BYTES_A_CHUNK = 16e6  # of files that a worker gets at a time

ORIENTATION = 0x0112  # the EXIF tag, and how its values are turned upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of odd metadata, which changes no pixel, and of pictures that PIXEL_LIMIT refuses.
warnings.filterwarnings("ignore", module=r"PIL\.")


@accept_fit
def decode_image(
    path: str | Path | bytes, input_shape: tuple[int, int, int], resize: str = "stretch"
) -> npt.NDArray[np.uint8]:
    """Read a picture by its content, turn it upright, and bring it to a model's size and channels.

    Args:
        path: A JPEG, PNG, BMP, GIF, WebP or TIFF file, whatever its name; or the bytes of one.
        input_shape: (height, width, channels) of the model; 1 or 3 channels.
        resize: How another proportion is brought to the model's: "crop" cuts off what is too long, in equal parts on
            both sides; "pad" puts black on both sides of what is too short; "stretch" changes the proportion.

    Returns:
        Pixels of shape `input_shape`, range 0–255; a smaller one is resized with antialiasing.

    Raises:
        ConvladderError: No such file, no picture of these formats, a damaged one, one of more than 100 million pixels,
            or one whose decoding would take more than 800 MB; `name_defect` tells which.
    """
    check_choice("way to resize", resize, RESIZINGS)
    with open_picture(path) as picture:
        return read_pixels(picture, input_shape, resize)


def read_pixels(picture: Image.Image, input_shape: tuple[int, int, int], resize: str) -> npt.NDArray[np.uint8]:
    """What `decode_image` makes of an opened picture, for those who look at its header first; it is closed."""
    height, width, channels = input_shape
    # To stretch, Pillow brings all rows to the width first; they are columns yet, where it is to be turned.
    stretched = width * max(picture.size) if resize == "stretch" else 0
    pixels = _read_upright(picture, "L" if channels == 1 else "RGB", max(width, height), stretched)
    return np.asarray(_resize(pixels, width, height, resize), dtype=np.uint8).reshape(input_shape)


def _read_upright(picture: Image.Image, mode: str, side: int, stretched: int = 0) -> Image.Image:
    """An opened picture in "L" or "RGB", turned upright; it is closed.

    Args:
        picture: A JPEG is read at a half, a quarter or an eighth of its size where that leaves at least what is wanted.
        mode: See above.
        side: What is wanted.
        stretched: How many pixels more there will be beside it.
    """
    coefficients = 2 * len(picture.getbands()) * picture.width * picture.height
    picture.draft(mode, (side, side))
    needed = _bytes_to_decode(picture, mode, coefficients)
    if stretched:
        needed = max(needed, (picture.width * picture.height + stretched) * _bytes_a_pixel(mode))
    if needed > BYTE_LIMIT:
        raise Image.DecompressionBombError(
            f"{picture.width:,}×{picture.height:,} pixels that take {needed:,} bytes to decode, where {BYTE_LIMIT:,} "
            "are the limit"
        )
    file, swapped = getattr(picture, "fp", None), _swap_bytes(picture)
    picture.load()  # before the question how it is turned, for Pillow turns a TIFF itself, and takes the tag off
    if swapped:
        _take_highest_bits(picture, file, swapped)
    orientation = _orientation(picture)
    pixels = _convert(picture, mode)
    if pixels is not picture:
        picture.close()  # its memory is free for what comes
    if orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[orientation])
        picture.close()
    return pixels


def significant_bits(picture: Image.Image) -> int:
    """Of a picture's 16 bits, how many are used: scanners and cameras store 8, 10, 12 or 14 in files of 16."""
    if not picture.mode.startswith("I;16") and not _swap_bytes(picture):
        return 16  # it has no more than 8, or states no range
    picture.load()
    return _count_bits(picture)


def _count_bits(picture: Image.Image) -> int:
    """The same of a picture that has 16 bits and was read."""
    if picture.mode.startswith("I;16"):
        highest = max(int(np.asarray(strip).max()) for _, strip in _strips(picture))
    else:
        ends: Any = picture.getextrema()  # of the high bytes
        highest = 256 * max(high for _, high in ends[: 4 if picture.mode == "CMYK" else 3]) + 255
    return next(bits for bits in DEPTHS if highest < 1 << bits)


def _swap_bytes(picture: Image.Image) -> str:
    """Of colours of 16 bits, of which Pillow keeps the high byte: what has it keep the low one; else nothing.

    Told from how a picture is to be read, so before it is.
    """
    tiles = getattr(picture, "tile", None)
    args = tiles[0].args if tiles else ""
    rawmode = str(args[0] if isinstance(args, tuple) else args).replace(";16N", f";16{sys.byteorder[0].upper()}")
    if rawmode == "LA;16B" or rawmode[-4:] not in (";16B", ";16L") or picture.mode.startswith("I"):
        return ""
    return rawmode[:-1] + ("L" if rawmode.endswith("B") else "B")


def _take_highest_bits(picture: Image.Image, file: Any, swapped: str) -> None:
    """Where a picture of 16 bits a colour uses fewer, put the highest 8 of those in place of the high byte."""
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
    """What Pillow keeps a pixel in."""
    return 1 if mode in ("1", "L", "P") else 2 if mode.startswith("I;16") else 4


def _bytes_to_decode(picture: Image.Image, mode: str, coefficients: int) -> int:
    """What a picture takes until it is of a mode: the pixels, and beside them the decoder's own or their conversion."""
    pixels = picture.width * picture.height
    decoder = 0
    if picture.format == "WEBP":
        decoder = 12 * pixels  # two canvases, and a copy to read from
    elif picture.info.get("progressive"):
        decoder = coefficients  # of the whole picture, also where it is shrunk while it is read
    elif isinstance(picture, TiffImageFile):  # the largest piece that is unpacked at once
        tags = picture.tag_v2
        width = tags.get(TILEWIDTH, picture.width)
        height = tags.get(TILELENGTH, min(tags.get(ROWSPERSTRIP, picture.height), picture.height))
        bits = max(tags.get(BITSPERSAMPLE, (1,))) * tags.get(SAMPLESPERPIXEL, 1)
        decoder = width * height * bits // 8
    if _swap_bytes(picture):
        pixels *= 2  # read twice where the high bytes are dark
    return pixels * _bytes_a_pixel(picture.mode) + max(decoder, pixels * _bytes_a_pixel(mode))


def decode_outline(path: str | Path, side: int) -> npt.NDArray[np.float32]:
    """A picture in gray, upright and in its own proportions, the longer side at most `side` pixels.

    Raises:
        ConvladderError: As `decode_image` does.
    """
    with open_picture(path) as picture:
        gray = _read_upright(picture, "L", side)
        gray.thumbnail((side, side), Image.Resampling.BILINEAR)
        return np.asarray(gray, np.float32)


@contextlib.contextmanager
def open_picture(path: str | Path | bytes) -> Iterator[Image.Image]:
    """Read a picture's header; its pixels are read where they are asked for.

    Raises:
        ConvladderError: As `decode_image` does, also for what the pixels raise when they are read.
    """
    name = "The picture" if isinstance(path, bytes) else path
    try:
        # By a file and not a path: mapped into memory, Pillow 13 garbles a TIFF that is to be turned by a quarter.
        with _as_file(path) as file, Image.open(without_metadata(file), formats=PICTURE_FORMATS) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise Image.DecompressionBombError(
                    f"{picture.width:,}×{picture.height:,} pixels, where {PIXEL_LIMIT:,} are the limit"
                )
            yield picture
    except UnidentifiedImageError as error:
        raise ConvladderError(f"{name} is no picture. Expected one of: {', '.join(PICTURE_FORMATS)}.") from error
    except Exception as error:  # what a damaged file makes a decoder raise has no common class
        reason = " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())
        raise ConvladderError(f"{name} cannot be read ({reason}).") from error


def _as_file(path: str | Path | bytes) -> BinaryIO:
    return io.BytesIO(path) if isinstance(path, bytes) else open(path, "rb")


def name_defect(error: ConvladderError) -> str:
    """In a word or two, why `decode_image` refused: "no picture", "too large", "truncated" or "unreadable"."""
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
    if picture.format == "JPEG" and "exif" not in picture.info:  # asking costs as much as the rest of a header
        return None
    try:
        return picture.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata: the pixels may be sound all the same
        return None


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    """Bring to "L" or "RGB", as the table at the top says."""
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
    """Some rows at a time, or parts of one that is very long; and where each begins, (left, top)."""
    rows = max(1, PIXELS_A_STRIP // picture.width)
    for top in range(0, picture.height, rows):
        for left in range(0, picture.width, PIXELS_A_STRIP):
            right, bottom = min(left + PIXELS_A_STRIP, picture.width), min(top + rows, picture.height)
            yield (left, top), picture.crop((left, top, right, bottom))


def _range(picture: Image.Image) -> tuple[float, float]:
    """The lowest and the highest value that is a number; 0 and 0 where none is."""
    ends = []
    for _, strip in _strips(picture):
        values = np.asarray(strip, dtype=np.float64)
        values = values[np.isfinite(values)]
        ends += [float(values.min()), float(values.max())] if values.size else []
    return min(ends, default=0.0), max(ends, default=0.0)


def _resize(picture: Image.Image, width: int, height: int, resize: str) -> Image.Image:
    if picture.size == (width, height):
        return picture
    bilinear = Image.Resampling.BILINEAR  # Pillow widens it when it shrinks, which is antialiasing
    if resize == "stretch":
        return picture.resize((width, height), bilinear)
    if resize == "crop":
        scale = min(picture.width / width, picture.height / height)  # of the source's pixels, to one of the model's
        # Rounding may not lead out of the picture: 239 / 224 · 224 is more than 239, and Pillow refuses such a box.
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
