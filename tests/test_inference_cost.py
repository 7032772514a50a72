"""An .onnx file of a stranger: it holds layers of a network alone, and what it costs is known before it runs."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import convladder as cl
from convladder.inference.artifact import seal, write_metadata

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
HEAD = [
    helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
    helper.make_node("Flatten", ["pooled"], ["flat"]),
    helper.make_node("Gemm", ["flat", "kernel"], ["logits"]),
    helper.make_node("Softmax", ["logits"], ["probabilities"]),
]


def node(kind: str, inputs: str, output: str = "x", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def constant(name: str, values: Any, kind: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, kind), name)


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto] | None = None,
    *,
    input_type: int = FLOAT,
    output_type: int = FLOAT,
    channels: int = 1,
    **more: Any,
) -> Path:
    """A network for pictures of 8×8 in one color: the nodes from `image` to `x`, then a head. It is sealed."""
    kernel = constant("kernel", np.random.default_rng(0).random((channels, 2)), np.float32)
    graph = helper.make_graph(
        [*nodes, *HEAD],
        "graph",
        [helper.make_tensor_value_info("image", input_type, ["batch", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", output_type, ["batch", 2])],
        [kernel, *(weights or [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10, **more)
    metadata = {"class_names": ["a", "b"], "input_shape": [8, 8, 1], "stages": []}
    helper.set_model_props(model, {"convladder": write_metadata(metadata)})
    path.write_bytes(seal(model.SerializeToString()))
    return path


TURN = node("Transpose", "image", "turned", perm=[0, 3, 1, 2])
CONVOLUTION = [TURN, node("Conv", "turned filters", "x", pads=[1, 1, 1, 1])]
FILTERS = constant("filters", np.ones((1, 1, 3, 3)), np.float32)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])  # two names of the same operators
def test_a_small_network_is_accepted(tmp_path: Path, domain: str) -> None:
    nodes = [TURN, node("Conv", "turned filters", pads=[1, 1, 1, 1], domain=domain)]
    classifier = cl.Classifier(write(tmp_path / "model.onnx", nodes, [FILTERS]))
    assert classifier.predict_probabilities(np.zeros((3, 8, 8, 1), np.uint8)).shape == (3, 2)


def branch(name: str) -> onnx.GraphProto:
    return helper.make_graph(
        [node("Identity", "turned", name)], name, [], [helper.make_tensor_value_info(name, FLOAT, None)]
    )


def body() -> onnx.GraphProto:
    return helper.make_graph(
        [node("Identity", "go", "on"), node("Identity", "kept", "given")],
        "body",
        [
            helper.make_tensor_value_info("step", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("given", FLOAT, None),
        ],
    )


YES = constant("yes", True, np.bool_)
LOOP = [TURN, node("Loop", "times yes turned", "x", body=body())]
TIMES = constant("times", 10**15)
# What costs too much, or nobody knows what: nodes from `image` to `x`, weights, and what is said of them.
COSTLY: dict[str, tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]] = {
    "a loop": (LOOP, [TIMES, YES], "the operators Loop"),
    "a choice": (
        [TURN, node("If", "yes", "x", then_branch=branch("then"), else_branch=branch("other"))],
        [YES],
        "the operators If",
    ),
    "a constant that fills memory before it runs": (
        [TURN, node("ConstantOfShape", "shape", "ones"), node("ReduceSum", "ones", "sum"), node("Add", "turned sum")],
        [constant("shape", [10**5, 10**5])],
        "memory",
    ),
    "Expand": (
        [TURN, node("Expand", "one shape", "wide"), node("ReduceSum", "wide", "sum"), node("Add", "turned sum")],
        [constant("one", 1, np.float32), constant("shape", [10**5, 10**5])],
        "memory",
    ),
    "Tile": ([TURN, node("Tile", "turned times")], [constant("times", [1, 1, 2000, 2000])], "memory"),
    "Resize": (
        [TURN, node("Resize", "turned nothing scales")],
        [constant("scales", [1, 1, 3000, 3000], np.float32), constant("nothing", [], np.float32)],
        "memory",
    ),
    "Pad": ([TURN, node("Pad", "turned sides")], [constant("sides", [0, 0, 0, 0, 0, 0, 30_000, 30_000])], "memory"),
    "Range": (
        [TURN, node("Range", "start end step", "row"), node("ReduceSum", "row", "sum"), node("Add", "turned sum")],
        [constant(name, value, np.float32) for name, value in (("start", 0), ("end", 1e11), ("step", 1))],
        "memory",
    ),
    "a transposed convolution": (
        [TURN, node("ConvTranspose", "turned filters", strides=[9000, 9000])],
        [constant("filters", np.ones((1, 1, 3, 3)), np.float32)],
        "memory",
    ),
    "values that live at one time": (
        [
            TURN,
            node("Tile", "turned times", "wide"),
            *(node("Neg", "wide", f"v{number}") for number in range(40)),
            node("Sum", " ".join(f"v{number}" for number in range(40))),
        ],
        [constant("times", [1, 1, 60, 60])],
        "memory",
    ),
    "multiplications": (
        [
            TURN,
            node("Tile", "turned times", "wide"),
            node("MatMul", "wide wide", "a"),
            *(node("MatMul", f"{'abcdefgh'[n]} wide", "abcdefgh"[n + 1]) for n in range(6)),
            node("Identity", "g"),
        ],
        [constant("times", [1, 1, 250, 250])],
        "multiplications per picture, out of proportion",
    ),
    "a sum over every index": (
        [
            TURN,
            node("Flatten", "turned", "row", axis=1),
            node("Einsum", "row row row row row row", "sum", equation="ba,bc,bd,be,bf,bg->b"),
            node("Reshape", "sum shape"),
        ],
        [constant("shape", [-1, 1, 1, 1])],
        "multiplications per picture, out of proportion",
    ),
    "a size that depends on the picture": (
        [TURN, node("ReduceSum", "image", "all", keepdims=0), node("Cast", "all", "whole", to=INT64),
         node("Unsqueeze", "whole zero", "shape"), node("ConstantOfShape", "shape", "filled"),
         node("ReduceSum", "filled", "sum"), node("Add", "turned sum")],
        [constant("zero", [0])],
        "depends on the picture",
    ),
    "a number of sides that depends on the picture": (
        [TURN, node("ReduceSum", "image", "all", keepdims=0), node("Cast", "all", "whole", to=INT64),
         node("Unsqueeze", "whole zero", "sides"), node("Squeeze", "turned sides", "some"),
         node("ReduceSum", "some", "sum", keepdims=0), node("Add", "turned sum")],
        [constant("zero", [0])],
        "depends on the picture",
    ),
    "places that are not zero": (
        [TURN, node("NonZero", "turned", "places"), node("Cast", "places", "numbers", to=FLOAT),
         node("ReduceSum", "numbers", "sum"), node("Add", "turned sum")],
        [],
        "NonZero, whose cost is unknown",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", COSTLY)
def test_a_cost_out_of_proportion_or_unknown_is_refused(tmp_path: Path, kind: str) -> None:
    nodes, weights, message = COSTLY[kind]
    path = write(tmp_path / "model.onnx", nodes, weights)
    assert path.stat().st_size < 10_000
    with pytest.raises(cl.ConvladderError, match=message) as raised:
        cl.Classifier(path)
    assert "allow it with --any-cost, in Python any_cost=True" in str(raised.value)


@pytest.mark.parametrize(
    "name", ["float", "float16", "double", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "bool"]
)
def test_memory_is_counted_in_bytes_of_each_type(tmp_path: Path, name: str) -> None:
    kind = TensorProto.DataType.Value(name.upper())
    width = helper.tensor_dtype_to_np_dtype(kind).itemsize
    nodes = [
        TURN,
        node("GlobalAveragePool", "turned", "mean"),
        node("Cast", "mean", "cast", to=kind),
        node("Expand", "cast sides", "wide"),
        node("Cast", "wide", to=FLOAT),
    ]
    path = write(tmp_path / "model.onnx", nodes, [constant("sides", [1, 1, 8000, 8000])])
    with pytest.raises(cl.ConvladderError, match="bytes of memory") as raised:
        cl.Classifier(path)
    memory, images = re.findall(r"takes ([\d,]+) bytes of memory for ([\d,]+) pictures", str(raised.value))[0]
    assert int(memory.replace(",", "")) == int(images) * 8000 * 8000 * (width + 4)  # before and after the last Cast


def test_any_cost_allows_it(tmp_path: Path, convladder: Any) -> None:
    path = write(tmp_path / "model.onnx", LOOP, [constant("times", 3), YES])
    pixels = np.full((1, 8, 8, 1), 7, np.uint8)
    assert cl.Classifier(path, any_cost=True).predict_probabilities(pixels).shape == (1, 2)
    Image.fromarray(pixels[0, ..., 0]).save(tmp_path / "one.png")
    assert "any-cost" in convladder("predict", path, "one.png").err
    assert convladder("predict", path, "one.png", "--any-cost").status == 0


def sparse() -> onnx.TensorProto:
    return helper.make_sparse_tensor(constant("values", [1.0], np.float32), constant("indices", [0]), [10**6, 10**6])


def test_what_is_no_layer_is_refused_at_any_cost(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"

    def refused(message: str, nodes: list[onnx.NodeProto], weights: Any = (), **more: Any) -> None:
        write(path, nodes, list(weights), **more)
        for any_cost in (False, True):
            with pytest.raises(cl.ConvladderError, match=message):
                cl.Classifier(path, any_cost=any_cost)

    for domain in ("com.example", "com.microsoft", "ai.onnx.ml", "ai.onnx.contrib"):
        refused(f"custom operator '{domain}.PyOp'", [TURN, node("PyOp", "turned", domain=domain)])
    inner = helper.make_graph(
        [node("PyOp", "turned", "then", domain="evil")], "t", [], [helper.make_tensor_value_info("then", FLOAT, None)]
    )
    hidden = node("If", "yes", "x", then_branch=inner, else_branch=branch("other"))
    refused(r"custom operator 'evil\.PyOp'", [TURN, hidden], [YES])
    own = helper.make_function("own", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 18)])
    refused("holds functions of its own", CONVOLUTION, [FILTERS], functions=[own])
    refused("holds sparse weights", [TURN, node("Constant", "", "x", sparse_value=sparse())])
    refused("takes .* of type 7, but describes", CONVOLUTION, [FILTERS], input_type=INT64)
    refused("Could not load|gives probabilities as", CONVOLUTION, [FILTERS], output_type=TensorProto.DOUBLE)
    large = constant("large", [1.0], np.float32)
    large.dims[:] = [10**6, 10**6]
    refused(r"a weight of shape \[1000000, 1000000\] in", [TURN, node("Add", "turned large")], [large])


def test_a_loop_in_a_loop_is_refused_without_opening_it(tmp_path: Path) -> None:
    # ONNX Runtime infers the shapes of nested branches again for each branch around them: a minute for 20 of them.
    inner = branch("then")
    for depth in range(20):
        outer = helper.make_graph([], f"g{depth}", [], [helper.make_tensor_value_info(f"o{depth}", FLOAT, None)])
        outer.node.append(node("If", "yes", f"o{depth}", then_branch=inner, else_branch=branch(f"e{depth}")))
        inner = outer
    nested = node("If", "yes", "x", then_branch=inner, else_branch=branch("other"))
    with pytest.raises(cl.ConvladderError, match="operators If"):
        cl.Classifier(write(tmp_path / "model.onnx", [TURN, nested], [YES]))


def test_sizes_of_pictures_out_of_range_are_refused(run: cl.Run, tmp_path: Path) -> None:
    for shape in ([0, 28, 1], [28, -1, 1], [10**6, 10**6, 3], [28, 28, 10**9]):
        model = onnx.load(run.path / "model.onnx")
        stored = json.loads(model.metadata_props[0].value) | {"input_shape": shape}
        helper.set_model_props(model, {"convladder": json.dumps(stored)})
        (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
        with pytest.raises(cl.ConvladderError, match="each at most 4,096"):
            cl.Classifier(tmp_path / "model.onnx")
