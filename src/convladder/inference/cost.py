"""What a graph costs for a batch of pictures, estimated before it runs: a file of a few bytes can ask for hours.

ONNX Runtime infers the shapes, without any optimization, because that would already compute what is constant. Shapes
that depend on pixels, loops and unknown operators have no known cost.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from convladder.errors import ConvladderError
from convladder.inference.artifact import FLOAT, by_number, encode, fields, numbers_of

# Of a picture. The largest networks of keras.applications take 1.8e11, for 50 million to 350 million bytes.
ALLOWANCE = 10_000_000_000  # multiplications that any file may ask for: a second or less
PER_BYTE = 100_000  # more for each byte of the file: a weight is used once per place of its map, and these can be many
MOST_MULTIPLICATIONS = 1_000_000_000_000
MOST_MEMORY = 1 << 32  # bytes that the values of a batch take at one time
MOST_NODES = 100_000

_BYTES = {"float": 4, "int32": 4, "uint32": 4, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2} | dict.fromkeys(
    ("int8", "uint8", "bool", "int4", "uint4"), 1
)
_WIDEST = 8

Shapes = Mapping[str, Sequence[Any]]  # of whole numbers, where they are known


@dataclass(frozen=True)
class Node:
    """A node of a graph.

    Attributes:
        kind: Its operator.
        inputs: Names of values; that of an input that is left out is empty.
        outputs: Likewise.
        attributes: By name, the fields of their messages.
    """

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: Mapping[str, Mapping[int, list[memoryview]]]

    def whole(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        return numbers_of(self.attributes.get(name, {}).get(3, [])[-1:] or [memoryview(bytes([default]))])[-1]

    def wholes(self, name: str) -> list[int]:
        """An attribute that is a list of whole numbers."""
        return numbers_of(self.attributes.get(name, {}).get(8, []))

    def text(self, name: str) -> str:
        """An attribute that is a text."""
        return _text(self.attributes.get(name, {}).get(4, []))


def check_cost(content: bytes, name: str, input_shape: tuple[int, ...], path: Path) -> None:
    """Refuse a model whose cost is unknown, or out of proportion to its file.

    Args:
        content: An ONNX model with one graph.
        name: Its input, of float32.
        input_shape: (images, height, width, channels) of a batch.
        path: Its file, for messages.

    Raises:
        ConvladderError: It takes too many multiplications or too much memory, or an unknown number.
        Exception: ONNX Runtime's, of any class: it is no model.
    """
    graph = next(value for number, _, value in fields(content) if number == 7)
    nodes = [_read_node(value) for number, _, value in fields(graph) if number == 1]
    images = input_shape[0]
    unknown = sorted({node.kind for node in nodes} - LINEAR - MULTIPLYING.keys())

    def refuse(what: str, expected: str) -> ConvladderError:
        return ConvladderError(
            f"{path} {what}. Expected {expected}. If you trust whoever made it, allow it with --any-cost, in Python "
            "any_cost=True."
        )

    if unknown:
        raise refuse(f"holds the operators {', '.join(unknown)[:200]}, whose cost is unknown", "layers of a network")
    if len(nodes) > MOST_NODES:
        raise refuse(f"has {len(nodes):,} nodes", f"at most {MOST_NODES:,}")
    shapes, widths = _infer(content, name, input_shape)
    vague = [name for name, shape in shapes.items() if not all(isinstance(side, int) and side >= 0 for side in shape)]
    if vague:
        raise refuse(f"has a value, {vague[0]!r:.80}, whose size depends on the picture", "sizes that are known")
    work = sum(MULTIPLYING.get(node.kind, _linear)(node, shapes) for node in nodes) // images
    most = min(ALLOWANCE + PER_BYTE * len(content), MOST_MULTIPLICATIONS)
    if work > most:
        raise refuse(
            f"takes {work:,} multiplications per picture, out of proportion to its {len(content):,} bytes",
            f"at most {most:,}",
        )
    memory = _peak(nodes, {name: math.prod(shape) * widths.get(name, _WIDEST) for name, shape in shapes.items()})
    if memory > MOST_MEMORY:
        raise refuse(f"takes {memory:,} bytes of memory for {images:,} pictures at a time", f"at most {MOST_MEMORY:,}")


def _read_node(message: memoryview) -> Node:
    node = by_number(message)
    attributes = [by_number(value) for value in node.get(5, [])]
    by_name = {_text(attribute.get(1, [])): attribute for attribute in attributes}
    if len(by_name) < len(attributes):
        raise ValueError("an attribute that is given twice")
    return Node(
        _text(node.get(4, [])),
        [bytes(name).decode() for name in node.get(1, [])],
        [bytes(name).decode() for name in node.get(2, [])],
        by_name,
    )


def _text(values: Sequence[memoryview]) -> str:
    return bytes(values[-1]).decode() if values else ""


def _infer(content: bytes, name: str, input_shape: tuple[int, ...]) -> tuple[dict[str, Sequence[Any]], dict[str, int]]:
    """Shapes of all values, and bytes per number of those that nodes compute, for pictures of a known number."""
    (graph,) = (value for number, _, value in fields(content) if number == 7)
    sides = b"".join(encode(1, encode(1, side)) for side in input_shape)
    tensor = encode(1, encode(1, FLOAT) + encode(2, sides))
    kept: list[bytes | memoryview] = [encode(11, encode(1, name.encode()) + encode(2, tensor))]
    shapes: dict[str, Sequence[Any]] = {name: input_shape}
    names: list[str] = []
    for number, field, value in fields(graph):
        if number in (1, 2, 5):  # nodes, name and weights; without what the file says of shapes
            kept.append(field)
        if number == 1:
            names += [bytes(output).decode() for output in by_number(value).get(2, []) if output]
        elif number == 5:
            weight = by_number(value)
            shapes[_text(weight.get(8, []))] = numbers_of(weight.get(1, []))
    # ONNX Runtime says the same of a single number and of a value of any number of sides; their Shape tells them apart.
    ranks = {f"rank of {number}": output for number, output in enumerate(names)}
    for rank, output in ranks.items():
        kept.append(encode(1, encode(1, output.encode()) + encode(2, rank.encode()) + encode(4, b"Shape")))
    kept += [encode(12, encode(1, output.encode())) for output in (*names, *ranks)]
    parts = [field for number, field, _ in fields(content) if number not in (7, 14)]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong with the model is told by the exception
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(
        b"".join([*parts, encode(7, b"".join(kept))]), options, providers=["CPUExecutionProvider"]
    )
    widths: dict[str, int] = {}
    for output in session.get_outputs():
        if output.name in ranks:
            if output.shape != [len(shapes[ranks[output.name]])]:
                shapes[ranks[output.name]] = [None]
        else:
            shapes[output.name] = output.shape
            widths[output.name] = _BYTES.get(output.type.removeprefix("tensor(").removesuffix(")"), _WIDEST)
    return shapes, widths


def _peak(nodes: Sequence[Node], sizes: Mapping[str, int]) -> int:
    """The most bytes that values which nodes compute take at one time, each until its last use.

    Raises:
        ValueError: A node uses what a later one computes, so that there is no order.
    """
    computed = {name for node in nodes for name in node.outputs if name}
    for node in nodes:
        if not computed.isdisjoint(node.inputs):
            raise ValueError("nodes that are not in order")
        computed.difference_update(node.outputs)
    last = {name: number for number, node in enumerate(nodes) for name in (*node.outputs, *node.inputs)}
    ends: dict[int, list[str]] = {}
    for name in {name for node in nodes for name in node.outputs}:
        ends.setdefault(last[name], []).append(name)
    alive = peak = 0
    for number, node in enumerate(nodes):
        alive += sum(sizes.get(name, 0) for name in node.outputs)
        peak = max(peak, alive)
        alive -= sum(sizes.get(name, 0) for name in ends.get(number, []))
    return peak


def _size(name: str, shapes: Shapes) -> int:
    return math.prod(shapes.get(name, ()))


def _out(node: Node, shapes: Shapes) -> int:
    return sum(_size(name, shapes) for name in node.outputs)


def _linear(node: Node, shapes: Shapes) -> int:
    return _out(node, shapes) + sum(_size(name, shapes) for name in node.inputs if name)


def _convolution(kernel: int) -> Callable[[Node, Shapes], int]:
    return lambda node, shapes: _out(node, shapes) * math.prod(shapes[node.inputs[kernel]][1:])


def _transposed(node: Node, shapes: Shapes) -> int:
    return _size(node.inputs[0], shapes) * math.prod(shapes[node.inputs[1]][1:])


def _product(node: Node, shapes: Shapes) -> int:
    first = shapes[node.inputs[0]]
    return _out(node, shapes) * first[0 if node.whole("transA", 0) else -1]


def _recurrent(node: Node, shapes: Shapes) -> int:
    steps, batch, _ = shapes[node.inputs[0]]
    return steps * batch * (_size(node.inputs[1], shapes) + _size(node.inputs[2], shapes))


def _pooling(node: Node, shapes: Shapes) -> int:
    return _out(node, shapes) * math.prod(node.wholes("kernel_shape") or [node.whole("size", 1)])


def _summation(node: Node, shapes: Shapes) -> int:
    """Einsum: the product of all the lengths that it names."""
    equation = node.text("equation").replace(" ", "")
    sides: dict[str, int] = {}
    for letters, name in zip(equation.partition("->")[0].split(","), node.inputs, strict=True):
        before, dots, after = letters.partition("...")
        shape = list(shapes[name])
        rest = shape[len(before) : len(shape) - len(after)] if dots else []
        named = [*zip(before, shape, strict=False), *zip(after, shape[len(shape) - len(after) :], strict=False)]
        for letter, side in [*named, *((f"...{place}", side) for place, side in enumerate(reversed(rest)))]:
            sides[letter] = max(side, sides.get(letter, 1))
    return math.prod(sides.values())


def _times(factor: int) -> Callable[[Node, Shapes], int]:
    return lambda node, shapes: factor * _linear(node, shapes)


MULTIPLYING: Mapping[str, Callable[[Node, Shapes], int]] = {
    "AveragePool": _pooling,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "ConvTranspose": _transposed,
    "Einsum": _summation,
    "GRU": _recurrent,
    "Gemm": _product,
    "GridSample": _times(16),
    "LRN": _pooling,
    "LSTM": _recurrent,
    "LpPool": _pooling,
    "MatMul": _product,
    "MatMulInteger": _product,
    "MaxPool": _pooling,
    "QLinearConv": _convolution(3),
    "QLinearMatMul": _product,
    "RNN": _recurrent,
    "Resize": _times(16),
    "TopK": _times(32),
}
_LINEAR = """
    Abs Acos Add And ArgMax ArgMin Asin Atan BatchNormalization BitShift Cast CastLike Ceil Celu Clip Concat Constant
    ConstantOfShape Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp
    Expand EyeLike Flatten Floor Gather GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool
    Greater GreaterOrEqual GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax LpNormalization Max Mean MeanVarianceNormalization
    Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    ReverseSequence Round ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan Tanh ThresholdedRelu Tile Transpose Trilu
    Unsqueeze Where Xor
"""
LINEAR = frozenset(_LINEAR.split())
