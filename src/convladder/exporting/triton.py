"""A model repository for Triton: one folder for each model, with its configuration and a folder for each version.

Facts about config.pbtxt from Triton's user guide (model_configuration.md) and from what its ONNX Runtime backend
compares when it loads a model (onnxruntime.cc, CompareDimsSupported): names, types, and shapes after the batch.
"""

import json
import reprlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import onnxruntime

from convladder import __version__
from convladder.errors import ConvladderError
from convladder.evaluating.familiarity import read_familiarity
from convladder.exporting.onnx_file import convert_familiar, find_stages, write_sealed
from convladder.exporting.parity import check_parity
from convladder.files import whole_folder
from convladder.inference.artifact import write_metadata
from convladder.inference.classifier import IMAGES_A_BATCH, PLACES_A_BATCH, Classifier
from convladder.markup import printable
from convladder.runs.run import FAMILIARITY_FILE, Run

MARK = "convladder.json"  # with the description; a folder without it was not written here
CONFIG, LABELS, MODEL = "config.pbtxt", "labels.txt", "model.onnx"
TYPES = {"tensor(float)": "TYPE_FP32"}


def export_triton(
    run: Run,
    repository: Path,
    metadata: Mapping[str, Any],
    model: keras.Model,
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.float32],
) -> dict[str, Any]:
    """Write a run's model into a repository, under the name of its folder, if ONNX Runtime agrees with Keras.

    A model that is there already gets another version. Its configuration stays, because it may have been edited.

    Args:
        run: A finished run.
        repository: The folder of all models; it may exist.
        metadata: The description of the .onnx file.
        model: The run's model.
        images: The images to compare.
        expected: Keras's answers for them.

    Returns:
        `path` and `version` of what was written, and the result of the gate.

    Raises:
        ConvladderError: The gate refused, exit status 3; the model that is there takes or gives something else.
    """
    folder = repository / printable(run.path.resolve().name)
    with whole_folder(folder, MARK) as written:
        if folder.exists():
            shutil.copytree(folder, written, symlinks=True, dirs_exist_ok=True)
        before = sorted(int(path.name) for path in written.iterdir() if path.name.isdecimal() and path.name[0] != "0")
        version = before[-1] + 1 if before else 1
        file = written / str(version) / MODEL
        file.parent.mkdir()
        stages = find_stages(model)
        graph = convert_familiar(model, stages, read_familiarity(run.path / FAMILIARITY_FILE))
        del graph.graph.output[len(graph.graph.output) - len(stages) :]  # which Triton would compute for every request
        write_sealed(graph, write_metadata(metadata, version=__version__, stages=[]), file)
        classifier = Classifier(file, any_cost=True)
        account = check_parity(classifier.predict_probabilities, images, expected)
        if before:
            _check_same(folder, Classifier(folder / str(before[-1]) / MODEL, any_cost=True), classifier)
        else:
            (written / CONFIG).write_text(describe(file), encoding="utf-8")
            labels = "".join(f"{printable(name)}\n" for name in classifier.class_names)
            (written / LABELS).write_text(labels, encoding="utf-8")
        (written / MARK).write_text(json.dumps(classifier.metadata, indent=2) + "\n", encoding="utf-8")
    return {"path": str(folder), "version": version} | account


def describe(file: Path) -> str:
    """The configuration of an .onnx file: what ONNX Runtime says that it takes and gives."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    height, width = image.shape[1:3]
    outputs, separator = [], ",\n"
    for number, output in enumerate(session.get_outputs()):
        labels = f'\n    label_filename: "{LABELS}"' if number == 0 else ""
        outputs.append(_tensor(output.name, output.type, output.shape, labels))
    return f"""\
# Pixels of 0 to 255, decoded and resized as `convladder.Classifier.decode` does; all else is in the model.
backend: "onnxruntime"
max_batch_size: {max(1, min(IMAGES_A_BATCH, PLACES_A_BATCH // (height * width)))}
input [
{_tensor(image.name, image.type, image.shape)}
]
output [
{separator.join(outputs)}
]
dynamic_batching {{ }}
# The processor is where the model was compared with Keras. KIND_GPU may round differently.
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


def _tensor(name: str, kind: str, shape: Sequence[int | str], more: str = "") -> str:
    """An input or output. One number an image, whose shape is that of the batch, must be given a side."""
    batch, *sides = shape
    if isinstance(batch, int):
        raise ConvladderError(f"{name} has a batch of {batch}. Expected one of any size.", exit_status=1)
    dims = f"dims: [ {', '.join(map(str, sides))} ]" if sides else "dims: [ 1 ]\n    reshape: { shape: [ ] }"
    return f'  {{\n    name: "{name}"\n    data_type: {TYPES[kind]}\n    {dims}{more}\n  }}'


def _check_same(folder: Path, former: Classifier, new: Classifier) -> None:
    """Refuse a version that clients and the configuration would take for one with other classes, shapes or outputs."""
    for what, was, now in (
        ("classes", former.class_names, new.class_names),
        ("input shape", former.input_shape, new.input_shape),
        ("resizing", former.resize, new.resize),
        ("outputs", former.outputs, new.outputs),
    ):
        if was != now:
            raise ConvladderError(
                f"{folder} holds a model with other {what}: {reprlib.repr(was)}, and now {reprlib.repr(now)}. Expected "
                "the same for a new version: name another repository by --output."
            )
