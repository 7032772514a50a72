"""Decoding: a picture in a file, as the array that a model takes. The one path for training, evaluation and serving.

What becomes of each kind of picture:

    gray, 1 bit a pixel           black is 0, white 255
    gray, 16 bits                 the high byte, as Pillow keeps of colours with 16 bits
    32 bits, and float            scaled from its lowest value, 0, to its highest, 255: it states no range of its own
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
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from convladder.errors import ConvladderError, check_choice

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
FITS = ("crop", "pad", "stretch")
PIXEL_LIMIT = 100_000_000  # a file of some kilobytes may claim more, and fill the memory
WHITE, BLACK = 255, 0

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


def decode_image(
    path: str | Path | bytes, input_shape: tuple[int, int, int], fit: str = "stretch"
) -> npt.NDArray[np.uint8]:
    """Read a picture by its content, turn it upright, and bring it to a model's size and channels.

    Args:
        path: A JPEG, PNG, BMP, GIF, WebP or TIFF file, whatever its name; or the bytes of one.
        input_shape: (height, width, channels) of the model; 1 or 3 channels.
        fit: How another proportion is brought to the model's: "crop" cuts off what is too long, in equal parts on
            both sides; "pad" puts black on both sides of what is too short; "stretch" changes the proportion.

    Returns:
        Pixels of shape `input_shape`, range 0–255; a smaller one is resized with antialiasing.

    Raises:
        ConvladderError: No such file, no picture of these formats, a damaged one, or one of more than 100 million
            pixels; `name_defect` tells which.
    """
    check_choice("fit", fit, FITS)
    with open_picture(path) as picture:
        return read_pixels(picture, input_shape, fit)


def read_pixels(picture: Image.Image, input_shape: tuple[int, int, int], fit: str) -> npt.NDArray[np.uint8]:
    """What `decode_image` makes of an opened picture, for those who look at its header first."""
    height, width, channels = input_shape
    mode = "L" if channels == 1 else "RGB"
    # A JPEG is read at a half, a quarter or an eighth of its size where that leaves at least what is wanted.
    picture.draft(mode, (max(width, height),) * 2)
    pixels = _resize(_convert(_turn_upright(picture), mode), width, height, fit)
    return np.asarray(pixels, dtype=np.uint8).reshape(input_shape)


@contextlib.contextmanager
def open_picture(path: str | Path | bytes) -> Iterator[Image.Image]:
    """Read a picture's header; its pixels are read where they are asked for.

    Raises:
        ConvladderError: As `decode_image` does, also for what the pixels raise when they are read.
    """
    name = "The picture" if isinstance(path, bytes) else path
    try:
        # By a file and not a path: mapped into memory, Pillow 13 garbles a TIFF that is to be turned by a quarter.
        with _as_file(path) as file, Image.open(file, formats=FORMATS) as picture:
            if picture.width * picture.height > PIXEL_LIMIT:
                raise Image.DecompressionBombError(
                    f"{picture.width:,}×{picture.height:,} pixels, where {PIXEL_LIMIT:,} are the limit"
                )
            yield picture
    except UnidentifiedImageError as error:
        raise ConvladderError(f"{name} is no picture. Expected one of: {', '.join(FORMATS)}.") from error
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


def _turn_upright(picture: Image.Image) -> Image.Image:
    picture.load()  # before the question, for Pillow turns a TIFF itself while it loads, and takes the tag off
    if picture.format == "JPEG" and "exif" not in picture.info:  # asking costs as much as the rest of a header
        return picture
    try:
        orientation = picture.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata: the pixels may be sound all the same
        orientation = None
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def _convert(picture: Image.Image, mode: str) -> Image.Image:
    """Bring to "L" or "RGB", as the table at the top says."""
    if picture.mode == mode and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16"):
        high = (np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high).convert(mode)
    if picture.mode in ("I", "F"):
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = values.min(), values.max()
        scaled = (values - low) * (255 / (high - low) if high > low else 0)
        return Image.fromarray(scaled.round().astype(np.uint8)).convert(mode)
    if picture.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info:
        above = picture.convert("RGBA")
        ground = Image.new("RGBA", above.size, (WHITE, WHITE, WHITE, 255))
        return Image.alpha_composite(ground, above).convert(mode)
    if picture.mode not in ("1", "L", "RGB"):
        picture = picture.convert("RGB")
    return picture.convert(mode)


def _resize(picture: Image.Image, width: int, height: int, fit: str) -> Image.Image:
    if picture.size == (width, height):
        return picture
    bilinear = Image.Resampling.BILINEAR  # Pillow widens it when it shrinks, which is antialiasing
    if fit == "stretch":
        return picture.resize((width, height), bilinear)
    if fit == "crop":
        scale = min(picture.width / width, picture.height / height)  # of the source's pixels, to one of the model's
        left, top = (picture.width - scale * width) / 2, (picture.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        return picture.resize((width, height), bilinear, box=box)
    scale = max(picture.width / width, picture.height / height)
    inner = max(1, round(picture.width / scale)), max(1, round(picture.height / scale))
    ground = Image.new(picture.mode, (width, height), BLACK if picture.mode == "L" else (BLACK,) * 3)
    ground.paste(picture.resize(inner, bilinear), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return ground
