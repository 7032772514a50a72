"""Familiarity in the .onnx file: what the last layer reads as features, and the nodes that compare them.

`evaluating.familiarity` says how. The nodes do the same as `Familiarity.measure`, for every format of the pixels that
the network takes.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.evaluating.familiarity import Familiarity, Place
from convladder.inference.artifact import FAMILIARITY

LAST = "last_features"
REDUCES_BY_INPUT = 18  # from this version of ONNX's operators on, the axes of a mean or minimum are an input


def find_last(model: keras.Model) -> Any:
    """What the last layer with weights reads, as a tensor of shape (batch, features), of a single network."""
    layer = next(layer for layer in reversed(model.layers) if layer.weights)
    return average_places(layer.input)


def average_places(x: Any) -> Any:
    """From (batch, height, width, channels) to (batch, channels); (batch, features) stays."""
    return keras.ops.mean(x, axis=tuple(range(1, len(x.shape) - 1))) if len(x.shape) > 2 else x


def answer_familiarity(graph: Any, familiarity: Familiarity, kinds: Sequence[str]) -> None:
    """Give an onnx.ModelProto the output `familiarity`, shape (batch,), after the first; remove the output LAST.

    Args:
        graph: It has an output for each kind of features.
        familiarity: What was learned.
        kinds: The outputs' names.
    """
    from onnx import TensorProto, helper

    outputs = {output.name: output for output in graph.graph.output}
    nodes = _Nodes(graph)
    found = [
        nodes.squares(name, len(outputs[name].type.tensor_type.shape.dim), place)
        for name, place in zip(kinds, familiarity.places, strict=True)
    ]
    squares = nodes.add("Max", *found) if len(found) > 1 else found[0]
    stranger = nodes.add("LessOrEqual", squares, nodes.constant(familiarity.held_out))
    nodes.reduce("ReduceMean", nodes.add("Cast", stranger, to=TensorProto.FLOAT), [1], FAMILIARITY)
    outputs.pop(LAST)
    first, *others = outputs.values()
    told = helper.make_tensor_value_info(
        FAMILIARITY, TensorProto.FLOAT, [first.type.tensor_type.shape.dim[0].dim_param]
    )
    kept = [type(output).FromString(output.SerializeToString()) for output in (first, told, *others)]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)


class _Nodes:
    """Adds nodes to an onnx.ModelProto."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._version = max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
        self._number = 0

    def squares(self, x: str, rank: int, place: Place) -> str:
        """As `Place.squares`, shape (batch, 1), of an output with features in its last axis."""
        if rank > 2:
            x = self.reduce("ReduceMean", x, list(range(1, rank - 1)))
        x = self.add("Mul", x, self.constant(place.scale)) if place.scale.size else self.add("LpNormalization", x)
        if place.projection.size:
            x = self.add("LpNormalization", self.add("MatMul", x, self._half(place.projection)))
        found = self.add("Gemm", x, self._half(place.weights), self.constant(place.bias))
        found = self.reduce("ReduceMin", found, [1], keepdims=1)
        return self.add("Add", found, self.reduce("ReduceSumSquare", x, [1], keepdims=1)) if place.scale.size else found

    def _half(self, value: npt.NDArray[np.float16]) -> str:
        """A constant that takes half the room in the file; ONNX Runtime widens it once."""
        from onnx import TensorProto

        return self.add("Cast", self.constant(value), to=TensorProto.FLOAT)

    def reduce(self, kind: str, x: str, axes: list[int], name: str = "", keepdims: int = 0) -> str:
        """A mean, a minimum or a sum over axes."""
        if self._version >= REDUCES_BY_INPUT:
            return self.add(kind, x, self.constant(np.array(axes)), name=name, keepdims=keepdims)
        return self.add(kind, x, name=name, axes=axes, keepdims=keepdims)

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Keep an array in the graph."""
        from onnx import numpy_helper

        name = self._next()
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node, and give back the name of its output."""
        from onnx import helper

        name = name or self._next()
        self._graph.node.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _next(self) -> str:
        self._number += 1
        return f"{FAMILIARITY}/{self._number}"
