"""What a graph costs for a batch of pictures, estimated before it runs: a file of a few bytes can ask for hours.

Loops, operators that are not listed here, and values whose size depends on pixels have no known cost.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from convladder.errors import ConvladderError
from convladder.inference.shapes import Node, Shapes, infer_shapes, is_known, read_nodes

# Of a picture. The largest networks of keras.applications take 1.8e11, for 50 million to 350 million bytes.
ALLOWANCE = 10_000_000_000  # multiplications that any file may ask for: a second or less
PER_BYTE = 100_000  # more for each byte of the file: a weight is used once per place of its map, and these can be many
MOST_MULTIPLICATIONS = 1_000_000_000_000
MOST_MEMORY = 1 << 32  # bytes that the values of a batch take at one time
MOST_NODES = 100_000

WIDEST = 8  # bytes of a number whose type is unknown


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
    nodes = read_nodes(content)
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
    shapes, widths = infer_shapes(content, nodes, name, input_shape)
    vague = [value for value, shape in shapes.items() if not is_known(shape)]
    if vague:
        raise refuse(f"has a value, {vague[0]!r:.80}, whose size depends on the picture", "sizes that are known")
    work = sum(MULTIPLYING.get(node.kind, _linear)(node, shapes) for node in nodes) // images
    most = min(ALLOWANCE + PER_BYTE * len(content), MOST_MULTIPLICATIONS)
    if work > most:
        raise refuse(
            f"takes {work:,} multiplications per picture, out of proportion to its {len(content):,} bytes",
            f"at most {most:,}",
        )
    memory = _peak(nodes, {value: math.prod(shape) * widths.get(value, WIDEST) for value, shape in shapes.items()})
    if memory > MOST_MEMORY:
        raise refuse(f"takes {memory:,} bytes of memory for {images:,} pictures at a time", f"at most {MOST_MEMORY:,}")


def _peak(nodes: Sequence[Node], sizes: Mapping[str, int]) -> int:
    """The most bytes that values which nodes compute take at one time, each until its last use."""
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
    return _out(node, shapes) * first[0 if node.whole("transA") else -1]


def _recurrent(node: Node, shapes: Shapes) -> int:
    steps, batch, _ = shapes[node.inputs[0]]
    return steps * batch * (_size(node.inputs[1], shapes) + _size(node.inputs[2], shapes))


def _pooling(node: Node, shapes: Shapes) -> int:
    return _out(node, shapes) * math.prod(node.wholes("kernel_shape") or [node.whole("size") or 1])


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
