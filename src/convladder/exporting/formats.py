"""Export formats: each is written by its own library, and tested with its own runtime in the parity gate."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.errors import ConvladderError, check_choice
from convladder.evaluating.familiarity import read_familiarity
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting.onnx_file import convert, export_onnx, find_stages, with_stages
from convladder.exporting.parity import Predict, check_parity, parity_images
from convladder.exporting.pretrained import PROBABILITIES
from convladder.exporting.triton import export_triton
from convladder.files import whole_folder
from convladder.inference.classifier import Classifier
from convladder.runs.run import FAMILIARITY_FILE, Run

METADATA_FILE = "convladder.json"  # beside the model, in formats that are folders

# A hint for OpenVINO, also stored in that file. By default it uses bfloat16 if the processor can, and errs by 1e-2.
COMPILE = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True)
class Format:
    """How to export a run as a folder.

    Attributes:
        write: Writes the files of a Keras model into an empty folder.
        load: From that folder to a function from pixels to probabilities, as a user would load it.
        runtime: The module that runs it.
        extra: The extra of convladder that installs the runtime.
        told: What convladder.json says in addition to the .onnx file's description.
    """

    write: Callable[[keras.Model, Path], None]
    load: Callable[[Path], Predict]
    runtime: str
    extra: str
    told: Mapping[str, Any] = field(default_factory=dict)


def export(run: Run, format: str = "onnx", output: str | Path | None = None, *, int8: bool = False) -> dict[str, Any]:
    """Write a run's model in a format, if the format's own runtime agrees with Keras.

    Args:
        run: A finished run; its data must still be in place.
        format: "onnx" is a file. "openvino", "litert" and "savedmodel" are folders that also hold convladder.json:
            class names, input size and the rest of the .onnx file's description. "triton" is a model repository, in
            which the run becomes a model, or a further version of the one that has its name.
        output: File or folder to write; by default `model.onnx`, `model-int8.onnx` or `model.FORMAT` in the run.
        int8: Whether to quantize to 8 bits ("onnx" only). The result is kept if it is as accurate and faster.

    Returns:
        `format`, `path`, and the result of the gate: `images`, `largest_difference`, `label_flips`; for int8, the
        accuracies and speeds.

    Raises:
        ConvladderError: A gate refused, exit status 3; the runtime is missing, exit status 1; the data are gone.
    """
    check_choice("format", format, FORMATS)
    if int8 and format != "onnx":
        raise ConvladderError(f"--int8 is not possible with --format {format}. Expected --format onnx.")
    name = "model-int8.onnx" if int8 else "model.onnx" if format == "onnx" else f"model.{format}"
    path = run.path / name if output is None else Path(output)
    metadata = Classifier(run.path).metadata
    chosen = FORMATS[format]
    if chosen:
        _import_runtime(chosen)
    if format != "onnx":
        _check_name(path)
    if int8:
        from convladder.exporting.int8 import export_int8

        return {"format": format, "path": str(path)} | export_int8(run, path, metadata)
    model, images = run.load_model(), parity_images(run.load_dataset())
    expected = predict_probabilities(model, images)
    if format == "triton":
        return {"format": format} | export_triton(run, path, metadata, model, images, expected)
    if not chosen:
        familiarity = read_familiarity(run.path / FAMILIARITY_FILE)
        account = export_onnx(model, path, metadata, images, expected, familiarity)
    else:
        account = _export_folder(chosen, model, path, metadata, images, expected)
    return {"format": format, "path": str(path)} | account


def _export_folder(
    chosen: Format,
    model: keras.Model,
    path: Path,
    metadata: Mapping[str, Any],
    images: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.float32],
) -> dict[str, Any]:
    with whole_folder(path, METADATA_FILE) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the converters
        chosen.write(model, folder)
        told = {key: value for key, value in metadata.items() if key != "digest"}
        told |= {"version": __version__, "stages": list(find_stages(model)), **chosen.told}
        (folder / METADATA_FILE).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        return check_parity(chosen.load(folder), images, expected)


def _import_runtime(chosen: Format) -> None:
    try:
        import_openvino() if chosen.runtime == "openvino" else import_module(chosen.runtime)
    except ModuleNotFoundError as error:
        raise ConvladderError(
            f"{error.name} is not installed. Run: pip install 'convladder[{chosen.extra}]'", exit_status=1
        ) from error


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry package, which reports the import to Intel and has no off switch."""
    if loaded := sys.modules.get("openvino"):
        return loaded
    reporter = sys.modules.get("openvino_telemetry")
    # None makes its import fail; OpenVINO then uses a stub.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]
        if reporter is not None:
            sys.modules["openvino_telemetry"] = reporter


def _check_name(path: Path) -> None:
    if str(path) != os.fsencode(path).decode(errors="replace"):
        raise ConvladderError(
            f"{path} is not UTF-8, which this format needs for file names. Expected --output with another name."
        )


def _write_openvino(model: keras.Model, folder: Path) -> None:
    import onnx

    openvino = import_openvino()
    onnx.save(convert(model, find_stages(model)), folder / "model.onnx")
    # Not convert_model, because it reports each call to Intel.
    converted = openvino.Core().read_model(folder / "model.onnx")
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    (folder / "model.onnx").unlink()


def _load_openvino(folder: Path) -> Predict:
    compiled = import_openvino().Core().compile_model(folder / "model.xml", "CPU", COMPILE)
    return lambda images: np.asarray(compiled(images.astype(np.float32))[PROBABILITIES])


def _write_litert(model: keras.Model, folder: Path) -> None:
    with_stages(model, find_stages(model)).export(str(folder / "model.tflite"), format="litert", verbose=False)


def _load_litert(folder: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    signature = Interpreter(str(folder / "model.tflite")).get_signature_runner()
    (name,) = signature.get_input_details()
    return lambda images: signature(**{name: images.astype(np.float32)})[PROBABILITIES]


def _write_savedmodel(model: keras.Model, folder: Path) -> None:
    with_stages(model, find_stages(model)).export(str(folder), format="tf_saved_model", verbose=False)


def _load_savedmodel(folder: Path) -> Predict:
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    return lambda images: loaded.serve(images.astype(np.float32))[PROBABILITIES].numpy()


# The first is a file that Classifier runs, with a runtime that is always installed, and triton folders around it; the
# others are folders.
FORMATS: Mapping[str, Format | None] = {
    "onnx": None,
    "openvino": Format(_write_openvino, _load_openvino, "openvino", "openvino", {"compile": COMPILE}),
    "litert": Format(_write_litert, _load_litert, "ai_edge_litert", "litert"),
    "savedmodel": Format(_write_savedmodel, _load_savedmodel, "tensorflow", "train"),
    "triton": None,
}
