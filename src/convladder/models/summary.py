"""Model summaries: one row per layer, with parameters, multiply-accumulates and the arithmetic of the output size."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
from keras import layers

RECURRENT = (layers.RNN, layers.Bidirectional)  # their kernels work at each time step


@dataclass(frozen=True)
class LayerSummary:
    """One layer of a model.

    Attributes:
        name: Its name, by which a map can be requested.
        kind: The class of the layer.
        output_shape: Without the batch dimension.
        parameters: Number of all parameters, trained or not.
        macs: Multiply-accumulates per image, only of convolutions and fully connected layers, as papers count them.
        arithmetic: How the output's height follows from the input's; or empty.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int
    arithmetic: str


def summarize(model: keras.Model) -> list[LayerSummary]:
    """Describe every layer of a functional model, in order. A layer that is called several times counts each call."""
    work: dict[int, int] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for layer, takes, gives in _calls(model):
        work[id(layer)] = work.get(id(layer), 0) + _macs(layer, takes, gives)
        shapes[id(layer)] = gives
    return [
        LayerSummary(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=shapes[id(layer)],
            parameters=layer.count_params(),
            macs=work[id(layer)],
            arithmetic=_arithmetic(layer),
        )
        for layer in model.layers
    ]


def count_macs(model: keras.Model) -> int:
    """Multiply-accumulates per image."""
    return sum(_macs(layer, takes, gives) for layer, takes, gives in _calls(model))


def _calls(model: keras.Model) -> Iterator[tuple[Any, tuple[int, ...], tuple[int, ...]]]:
    """Each call of a layer or operation with its input and output shapes, without the batch dimension."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    for nodes in graph._nodes_by_depth.values():
        for node in nodes:
            given = node.input_tensors[0] if node.input_tensors else node.outputs[0]
            yield node.operation, tuple(given.shape[1:]), tuple(node.outputs[0].shape[1:])


def _macs(layer: Any, takes: tuple[int, ...], gives: tuple[int, ...]) -> int:
    """Each weight of a kernel is multiplied once per output position; in a transposed layer, once per input position.

    The kernels of layers inside a layer, as in attention or a wrapper, count as kernels of the whole.
    """
    if isinstance(layer, keras.Model):
        if any(side is None for _, _, shape in _calls(layer) for side in shape):  # the layer was built for any size
            layer = keras.models.clone_model(layer, keras.tree.map_structure(lambda _: keras.Input(takes), layer.input))
        return count_macs(layer)
    kernels = [weight for weight in getattr(layer, "weights", ()) if weight.path.endswith("kernel")]
    placed = takes if "Transpose" in type(layer).__name__ or isinstance(layer, RECURRENT) else gives
    first = getattr(layer, "data_format", "") == "channels_first"
    if len(placed) == len(takes):  # sides that a layer leaves open are unchanged
        placed = tuple(given if side is None else side for side, given in zip(placed, takes, strict=True))
    positions = prod(placed[1:] if first else placed[:-1])  # 1 for a fully connected layer
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
    # Same padding makes the output ⌈input / stride⌉ high, with half of the padding on either side.
    padding = max((after - 1) * stride + kernel - before, 0) if layer.padding == "same" else 0
    padded = f"2·{padding // 2}" if padding % 2 == 0 else f"{padding}"
    quotient = f"({before} + {padded} − {kernel})/{stride}"
    if (before + padding - kernel) % stride:
        quotient = f"⌊{quotient}⌋"
    return f"{quotient} + 1 = {after}"
