"""Model summaries: a row a layer, with parameters, multiply-accumulates and the arithmetic of the output size."""

from dataclasses import dataclass
from math import prod
from typing import Any

import keras
from keras import layers


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a model.

    Attributes:
        name: As asked for in a map.
        kind: The class of the layer.
        output_shape: Without the batch.
        parameters: Trained and not.
        macs: Multiply-accumulates for one image, in convolutions and fully connected layers alone, as papers count.
        arithmetic: How the output's height follows from the input's, or an empty text.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    arithmetic: str


def summarize(model: keras.Model) -> list[LayerSummary]:
    """Describe every layer of a functional model, in order."""
    return [
        LayerSummary(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=tuple(layer.output.shape[1:]),
            parameters=layer.count_params(),
            macs=_macs(layer),
            arithmetic=_arithmetic(layer),
        )
        for layer in model.layers
    ]


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates for one image."""
    return sum(_macs(layer) for layer in model.layers)


def _macs(layer: Any) -> int:
    """Every weight of a kernel is multiplied once for each output position."""
    if isinstance(layer, keras.Model):
        return count_macs(layer)
    if isinstance(layer, layers.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
        kernels = [layer.kernel]
    else:
        return 0
    positions = prod(layer.output.shape[1:-1])  # 1 for a fully connected layer
    return positions * sum(prod(kernel.shape) for kernel in kernels)


def _arithmetic(layer: Any) -> str:
    """The output's height: (input + padding − kernel) / stride + 1, rounded down."""
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        kernel, stride = layer.kernel_size[0], layer.strides[0]
    elif isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        kernel, stride = layer.pool_size[0], layer.strides[0]
    elif isinstance(layer, layers.Flatten):
        return f"{' · '.join(str(side) for side in layer.input.shape[1:])} = {layer.output.shape[1]:,}"
    else:
        return ""
    before, after = layer.input.shape[1], layer.output.shape[1]
    # Same padding adds what makes the output ⌈input / stride⌉ high, half on either side.
    padding = max((after - 1) * stride + kernel - before, 0) if layer.padding == "same" else 0
    padded = f"2·{padding // 2}" if padding % 2 == 0 else f"{padding}"
    quotient = f"({before} + {padded} − {kernel})/{stride}"
    if (before + padding - kernel) % stride:
        quotient = f"⌊{quotient}⌋"
    return f"{quotient} + 1 = {after}"
