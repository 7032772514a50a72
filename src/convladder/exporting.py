"""Export: from a Keras model to one .onnx file, through the parity gate."""

import re
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.artifact import METADATA_KEY, describe, seal
from convladder.classifier import Classifier
from convladder.data.dataset import slices
from convladder.parity import PARITY_IMAGES, check_answers
from convladder.runs import whole_file

PROBABILITIES = "probabilities"
STAGE = re.compile(r"(stage\d+|hidden\d*)(_|$)")


def export_onnx(
    model: keras.Model,
    path: Path,
    metadata: Mapping[str, Any],
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """Write a model as ONNX by Keras's own export, if ONNX Runtime answers as Keras does.

    Args:
        model: From pixels, shape (batch, height, width, channels), to probabilities.
        path: The file to write; it appears only when the gate has opened.
        metadata: Stored in the file; what Classifier reads: `class_names`, `input_shape`, `fit`, `temperature`,
            `threshold`. `format`, `version` and `stages` are added.
        images: At most the first 1,000 are compared.
        expected: What Keras answers for the images, shape (count, num_classes).

    Returns:
        The gate's account: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    import onnx

    stages = find_stages(model)
    with whole_file(path) as temporary:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf2onnx's own use of what NumPy and protobuf deprecate
            exported = Path(folder) / "model.onnx"
            with_stages(model, stages).export(exported, format="onnx", verbose=False)
            graph = onnx.load(exported)
        in_order = sorted(graph.graph.output, key=lambda output: [PROBABILITIES, *stages].index(output.name))
        in_order = [type(output).FromString(output.SerializeToString()) for output in in_order]
        del graph.graph.output[:]
        graph.graph.output.extend(in_order)
        described = describe(metadata, version=__version__, stages=list(stages))
        onnx.helper.set_model_props(graph, {METADATA_KEY: described})
        temporary.write_bytes(seal(graph.SerializeToString()))
        parity = check_parity(Classifier(temporary), images[:PARITY_IMAGES], expected[:PARITY_IMAGES])
    return parity


def find_stages(model: keras.Model) -> dict[str, Any]:
    """By the name of each stage, `stage1`, …, `hidden`, what its last layer gives; dropout, which is idle, apart."""
    stages: dict[str, Any] = {}
    for layer in model.layers:
        named = STAGE.match(layer.name)
        if named and not isinstance(layer, keras.layers.Dropout):
            stages[named[1]] = layer.output
    return stages


def with_stages(model: keras.Model, stages: Mapping[str, Any]) -> keras.Model:
    """The same network, called once, with an output for each stage beside the probabilities."""
    wide = keras.Model(model.inputs, {PROBABILITIES: model.outputs[0], **stages}, name=model.name)
    wide(np.zeros((1, *model.input_shape[1:]), np.float32))  # Keras exports only what was called
    return wide


def check_parity(
    classifier: Classifier, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """Compare a classifier's answers with the expected ones, or refuse it."""
    answered = np.concatenate([classifier.predict_probabilities(part) for part in slices(images)])
    return check_answers(answered, expected)
