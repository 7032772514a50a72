"""The pretrained backbone: EfficientNet-Lite0, whose weights come with the package.

Tan and Le 2019, arXiv:1905.11946. The Lite variant has no squeeze-and-excitation, and ReLU6 instead of swish, so it is
fast everywhere and can be quantized. It was trained on ImageNet; batch normalization is folded into the kernels.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import keras

BACKBONE = "efficientnet-lite0"
PRETRAINED = ("transfer", "finetune")  # rungs that start from these weights, with the same scaling of pixels
SIDE = 224  # pixels: the size that it was trained for
SMALLEST_SIDE = 96  # pixels: smaller images are enlarged inside the model
STEM_FILTERS = 32
NUM_FEATURES = 1280
NUM_PARAMETERS = 3_350_000
FEATURES = "features"  # the name of the output layer
EXPANSION = 6  # factor of a block's channels before its depthwise convolution
OPSET, IR_VERSION = 17, 8  # of the ONNX graph

# Each stage: number of blocks, kernel size, stride of the first block, output channels.
STAGES = ((1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320))


@dataclass(frozen=True)
class Block:
    """An inverted residual block: 1×1 expansion, depthwise convolution, 1×1 projection.

    Attributes:
        name: "block01" to "block16".
        stage: Number from 1 for the layers' names; a new stage begins where the sides are halved.
        kernel_size: Kernel size of the depthwise convolution.
        stride: Stride of the depthwise convolution.
        expansion: Factor of the input channels; 1 means no expansion.
        filters: Output channels.
    """

    name: str
    stage: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int


def list_blocks() -> Iterator[Block]:
    """The 16 blocks, in order."""
    number, stage = 0, 1
    for repeats, kernel_size, first_stride, filters in STAGES:
        for repeat in range(repeats):
            number += 1
            stride = first_stride if repeat == 0 else 1
            stage += stride == 2
            yield Block(f"block{number:02}", stage, kernel_size, stride, 1 if number == 1 else EXPANSION, filters)


def enlarged(height: int, width: int) -> tuple[int, int]:
    """The size at which the backbone sees images: their own, or a larger one if that is too small."""
    factor = max(1.0, SMALLEST_SIDE / min(height, width))
    return round(factor * height), round(factor * width)


def build_features(pixels: Any) -> Any:
    """Build the layers from pixels to features, for a linear head.

    The layers do not have the embedded weights yet: `load_weights` loads them.

    Args:
        pixels: A Keras tensor of shape (batch, height, width, channels), range 0–255; 1 or 3 channels.

    Returns:
        Shape (batch, 1280): the mean over all positions of the last convolution.
    """
    from keras import layers

    def convolve(x: Any, filters: int, kernel_size: int, stride: int, name: str) -> Any:
        x = layers.Conv2D(filters, kernel_size, stride, "same", name=name)(x)
        return layers.ReLU(6, name=f"{name}_relu")(x)

    height, width, channels = pixels.shape[1:]
    x = layers.Concatenate(name="gray_to_colors")([pixels] * 3) if channels == 1 else pixels
    if enlarged(height, width) != (height, width):
        x = layers.Resizing(*enlarged(height, width), name="enlarge")(x)
    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale")(x)
    x = convolve(x, STEM_FILTERS, 3, 2, "stage1_stem")
    for block in list_blocks():
        name, shortcut = f"stage{block.stage}_{block.name}", x
        if block.expansion > 1:
            x = convolve(x, block.expansion * x.shape[-1], 1, 1, f"{name}_expand")
        x = layers.DepthwiseConv2D(block.kernel_size, block.stride, "same", name=f"{name}_depthwise")(x)
        x = layers.ReLU(6, name=f"{name}_depthwise_relu")(x)
        x = layers.Conv2D(block.filters, 1, name=f"{name}_project")(x)
        if block.stride == 1 and shortcut.shape[-1] == block.filters:
            x = layers.Add(name=f"{name}_add")([shortcut, x])
    x = convolve(x, NUM_FEATURES, 1, 1, "stage6_head")
    return layers.GlobalAveragePooling2D(name=FEATURES)(x)


def load_weights(model: "keras.Model") -> None:
    """Load the embedded weights into the layers that `build_features` made."""
    weights = read_weights()
    for layer in model.layers:
        _, _, name = layer.name.partition("_")  # "stage2_block02_expand"
        if f"{name}/kernel" in weights:
            layer.set_weights([weights[f"{name}/kernel"], weights[f"{name}/bias"]])


def build_graph(input_shape: tuple[int, int, int]) -> bytes:
    """The same network as an ONNX model from `pixels`, float32 (batch, height, width, channels), to `features`.

    Args:
        input_shape: Height, width and channels.
    """
    graph = _Graph()
    x = _add_input(graph, input_shape)
    x = graph.convolve(x, "stem", 2)
    filters = STEM_FILTERS
    for block in list_blocks():
        shortcut = x
        if block.expansion > 1:
            x = graph.convolve(x, f"{block.name}_expand", 1)
        x = graph.convolve(x, f"{block.name}_depthwise", block.stride, groups=block.expansion * filters)
        x = graph.convolve(x, f"{block.name}_project", 1, activate=False)
        if block.stride == 1 and block.filters == filters:
            x = graph.add("Add", [shortcut, x], f"{block.name}_add")
        filters = block.filters
    x = graph.add("GlobalAveragePool", [graph.convolve(x, "head", 1)], "mean_over_places")
    graph.add("Flatten", [x], FEATURES)
    return graph.serialize(input_shape)


class _Graph:
    """The nodes and constants of an ONNX graph, in the order in which they are added."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant; give back its name."""
        from onnx import numpy_helper

        self._constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node; give back its name, which is that of its output too."""
        from onnx import helper

        self._nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolve(self, x: str, name: str, stride: int, *, groups: int = 1, activate: bool = True) -> str:
        """Add a convolution with the package's weights, and a ReLU6 after it."""
        weights = read_weights()
        # From (height, width, in, out) to ONNX's (out, in, height, width); a depthwise kernel has one channel in.
        kernel = weights[f"{name}/kernel"].transpose((3, 2, 0, 1) if groups == 1 else (2, 3, 0, 1))
        bias = weights[f"{name}/bias"]
        inputs = [x, self.constant(f"{name}/kernel", kernel), self.constant(f"{name}/bias", bias)]
        x = self.add("Conv", inputs, name, strides=[stride, stride], group=groups, auto_pad="SAME_UPPER")
        return self.add("Clip", [x, "zero", "six"], f"{name}_relu") if activate else x

    def serialize(self, input_shape: tuple[int, int, int]) -> bytes:
        """The whole model, from `pixels` to `features`."""
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            self._nodes,
            BACKBONE,
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", *input_shape])],
            [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", NUM_FEATURES])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        content: bytes = model.SerializeToString()
        return content


def _add_input(graph: _Graph, input_shape: tuple[int, int, int]) -> str:
    """Add what makes of `pixels` what the first convolution takes."""
    height, width, channels = input_shape
    graph.constant("zero", np.array(0, np.float32))
    graph.constant("six", np.array(6, np.float32))
    x = graph.add("Transpose", ["pixels"], "channels_first", perm=[0, 3, 1, 2])
    if channels == 1:
        x = graph.add("Concat", [x] * 3, "gray_to_colors", axis=1)
    if enlarged(height, width) != (height, width):
        ratios = np.divide(enlarged(height, width), (height, width))
        sizes = graph.constant("ratios", np.array([1, 1, *ratios], np.float32))
        x = graph.add("Resize", [x, "", sizes], "enlarge", mode="linear", coordinate_transformation_mode="half_pixel")
    x = graph.add("Sub", [x, graph.constant("mean", np.array(127, np.float32))], "centered")
    return graph.add("Mul", [x, graph.constant("scale", np.array(1 / 128, np.float32))], "rescale")


@cache
def read_weights() -> Mapping[str, npt.NDArray[np.float32]]:
    """Weights by "block02_expand/kernel" and "/bias": (height, width, in, out), depthwise (height, width, in, 1)."""
    with np.load(Path(str(files("convladder.models") / f"{BACKBONE}.npz")), allow_pickle=False) as archive:
        return {name: archive[name].astype(np.float32) for name in archive.files}
