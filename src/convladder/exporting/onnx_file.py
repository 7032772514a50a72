"""The .onnx file: Keras's export with a description, a digest, the familiarity, and the feature maps of each stage."""

import logging
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.evaluating.familiarity import Familiarity
from convladder.exporting.familiarity import LAST, answer_familiarity, find_last
from convladder.exporting.parity import check_parity
from convladder.exporting.pretrained import PROBABILITIES, convert_pretrained
from convladder.files import scratch_folder, whole_file
from convladder.inference.artifact import METADATA_KEY, seal, write_metadata
from convladder.inference.classifier import Classifier
from convladder.models.blocks import ALL_VIEWS, members, settle
from convladder.models.own_layers import FirstView

STAGE = re.compile(r"(stage\d+|hidden\d*)(_|$)")


def export_onnx(
    model: keras.Model,
    path: Path,
    metadata: Mapping[str, Any],
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.float32],
    familiarity: Familiarity | None = None,
) -> dict[str, Any]:
    """Write a model as ONNX with Keras's export, if ONNX Runtime agrees with Keras.

    Args:
        model: From pixels, shape (batch, height, width, channels), to probabilities.
        path: The file to write. It appears only if the gate passes.
        metadata: The description that Classifier reads: `class_names`, `input_shape`, `fit`, `temperature`,
            `threshold`. `format`, `version` and `stages` are added.
        images: The images to compare; `parity_images` chooses them.
        expected: Keras's answers for the images, shape (count, num_classes).
        familiarity: What its training pictures are like; without it the file does not tell strange pictures.

    Returns:
        The result of the gate: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    stages = find_stages(model)
    with whole_file(path) as temporary:
        graph = convert_familiar(model, stages, familiarity)
        described = write_metadata(metadata, version=__version__, stages=list(stages))
        write_sealed(graph, described, temporary)
        return check_parity(Classifier(temporary, any_cost=True).predict_probabilities, images, expected)


def convert_familiar(
    model: keras.Model,
    stages: Mapping[str, Any],
    familiarity: Familiarity | None,
    change: Callable[[Any], Any] = lambda graph: graph,
) -> Any:
    """Like `convert`, with the output `familiarity` after the probabilities.

    Args:
        model: The network.
        stages: As `find_stages` returns them.
        familiarity: Without it there is no such output.
        change: What is done to the network before.
    """
    if familiarity is None:
        return change(convert(model, stages))
    graph = change(convert(model, find_stages(model, last=True)))
    answer_familiarity(graph, familiarity, [LAST, *stages][: len(familiarity.places)])
    return graph


def convert(model: keras.Model, stages: Mapping[str, Any]) -> Any:
    """An onnx.ModelProto. Its outputs are the probabilities, then the stages in order."""
    import onnx

    graph = convert_pretrained(model, list(stages))
    if graph is not None:
        return graph
    graph = export_graph(with_stages(model, stages))
    by_name = {output.name: onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in graph.graph.output}
    del graph.graph.output[:]
    graph.graph.output.extend(by_name[name] for name in (PROBABILITIES, *stages))
    return graph


def export_graph(model: keras.Model) -> Any:
    """Keras's export of a model that has been called, as an onnx.ModelProto."""
    import onnx

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # it prints a traceback for each simplification it skips
    with scratch_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tf2onnx uses deprecated parts of NumPy and protobuf
        exported = folder / "model.onnx"
        settle(model)
        model.export(exported, format="onnx", verbose=False)
        return onnx.load(exported)


def write_sealed(graph: Any, described: str, path: Path) -> None:
    """Write an onnx.ModelProto with its description and its digest."""
    import onnx

    onnx.helper.set_model_props(graph, {METADATA_KEY: described})
    path.write_bytes(seal(graph.SerializeToString()))


def find_stages(model: keras.Model, *, last: bool = False) -> dict[str, Any]:
    """From the name of each stage, `stage1`, …, `hidden`, to the output of its last layer, without idle dropout.

    For a mean over several networks or views: the stages of the first network, on the unchanged picture. With `last`,
    what `find_last` finds comes before them.
    """
    for member in members(model)[:1]:
        found = find_stages(member, last=last)
        return _first_views(model, keras.Model(member.inputs[0], found)) if found else {}
    stages: dict[str, Any] = {LAST: find_last(model)} if last else {}
    for layer in model.layers:
        named = STAGE.match(layer.name)
        if named and not isinstance(layer, keras.layers.Dropout):
            stages[named[1]] = layer.output
    return stages


def _first_views(model: keras.Model, member: keras.Model) -> dict[str, Any]:
    """The outputs of an averaged network for the unchanged pictures, from its one call on all views."""
    seen = next((layer.output for layer in model.layers if layer.name == ALL_VIEWS), None)
    if seen is None:
        return dict(member(model.inputs[0]))
    count = len(model.get_layer(ALL_VIEWS).input)
    return {name: FirstView(count, name=f"{name}_first_view")(stage) for name, stage in member(seen).items()}


def with_stages(model: keras.Model, stages: Mapping[str, Any]) -> keras.Model:
    """The same network with an output for each stage besides the probabilities. It is called once."""
    wide = keras.Model(model.inputs[0], {PROBABILITIES: model.outputs[0], **stages}, name=model.name)
    wide(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only models that were called
    return wide
