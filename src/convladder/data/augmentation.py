"""Augmentation: whole batches of bytes, changed at random in the input pipeline, while the network trains."""

from typing import Any

import tensorflow as tf

# Of handwriting: more than this, and a 9 becomes something else.
SHIFT = 2 / 28  # of the side
ROTATION = 0.15  # radians
SCALE = 0.08  # of the size, in each direction by itself


def augment_digits(images: Any, seed: Any) -> Any:
    """Shift, rotate and scale each image by its own amounts, in one resampling.

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
    x, y = (width - 1) / 2, (height - 1) / 2  # turn around the middle
    zeros = tf.zeros(batch)
    # An output pixel (x', y') is read at (a x' + b y' + e, c x' + d y' + f).
    transforms = tf.stack([a, b, x - a * x - b * y + right, c, d, y - c * x - d * y + down, zeros, zeros], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=[height, width],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
