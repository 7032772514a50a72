"""Layers that Keras lacks. They are registered with it when this module is imported."""

from typing import Any

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="convladder")
class MinPooling2D(layers.MaxPooling2D):
    """The smallest value in each window. It keeps dark strokes on a light background, which max pooling drops.

    It has the arguments and output shapes of `keras.layers.MaxPooling2D`.
    """

    def call(self, inputs: Any) -> Any:
        """Pool (batch, height, width, channels). The minimum is the negative maximum of the negatives."""
        return -super().call(-inputs)


def split_views(x: Any, views: int) -> Any:
    """Reshape a batch of concatenated views to (views, batch, …)."""
    return keras.ops.reshape(x, (views, -1, *x.shape[1:]))


class FirstView(layers.Layer):
    """The first view of a batch of concatenated views: shape (batch, …).

    It is a layer because a layer keeps its given name. Keras numbers operations from 1 in each process, so their names
    would clash with those of a network from a file.
    """

    def __init__(self, views: int, name: str) -> None:
        super().__init__(name=name)
        self.views = views

    def call(self, x: Any) -> Any:
        """Split the views, and return the first."""
        return split_views(x, self.views)[0]
