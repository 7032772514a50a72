"""The shapes of all values of a graph, for a batch of pictures of a known size, without running it.

ONNX Runtime infers them, without any optimization, because that would already compute what is constant, however large.
It does not follow shapes that a graph computes from other shapes, as the exporter writes them before a Reshape. These
few numbers are computed here, round by round, and put in their place as constants. Weights take part by shape alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from convladder.inference.artifact import FLOAT, by_number, encode, fields, numbers_of

MOST_ROUNDS = 200
MOST_READ = 500_000  # nodes, in all rounds: some 20 seconds
SMALL_WEIGHT = 1 << 14  # bytes; what is not larger takes part with its values, which can be shapes
MOST_NUMBERS = 1024  # in a value that is computed
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float64": 11}  # ONNX's numbers
_BYTES = {"float": 4, "int32": 4, "uint32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2} | dict.fromkeys(
    ("int8", "uint8", "bool", "int4", "uint4"), 1
)
_WIDEST = 8
_GRAPH, _NODE, _NAME, _WEIGHT, _INPUT, _OUTPUT, _BETWEEN = 7, 1, 2, 5, 11, 12, 13  # fields of a model and of a graph
_METADATA = 14

COMPARISONS = ("GreaterOrEqual", "LessOrEqual")  # ONNX Runtime does not infer their shapes

Shapes = Mapping[str, Sequence[Any]]  # of whole numbers, where they are known


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        kind: Its operator.
        inputs: Names of values; that of an input that is left out is empty.
        outputs: Likewise.
        attributes: By name, the fields of their messages.
        field: All its bytes.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Mapping[int, list[memoryview]]]
    field: bytes | memoryview

    def whole(self, name: str) -> int | None:
        """An attribute that is a whole number; None without it."""
        values = numbers_of(self.attributes.get(name, {}).get(3, []))
        return values[-1] if values else None

    def wholes(self, name: str) -> list[int]:
        """An attribute that is a list of whole numbers."""
        return numbers_of(self.attributes.get(name, {}).get(8, []))

    def text(self, name: str) -> str:
        """An attribute that is a text."""
        return _text(self.attributes.get(name, {}).get(4, []))


def read_nodes(content: bytes) -> list[Node]:
    """The nodes of a model with one graph.

    Raises:
        ValueError: A node has an attribute twice, or uses what a later one computes.
    """
    graph = next(value for number, _, value in fields(content) if number == _GRAPH)
    nodes = [_read_node(value, field) for number, field, value in fields(graph) if number == _NODE]
    later = {name for node in nodes for name in node.outputs if name}
    for node in nodes:
        if not later.isdisjoint(node.inputs):
            raise ValueError("nodes that are not in order")
        later.difference_update(node.outputs)
    return nodes


def _read_node(message: memoryview, field: memoryview) -> Node:
    node = by_number(message)
    attributes = [by_number(value) for value in node.get(5, [])]
    by_name = {_text(attribute.get(1, [])): attribute for attribute in attributes}
    if len(by_name) < len(attributes):
        raise ValueError("an attribute that is given twice")
    inputs, outputs = ([bytes(name).decode() for name in node.get(number, [])] for number in (1, 2))
    return Node(_text(node.get(4, [])), inputs, outputs, by_name, field)


def _text(values: Sequence[memoryview]) -> str:
    return bytes(values[-1]).decode() if values else ""


def infer_shapes(
    content: bytes, nodes: Sequence[Node], name: str, input_shape: tuple[int, ...]
) -> tuple[Shapes, Mapping[str, int]]:
    """The shapes of all values, None for a side or a shape that is unknown, and the bytes of their numbers.

    Args:
        content: An ONNX model with one graph.
        nodes: Its nodes.
        name: Its input, of float32.
        input_shape: The shape of that.
    """
    shapes: dict[str, Sequence[Any]] = {name: input_shape}
    given = [_value(_INPUT, name, FLOAT, input_shape)]
    constants: dict[str, bytes] = {}
    graph = next(value for number, _, value in fields(content) if number == _GRAPH)
    for number, field, value in fields(graph):
        if number == _WEIGHT:
            weight = by_number(value)
            key, shape = _text(weight.get(8, [])), numbers_of(weight.get(1, []))
            shapes[key] = shape
            if len(field) <= SMALL_WEIGHT:
                constants[key] = bytes(field)
            else:
                given.append(_value(_INPUT, key, numbers_of(weight.get(2, []))[-1], shape))
    parts = [field for number, field, _ in fields(content) if number not in (_GRAPH, _METADATA)]
    widths: dict[str, int] = {}
    remaining = list(nodes)
    for _ in range(min(MOST_ROUNDS, 2 + MOST_READ // max(1, len(nodes)))):
        _infer(parts, [*given, *constants.values()], remaining, shapes, widths)
        if all(map(is_known, shapes.values())):
            break
        before = len(constants) + len(given)
        for node in remaining:
            (output, *_), known = node.outputs, all(is_known(shapes[name]) for name in node.inputs if name)
            if node.kind in COMPARISONS and known and not is_known(shapes[output]):
                sides = np.broadcast_shapes(*(tuple(shapes[name]) for name in node.inputs))
                given.append(_value(_BETWEEN, output, _TYPES["bool"], sides))
        _compute(parts, constants, remaining, shapes)
        if len(constants) + len(given) == before:
            break
        remaining = [node for node in remaining if not all(output in constants for output in node.outputs if output)]
    return shapes, widths


def is_known(shape: Sequence[Any]) -> bool:
    """Whether all sides are numbers."""
    return all(isinstance(side, int) and side >= 0 for side in shape)


def _infer(
    parts: Sequence[bytes | memoryview],
    kept: list[bytes],
    nodes: Sequence[Node],
    shapes: dict[str, Sequence[Any]],
    widths: dict[str, int],
) -> None:
    """Fill in the shapes and widths of what nodes compute."""
    names = [output for node in nodes for output in node.outputs if output]
    # ONNX Runtime says the same of a single number and of a value of any number of sides; their Shape tells them apart.
    ranks = {f"rank of {number}": output for number, output in enumerate(names)}
    measuring = [
        encode(_NODE, encode(1, output.encode()) + encode(2, rank.encode()) + encode(4, b"Shape"))
        for rank, output in ranks.items()
    ]
    session = _open(parts, [*kept, *(node.field for node in nodes), *measuring], [*names, *ranks])
    for output in session.get_outputs():
        if output.name in ranks:
            if output.shape != [len(shapes[ranks[output.name]])]:
                shapes[ranks[output.name]] = [None]
        else:
            shapes[output.name] = output.shape
            widths[output.name] = _BYTES.get(output.type.removeprefix("tensor(").removesuffix(")"), _WIDEST)


def _compute(
    parts: Sequence[bytes | memoryview], constants: dict[str, bytes], nodes: Sequence[Node], shapes: Shapes
) -> None:
    """Add to the constants what follows from them and from known shapes, as far as it is small."""
    chain: list[Node] = []
    computed: list[str] = []
    for node in nodes:
        if node.kind == "Shape" and is_known(shapes[node.inputs[0]]):
            sides = np.array(shapes[node.inputs[0]], np.int64)[node.whole("start") or 0 : node.whole("end")]
            constants[node.outputs[0]] = _constant(node.outputs[0], sides)
        elif all(name in constants or name in computed for name in node.inputs if name) and all(
            is_known(shapes[name]) and math.prod(shapes[name]) <= MOST_NUMBERS for name in node.outputs if name
        ):
            chain.append(node)
            computed += filter(None, node.outputs)
    if computed:
        session = _open(parts, [*constants.values(), *(node.field for node in chain)], computed)
        for name, value in zip(computed, session.run(None, {}), strict=True):
            if value.dtype.name in _TYPES:
                constants[name] = _constant(name, value)


def _constant(name: str, value: npt.NDArray[Any]) -> bytes:
    sides = b"".join(encode(1, side) for side in value.shape)
    return encode(
        _WEIGHT,
        sides
        + encode(2, _TYPES[value.dtype.name])
        + encode(8, name.encode())
        + encode(9, np.ascontiguousarray(value).tobytes()),
    )


def _value(field: int, name: str, kind: int, shape: Sequence[int]) -> bytes:
    sides = b"".join(encode(1, encode(1, side)) for side in shape)
    return encode(field, encode(1, name.encode()) + encode(2, encode(1, encode(1, kind) + encode(2, sides))))


def _open(
    parts: Sequence[bytes | memoryview], graph: Sequence[bytes | memoryview], outputs: Sequence[str]
) -> onnxruntime.InferenceSession:
    named = [encode(_NAME, b"shapes"), *(encode(_OUTPUT, encode(1, output.encode())) for output in outputs)]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong with the model is told by the exception
    content = b"".join([*parts, encode(_GRAPH, b"".join([*graph, *named]))])
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
