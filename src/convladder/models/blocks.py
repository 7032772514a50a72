"""Blocks that several rungs share.

Every block takes and returns a tensor of shape (batch, height, width, channels). Its `stage` names its layers
(`stage2_conv1`), so that a feature map can be requested by name.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from convladder.engine import Later
from convladder.errors import ConvladderError, check_choice, check_range

if TYPE_CHECKING:
    import keras
    from keras import layers
else:
    keras, layers = Later("keras"), Later("keras.layers")

POOLINGS = ("max", "average", "min")
PADDINGS = ("same", "valid")
MEMBER = re.compile(r"member\d+")  # the names of an assembled model's networks
ALL_VIEWS = "views"  # the layer that concatenates the views of all images in one batch


def convolve(
    x: Any,
    filters: int,
    name: str,
    *,
    kernel_size: int = 3,
    stride: int = 1,
    padding: str = "same",
    **keras_arguments: Any,
) -> Any:
    """A convolution. An error explains if the kernel does not fit into the image."""
    check_range("kernel size", kernel_size, 1)
    check_range("stride", stride, 1)
    check_choice("padding", padding, PADDINGS)
    _check_fits("kernel", kernel_size, x, padding)
    return layers.Conv2D(filters, kernel_size, stride, padding, name=name, **keras_arguments)(x)


def pool(x: Any, name: str, *, pooling: str = "max", pool_size: int = 2) -> Any:
    """Pooling over windows without overlap: (height, width) become (height, width) // pool_size."""
    check_choice("pooling", pooling, POOLINGS)
    check_range("pool size", pool_size, 1)
    _check_fits("pooling window", pool_size, x, "valid")
    from convladder.models.own_layers import MinPooling2D

    layer = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D, "min": MinPooling2D}[pooling]
    return layer(pool_size, name=name)(x)


def normalize_and_activate(x: Any, name: str, batch_norm: bool) -> Any:
    """Optional batch normalization, then ReLU (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    if batch_norm:
        x = normalize(x, f"{name}_norm")
    return layers.Activation("relu", name=f"{name}_relu")(x)


def normalize(x: Any, name: str) -> Any:
    """Batch normalization whose moving averages settle within the first hundred steps, not the first thousand."""
    return layers.BatchNormalization(momentum=0.9, name=name)(x)


def hidden_layers(x: Any, units: int = 32) -> Any:
    """The article's head: flatten, then two fully connected layers of `units` each."""
    check_range("hidden units", units, 1)
    x = layers.Flatten(name="flatten")(x)  # (batch, height · width · channels)
    for number in (1, 2):
        x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
    return x


def inception_module(x: Any, filters: int, stage: str, *, reduce: bool, batch_norm: bool) -> Any:
    """Parallel 1×1, 3×3 and 5×5 convolutions and a pooling, with concatenated channels.

    Szegedy et al. 2014, arXiv:1409.4842: figure 2a is the naive module. In figure 2b, 1×1 convolutions reduce the
    channels before the expensive kernels and after the pooling.

    Args:
        x: Shape (batch, height, width, channels).
        filters: Channels of the 3×3 and the 1×1 branch; the others have half as many.
        stage: Prefix of the layers' names.
        reduce: Whether to reduce dimensions.
        batch_norm: Whether to normalize after each convolution.

    Returns:
        Shape (batch, height, width, 3 · filters) if reduced, else (batch, height, width, 2.5 · filters + channels).
    """

    def branch(x: Any, filters: int, kernel_size: int, name: str) -> Any:
        x = convolve(x, filters, f"{stage}_{name}", kernel_size=kernel_size, use_bias=not batch_norm)
        return normalize_and_activate(x, f"{stage}_{name}", batch_norm)

    half = filters // 2
    one = branch(x, filters, 1, "conv1x1")
    three = branch(branch(x, half, 1, "reduce3x3") if reduce else x, filters, 3, "conv3x3")
    five = branch(branch(x, half // 2, 1, "reduce5x5") if reduce else x, half, 5, "conv5x5")
    pooled = layers.MaxPooling2D(3, 1, "same", name=f"{stage}_maxpool")(x)
    if reduce:
        pooled = branch(pooled, half, 1, "project")
    return layers.Concatenate(name=f"{stage}_concat")([one, three, five, pooled])


def flatten(model: Any) -> Iterator[Any]:
    """All layers, with nested models replaced by their layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flatten(layer)
        else:
            yield layer


def members(model: Any) -> list[Any]:
    """The networks that an assembled model averages; empty for other models, even with nested networks."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model) and MEMBER.fullmatch(layer.name)]


def settle(model: Any) -> None:
    """Make each Normalization layer use its current weights, because `set_weights` does not update its derived values.

    These values become constants, because an ONNX file would otherwise need them as inputs.
    """
    for layer in flatten(model):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)


def _check_fits(what: str, size: int, x: Any, padding: str) -> None:
    height, width = x.shape[1:3]
    if padding == "valid" and size > min(height, width):
        raise ConvladderError(
            f"A {what} of {size}×{size} does not fit into {height}×{width}. "
            f"Expected at most {min(height, width)}: use a smaller one, a larger image, or padding same."
        )
