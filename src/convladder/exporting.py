"""Export: from a Keras model to one .onnx file, through the parity gate."""

import json
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.classifier import METADATA_KEY, Classifier
from convladder.data.dataset import slices
from convladder.errors import ConvladderError
from convladder.runs import whole_file

LARGEST_DIFFERENCE = 1e-4
PARITY_IMAGES = 1000


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
        metadata: Stored in the file; what Classifier reads: `class_names`, `input_shape`, `fit`.
        images: At most the first 1,000 are compared.
        expected: What Keras answers for the images, shape (count, num_classes).

    Returns:
        The gate's account: `images`, `largest_difference`, `label_flips`.

    Raises:
        ConvladderError: A probability differs by more than 1e-4, or a label flips; exit status 3.
    """
    import onnx

    with whole_file(path) as temporary:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf2onnx's own use of what NumPy and protobuf deprecate
            exported = Path(folder) / "model.onnx"
            model.export(exported, format="onnx", verbose=False)
            graph = onnx.load(exported)
        onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(dict(metadata))})
        onnx.save(graph, temporary)
        parity = check_parity(Classifier(temporary), images[:PARITY_IMAGES], expected[:PARITY_IMAGES])
    return parity


def check_parity(
    classifier: Classifier, images: npt.NDArray[np.uint8], expected: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """Compare a classifier's answers with the expected ones, or refuse it."""
    answered = np.concatenate([classifier.predict_probabilities(part) for part in slices(images)])
    difference = float(np.abs(answered - expected).max())
    flips = int((answered.argmax(axis=1) != expected.argmax(axis=1)).sum())
    if not difference <= LARGEST_DIFFERENCE or flips:
        raise ConvladderError(
            f"The exported model differs from Keras by up to {difference:.1e} and flips {flips} of {len(images)} "
            f"labels. Expected at most {LARGEST_DIFFERENCE:.0e} and none, so nothing was written.",
            exit_status=3,
        )
    return {"images": len(images), "largest_difference": difference, "label_flips": flips}
