"""Quantization to 8 bits: refused unless it is as accurate as the float network, and faster on this machine."""

import statistics
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.data.dataset import Dataset, slices
from convladder.errors import ConvladderError
from convladder.evaluating.familiarity import read_familiarity
from convladder.exporting.onnx_file import convert_familiar, find_stages, write_sealed
from convladder.exporting.parity import first_images
from convladder.files import scratch_folder, whole_file
from convladder.inference.artifact import write_metadata
from convladder.inference.classifier import IMAGES_A_BATCH, Classifier
from convladder.runs.run import FAMILIARITY_FILE, Run

CALIBRATION_IMAGES = 500
LARGEST_DROP = 0.001  # of validation accuracy
JUDGED_IMAGES = round(1 / LARGEST_DROP)  # with fewer labels, one image of chance would exceed the drop
TIMED_ROUNDS = 9
ROUNDS_TO_WIN = 8  # chance wins as many in 2 of 100 cases
SECONDS_A_ROUND = 0.1


def export_int8(run: Run, path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Quantize a run's model: activation ranges from training images, weights per channel (arXiv:1712.05877).

    Returns:
        `accuracy` and `float_accuracy` on the `images` that `compare_accuracy` chooses, and `judged_by` which labels.
        For `latency` (one image) and `throughput` (a batch), in microseconds per image: the medians, and in how many
        of 9 rounds the quantized model was faster.

    Raises:
        ConvladderError: It loses more than 0.1 points of accuracy, or is not faster in 8 of 9 alternating rounds, both
            for single images and for batches; exit status 3.
    """
    data = run.load_dataset()
    model = run.load_model()
    stages = find_stages(model)
    kept = Classifier(run.path)
    calibration = data.train.images[:: max(1, len(data.train) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
    with whole_file(path) as temporary:
        familiarity = read_familiarity(run.path / FAMILIARITY_FILE)
        graph = convert_familiar(model, stages, familiarity, lambda whole: quantize(whole, calibration))
        described = write_metadata({**metadata, "quantized": "int8"}, version=__version__, stages=list(stages))
        write_sealed(graph, described, temporary)
        quantized = Classifier(temporary)
        account = compare_accuracy(quantized, kept, data)
        for what, count in (("latency", 1), ("throughput", IMAGES_A_BATCH)):
            account[what] = compare_speed(quantized, kept, calibration[:count])
        slower = [what for what in ("latency", "throughput") if account[what]["rounds_won"] < ROUNDS_TO_WIN]
        drop = account["float_accuracy"] - account["accuracy"]
        if drop > LARGEST_DROP or slower:
            raise ConvladderError(
                f"Quantizing {run.path} does not pay: {_tell(account)}. Expected at most {LARGEST_DROP * 100:.1f} "
                f"points less accuracy, and both times faster in {ROUNDS_TO_WIN} of {TIMED_ROUNDS} rounds, so "
                "nothing was written.",
                exit_status=3,
            )
    return account


def quantize(graph: Any, images: npt.NDArray[np.uint8]) -> Any:
    """Static quantization of an onnx.ModelProto with ONNX Runtime's tools. The last layer stays in float.

    An activation is quantized together with the convolution before it, so that the 256 steps cover only its range.
    Without `Clip`, the backbone's ReLU6, 1 of 140 answers changed; with it, none.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._parts: Iterator[npt.NDArray[np.uint8]] = iter(slices(images))

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            part = next(self._parts, None)
            return None if part is None else {graph.graph.input[0].name: part.astype(np.float32)}

    with scratch_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, prepared, quantized = (folder / f"{name}.onnx" for name in ("whole", "prepared", "quantized"))
        onnx.save(graph, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # folds batch normalization into the convolutions
        products = [node.name for node in onnx.load(prepared).graph.node if node.op_type in ("Gemm", "MatMul")]
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "MaxPool", "Relu", "Clip", "Add"],
            nodes_to_exclude=products[-1:],  # the layer that the softmax reads
            per_channel=True,
            reduce_range=True,  # 7 bits, because sums of two 8-bit products overflow on processors without VNNI
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantized)


def compare_speed(one: Classifier, other: Classifier, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Microseconds per image of two classifiers, in alternation: medians, ranges, and the rounds that `one` won."""
    repeats = max(1, round(SECONDS_A_ROUND / max(1e-6, _seconds(other, images, 3))))
    rounds = [(_seconds(one, images, repeats), _seconds(other, images, repeats)) for _ in range(TIMED_ROUNDS)]
    microseconds = [[1e6 * seconds / len(images) for seconds in column] for column in zip(*rounds, strict=True)]
    named = zip(("microseconds", "float_microseconds"), microseconds, strict=True)
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)} for name, values in named
    } | {"rounds": TIMED_ROUNDS, "rounds_won": sum(first < second for first, second in rounds)}


def _seconds(classifier: Classifier, images: npt.NDArray[np.uint8], repeats: int) -> float:
    classifier.predict_probabilities(images)
    began = time.perf_counter()
    for _ in range(repeats):
        classifier.predict_probabilities(images)
    return (time.perf_counter() - began) / repeats


def compare_accuracy(quantized: Classifier, kept: Classifier, data: Dataset) -> dict[str, Any]:
    """The accuracy that 8 bits cost, on labelled validation images if there are enough of them.

    Otherwise on up to 1,000 images, first of the test, without labels. Where the two networks disagree, the calibrated
    probabilities of the float network say how often each is right: 0.48 instead of 0.52 costs 4 % of an image.
    """
    if len(data.validation) >= JUDGED_IMAGES:
        images, labels = data.validation.images, data.validation.labels
        right, float_right = (_predict(one, images).argmax(axis=1) == labels for one in (quantized, kept))
        judged_by = "labels of validation images"
    else:
        images = first_images(data, JUDGED_IMAGES)
        probabilities = _predict(kept, images)
        answers = _predict(quantized, images).argmax(axis=1)
        right, float_right = probabilities[np.arange(len(images)), answers], probabilities.max(axis=1)
        judged_by = "probabilities of the float network"
    return {
        "images": len(images),
        "judged_by": judged_by,
        "accuracy": float(right.mean()),
        "float_accuracy": float(float_right.mean()),
    }


def _predict(classifier: Classifier, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.concatenate([classifier.predict_probabilities(part) for part in slices(images)])


def _tell(account: Mapping[str, Any]) -> str:
    told = [f"accuracy {account['accuracy']:.4f} instead of {account['float_accuracy']:.4f}, by {account['judged_by']}"]
    for what, images in (("latency", "one image"), ("throughput", "a batch")):
        quantized, whole = account[what]["microseconds"], account[what]["float_microseconds"]
        told.append(
            f"{images}: {quantized['median']:.1f} µs per image ({quantized['low']:.1f} to {quantized['high']:.1f}), "
            f"was {whole['median']:.1f} ({whole['low']:.1f} to {whole['high']:.1f}), faster in "
            f"{account[what]['rounds_won']} of {TIMED_ROUNDS} rounds"
        )
    return "; ".join(told)
