"""Augmentation: random changes of whole batches in the input pipeline, while the network trains."""

from typing import Any

import tensorflow as tf

# For photographs, which can be mirrored, and whose colours depend on the light.
CROP = 1 / 8  # of the side: how far a picture is moved, the mirrored border coming in from the other side
BRIGHTNESS = 0.1  # of the range
CONTRAST = 0.2
SATURATION = 0.2
ZOOM = 1.4  # at most, if pictures are resized: objects at 160 pixels are then as large as at 224
CUTOUT = 1 / 4  # of each side: the hidden square, filled with the picture's mean gray (DeVries and Taylor 2017)

# For handwriting. With larger changes, a 9 becomes something else.
SHIFT = 2 / 28  # of the side
ROTATION = 0.15  # radians
SCALE = 0.08  # of the size, independent in each direction


def augment_digits(images: Any, seed: Any) -> Any:
    """Shift, rotate and scale each image by its own random amounts, in one resampling.

    Args:
        images: Shape (batch, height, width, channels), uint8.
        seed: Two integers; the same ones change the same images alike.

    Returns:
        Same shape, uint8; black where the source has no pixel.
    """
    height, width = images.shape[1:3]
    batch = tf.shape(images)[0]
    limits = tf.constant([ROTATION, SCALE, SCALE, SHIFT * width, SHIFT * height])
    angle, wider, taller, right, down = tf.unstack(
        tf.random.stateless_uniform((batch, 5), seed, -1, 1) * limits, axis=1
    )
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b, c, d = cos * (1 + wider), -sin * (1 + taller), sin * (1 + wider), cos * (1 + taller)
    x, y = (width - 1) / 2, (height - 1) / 2  # rotate around the center
    zeros = tf.zeros(batch)
    # An output pixel (x', y') is read at (a x' + b y' + e, c x' + d y' + f).
    transforms = tf.stack([a, b, x - a * x - b * y + right, c, d, y - c * x - d * y + down, zeros, zeros], axis=1)
    return _resample(images, transforms, "BILINEAR", "CONSTANT")


def augment_photos(images: Any, seed: Any) -> Any:
    """Flip, shift and recolour each image by its own random amounts, and hide a square (arXiv:1708.04552).

    Args:
        images: Shape (batch, height, width, channels), uint8.
        seed: Two integers; the same ones change the same images alike.

    Returns:
        Same shape, uint8; outside the source, the border is mirrored.
    """
    height, width, channels = images.shape[1:]
    batch = tf.shape(images)[0]
    limits = tf.constant(
        [1.0, CROP * width, CROP * height, 255 * BRIGHTNESS, CONTRAST, SATURATION, width / 2, height / 2]
    )
    flip, right, down, brightness, contrast, saturation, x, y = tf.unstack(
        tf.random.stateless_uniform((batch, 8), seed, -1, 1) * limits, axis=1
    )
    zeros, ones = tf.zeros(batch), tf.ones(batch)
    direction = tf.where(flip < 0, -ones, ones)
    start = tf.where(flip < 0, (width - 1) * ones, zeros)
    # An output pixel (x', y') is read at (direction x' + start + right, y' + down): whole pixels, so nothing blurs.
    transforms = tf.stack(
        [direction, zeros, start + tf.round(right), zeros, ones, tf.round(down), zeros, zeros], axis=1
    )
    moved = _resample(images, transforms, "NEAREST", "REFLECT")
    pixels = tf.cast(moved, tf.float32)
    mean = tf.reduce_mean(pixels, axis=(1, 2, 3), keepdims=True)  # (batch, 1, 1, 1)
    brightness, contrast, saturation = (
        tf.reshape(amount, (-1, 1, 1, 1)) for amount in (brightness, 1 + contrast, 1 + saturation)
    )
    if channels == 3:
        gray = tf.reduce_sum(pixels * [0.299, 0.587, 0.114], axis=3, keepdims=True)
        pixels = gray + saturation * (pixels - gray)
    # (x, y) is the distance of the square's center from the picture's. Some squares reach over the border.
    across = tf.abs(tf.range(width, dtype=tf.float32) - (width - 1) / 2 - x[:, None]) < CUTOUT * width / 2
    along = tf.abs(tf.range(height, dtype=tf.float32) - (height - 1) / 2 - y[:, None]) < CUTOUT * height / 2
    hidden = (along[:, :, None] & across[:, None, :])[..., None]  # (batch, height, width, 1)
    pixels = tf.where(hidden, mean, mean + contrast * (pixels - mean)) + brightness
    return tf.cast(tf.round(tf.clip_by_value(pixels, 0, 255)), tf.uint8)


def resize(images: Any, size: tuple[int, int], seed: Any, *, zoom: bool) -> Any:
    """Resize images to another height and width.

    Args:
        images: Shape (batch, height, width, channels), uint8.
        size: Height and width.
        seed: Two integers; the same ones zoom the same images alike.
        zoom: Whether each image is first cropped to a random part with its proportions.

    Returns:
        Shape (batch, *size, channels), uint8.
    """
    if zoom:
        batch = tf.shape(images)[0]
        own = tf.bitwise.invert(seed)  # because the next step uses the seed itself
        side, top, left = tf.unstack(tf.random.stateless_uniform((batch, 3), own, 0, 1), axis=1)
        side = 1 / (1 + (ZOOM - 1) * side)
        top, left = (1 - side) * top, (1 - side) * left
        boxes = tf.stack([top, left, top + side, left + side], axis=1)
        resized = tf.image.crop_and_resize(images, boxes, tf.range(batch), size)
    else:
        resized = tf.image.resize(images, size)
    return tf.cast(tf.round(resized), tf.uint8)


AUGMENT = {"digits": augment_digits, "photos": augment_photos}


def _resample(images: Any, transforms: Any, interpolation: str, fill_mode: str) -> Any:
    """Images of the same shape, read at the places that `transforms`, shape (batch, 8), gives for their pixels."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode=fill_mode,
    )
