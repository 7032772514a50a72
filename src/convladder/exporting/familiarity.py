"""Familiarity in the .onnx file: what the last layer reads as features, and the nodes that compare them.

`evaluating.familiarity` says how. The nodes do the same as `Familiarity.measure`, for every format of the pixels that
the network takes.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.evaluating.familiarity import TINY, Familiarity, Place
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
        nodes.distances(name, [one.dim_value for one in outputs[name].type.tensor_type.shape.dim[1:]], place)
        for name, place in zip(kinds, familiarity.places, strict=True)
    ]
    strangeness = nodes.add("Max", *found) if len(found) > 1 else found[0]
    stranger = nodes.add("LessOrEqual", strangeness, nodes.constant(familiarity.held_out))
    shares = nodes.reduce("ReduceMean", nodes.add("Cast", stranger, to=TensorProto.FLOAT), keepdims=0)
    nodes.add("Identity", shares, name=FAMILIARITY)
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

    def distances(self, x: str, shape: Sequence[int], place: Place) -> str:
        """As `Place.distances`, shape (batch, 1), of an output of shape (batch, *shape)."""
        from onnx import TensorProto

        if len(shape) == 3:  # the mean over places, as a product, which all versions of the operators write alike
            height, width, channels = shape
            rows = self.add("Reshape", x, self.constant(np.array([-1, height * width, channels])))
            mean = self.constant(np.full((1, height * width), 1 / (height * width), np.float32))
            x = self.add("Reshape", self.add("MatMul", mean, rows), self.constant(np.array([-1, channels])))
        if place.shift.any():
            x = self.add("Sub", x, self.constant(place.shift))
        if (place.scale != 1).any():
            x = self.add("Mul", x, self.constant(place.scale))
        if place.unit:
            x = self._unit(x)
        if place.projection.size:
            wide = self.add("Cast", self.constant(place.projection), to=TensorProto.FLOAT)
            x = self._unit(self.add("MatMul", x, wide))
        centres = place.centres.astype(np.float32)
        product = self.add("MatMul", x, self.add("Cast", self.constant(-2 * place.centres.T), to=TensorProto.FLOAT))
        apart = self.reduce("ReduceMin", self.add("Add", product, self.constant((centres**2).sum(axis=1))))
        squares = self.add("Add", apart, self.reduce("ReduceSumSquare", x))
        length = self.add("Sqrt", self.add("Max", squares, self.constant(np.array(0, np.float32))))
        return self.add("Div", length, self.constant(np.array(place.tail, np.float32)))

    def _unit(self, x: str) -> str:
        length = self.add("Max", self.reduce("ReduceL2", x), self.constant(np.array(TINY, np.float32)))
        return self.add("Div", x, length)

    def reduce(self, kind: str, x: str, keepdims: int = 1) -> str:
        """Over the last axis."""
        if self._version >= REDUCES_BY_INPUT:
            return self.add(kind, x, self.constant(np.array([1])), keepdims=keepdims)
        return self.add(kind, x, axes=[1], keepdims=keepdims)

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
