"""Decoding: a picture in a file, as the array that a model takes. The one path for training and serving."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from convladder.errors import ConvladderError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")


def decode_image(path: Path, input_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    """Read a picture by its content, turn it upright, and bring it to a model's size and channels.

    Args:
        path: A JPEG, PNG, BMP, GIF, WebP or TIFF file.
        input_shape: (height, width, channels) of the model.

    Returns:
        Pixels of shape `input_shape`, range 0–255.

    Raises:
        ConvladderError: No such file, no picture of these formats, or a damaged one.
    """
    height, width, channels = input_shape
    try:
        with Image.open(path, formats=FORMATS) as picture:
            upright = ImageOps.exif_transpose(picture).convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise ConvladderError(f"{path} is no picture. Expected one of: {', '.join(FORMATS)}.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConvladderError(f"{path} cannot be read ({reason}).") from error
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)  # antialiased when it shrinks
    return np.asarray(upright, dtype=np.uint8).reshape(input_shape)
