"""Exports `transfer` and `finetune` with the backbone's own ONNX graph instead of Keras's export.

This takes a hundredth of the time, passes the same gate, and answers twice as fast as Keras.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import slices
from convladder.data.features import open_graph
from convladder.evaluating.calibration import SMALLEST
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting.familiarity import LAST
from convladder.models import backbone
from convladder.models.blocks import ALL_VIEWS, members

IMAGE, PROBABILITIES = "image", "probabilities"
FROM_THE_END = np.iinfo(np.int64).min  # end of a slice that runs backwards through everything


def convert_pretrained(model: keras.Model, stages: Sequence[str]) -> Any | None:
    """An onnx.ModelProto from images to the probabilities and the stages; None for other networks.

    Args:
        model: As `assemble` returns it.
        stages: The names that `find_stages` returns.
    """
    import onnx

    network = model
    if ALL_VIEWS in (layer.name for layer in model.layers):
        several = members(model)
        if len(several) != 1:
            return None
        network = several[0]
    weights = _read_weights(network)
    if weights is None:
        return None
    graph = onnx.ModelProto.FromString(backbone.build_graph(model.input_shape[1:]))
    for constant in graph.graph.initializer:
        if constant.name in weights:
            kernel = weights[constant.name]
            if kernel.ndim == 4:
                kernel = kernel.transpose((2, 3, 0, 1) if "depthwise" in constant.name else (3, 2, 0, 1))
            constant.raw_data = np.ascontiguousarray(kernel).tobytes()
    _Writer(graph.graph).complete(model, network, stages)
    onnx.checker.check_model(graph)
    return graph


def predict_quickly(model: keras.Model, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Like `predict_probabilities`, but with ONNX Runtime if the network is the embedded backbone with a head."""
    graph = convert_pretrained(model, ())
    if graph is None:
        return predict_probabilities(model, images)
    session = open_graph(graph.SerializeToString())
    answers = [session.run([PROBABILITIES], {IMAGE: part.astype(np.float32)})[0] for part in slices(images)]
    return np.concatenate(answers)


def _read_weights(network: keras.Model) -> Mapping[str, npt.NDArray[np.float32]] | None:
    """Weights by their embedded names; None if the network is not the embedded backbone with a head."""
    names = [layer.name for layer in network.layers]
    if names[-3:] != [backbone.FEATURES, "logits", "probabilities"]:
        return None
    weights = {
        f"{layer.name.partition('_')[2]}/{kind}": np.asarray(value, np.float32)
        for layer in network.layers[:-2]
        if layer.weights
        for kind, value in zip(("kernel", "bias"), layer.get_weights(), strict=False)
    }
    expected = backbone.read_weights()
    alike = weights.keys() == expected.keys() and all(weights[name].shape == expected[name].shape for name in expected)
    return weights if alike else None


class _Writer:
    """Adds nodes to a graph."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph

    def complete(self, model: keras.Model, network: keras.Model, stages: Sequence[str]) -> None:
        """Add the views before the backbone, and the head and the stages' outputs after it."""
        from onnx import TensorProto, helper

        views = 2 if network is not model else 1
        before = list(self._graph.node)
        del self._graph.node[:]
        self._graph.input[0].name = IMAGE
        seen = self._look_twice() if views == 2 else IMAGE
        before[0].input[0] = seen
        self._graph.node.extend(before)
        del self._graph.output[:]

        kernel, bias = (np.asarray(weight, np.float32) for weight in network.get_layer("logits").get_weights())
        logits = self._add(
            "Gemm", backbone.FEATURES, self._constant("logits/kernel", kernel), self._constant("b", bias)
        )
        answers = self._add("Softmax", logits, axis=-1)
        if views == 2:
            answers = self._add("ReduceMean", self._split(answers, [bias.size]), axes=[0], keepdims=0)
        temperature = next((layer for layer in model.layers if layer.name == "temperature"), None)
        if temperature is not None:
            floor = self._constant("smallest", np.array(SMALLEST, np.float32))
            logarithms = self._add("Log", self._add("Max", answers, floor))
            scale = self._constant("temperature", np.array(temperature.scale, np.float32))
            answers = self._add("Softmax", self._add("Mul", logarithms, scale), axis=-1)
        self._add("Identity", answers, name=PROBABILITIES)
        self._graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", bias.size]))
        for stage in stages:
            if stage == LAST:
                self._add_last(views)
                continue
            layer = [layer for layer in network.layers if layer.name.startswith(f"{stage}_")][-1]
            height, width, channels = layer.output.shape[1:]
            maps = layer.name.partition("_")[2]  # the tensor has the name of the layer
            if views == 2:
                maps = self._split(maps, [channels, height, width])
                maps = self._add("Gather", maps, self._constant(f"{stage}/first", np.array(0, np.int64)), axis=0)
            self._add("Transpose", maps, name=stage, perm=[0, 2, 3, 1])
            shape = ["batch", height, width, channels]
            self._graph.output.append(helper.make_tensor_value_info(stage, TensorProto.FLOAT, shape))

    def _add_last(self, views: int) -> None:
        """The features of the unchanged pictures as an output."""
        from onnx import TensorProto, helper

        if views == 2:
            features = self._split(backbone.FEATURES, [backbone.NUM_FEATURES])
            self._add("Gather", features, self._constant(f"{LAST}/first", np.array(0, np.int64)), name=LAST, axis=0)
        else:
            self._add("Identity", backbone.FEATURES, name=LAST)
        shape = ["batch", backbone.NUM_FEATURES]
        self._graph.output.append(helper.make_tensor_value_info(LAST, TensorProto.FLOAT, shape))

    def _look_twice(self) -> str:
        """The images, followed by their mirror images."""
        ends = [
            self._constant(f"mirror/{n}", np.array([v])) for n, v in zip("seax", (-1, FROM_THE_END, 2, -1), strict=True)
        ]
        return self._add("Concat", IMAGE, self._add("Slice", IMAGE, *ends), axis=0)

    def _split(self, x: str, shape: list[int]) -> str:
        """From a batch of both views to (2, batch, …)."""
        return self._add("Reshape", x, self._constant(f"{x}/shape", np.array([2, -1, *shape])))

    def _constant(self, name: str, value: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = name or f"{kind.lower()}_{len(self._graph.node)}"
        self._graph.node.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name
