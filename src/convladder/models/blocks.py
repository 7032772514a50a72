"""Layers that Keras lacks, and the blocks that several rungs are made of.

Every block takes a tensor of shape (batch, height, width, channels) and gives one back. Its `stage` names its
layers (`stage2_conv1`), so that a feature map can be asked for by name.
"""

import re
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from convladder.errors import ConvladderError, check_choice, check_range

POOLINGS = ("max", "average", "min")
PADDINGS = ("same", "valid")
MEMBER = re.compile(r"member\d+")  # how an assembled model names its networks
ALL_VIEWS = "views"  # the layer that lays the views of an image one after the other, in one batch


@keras.saving.register_keras_serializable(package="convladder")
class MinPooling2D(layers.MaxPooling2D):
    """The smallest value in each window: dark strokes on a light ground survive it, where max pooling drops them.

    Takes the arguments, and gives the shapes, of `keras.layers.MaxPooling2D`.
    """

    def call(self, inputs: Any) -> Any:
        """Pool (batch, height, width, channels); the smallest is the negative of the largest negative."""
        return -super().call(-inputs)


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
    """A convolution, refused with its arithmetic where the kernel does not fit into the image."""
    check_range("kernel size", kernel_size, 1)
    check_range("stride", stride, 1)
    check_choice("padding", padding, PADDINGS)
    _check_fits("kernel", kernel_size, x, padding)
    return layers.Conv2D(filters, kernel_size, stride, padding, name=name, **keras_arguments)(x)


def pool(x: Any, name: str, *, pooling: str = "max", pool_size: int = 2) -> Any:
    """Pooling over windows that do not overlap: (height, width) become (height, width) // pool_size."""
    check_choice("pooling", pooling, POOLINGS)
    check_range("pool size", pool_size, 1)
    _check_fits("pooling window", pool_size, x, "valid")
    layer = {"max": layers.MaxPooling2D, "average": layers.AveragePooling2D, "min": MinPooling2D}[pooling]
    return layer(pool_size, name=name)(x)


def normalize_and_activate(x: Any, name: str, batch_norm: bool) -> Any:
    """Batch normalization, if wanted, then the rectifier (Ioffe and Szegedy 2015, arXiv:1502.03167)."""
    if batch_norm:
        x = normalize(x, f"{name}_norm")
    return layers.Activation("relu", name=f"{name}_relu")(x)


def normalize(x: Any, name: str) -> Any:
    """Batch normalization, whose moving averages have settled after the first hundred steps, not the first thousand."""
    return layers.BatchNormalization(momentum=0.9, name=name)(x)


def hidden_layers(x: Any, units: int = 32) -> Any:
    """The article's head: flatten, then two fully connected layers of `units` each."""
    check_range("hidden units", units, 1)
    x = layers.Flatten(name="flatten")(x)  # (batch, height · width · channels)
    for number in (1, 2):
        x = layers.Dense(units, activation="relu", name=f"hidden{number}")(x)
    return x


def inception_module(x: Any, filters: int, stage: str, *, reduce: bool, batch_norm: bool) -> Any:
    """1×1, 3×3 and 5×5 convolutions and a pooling side by side, their channels concatenated.

    Szegedy et al. 2014, arXiv:1409.4842: figure 2a is the naive module, figure 2b the one in which 1×1
    convolutions reduce the channels before the expensive kernels and after the pooling.

    Args:
        x: Shape (batch, height, width, channels).
        filters: Channels of the 3×3 branch; the 1×1 branch has as many, the others half.
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


def split_views(x: Any, views: int) -> Any:
    """From a batch of all views, one view after the other, to shape (views, batch, …)."""
    return keras.ops.reshape(x, (views, -1, *x.shape[1:]))


class FirstView(layers.Layer):
    """From a batch of all views, one view after the other, the first: shape (batch, …).

    A layer has the name that it is given, where an operation of Keras numbers its own from 1 in each process, and then
    clashes with one of a network that was read from a file.
    """

    def __init__(self, views: int, name: str) -> None:
        super().__init__(name=name)
        self.views = views

    def call(self, x: Any) -> Any:
        """Take the views apart, and give the first."""
        return split_views(x, self.views)[0]


def flatten(model: Any) -> Iterator[Any]:
    """All layers, with those of nested models and not these."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flatten(layer)
        else:
            yield layer


def members(model: Any) -> list[Any]:
    """The networks that an assembled model averages; none of one that holds others as parts of it."""
    return [layer for layer in model.layers if isinstance(layer, keras.Model) and MEMBER.fullmatch(layer.name)]


def settle(model: Any) -> None:
    """Have each Normalization compute with the weights that it has: `set_weights` alone leaves what it made of others.

    What it computes with is made a constant, since an ONNX file would ask for it as an input.
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
            f"Expected at most {min(height, width)}: take a smaller one, a larger image, or padding same."
        )
