"""Quantization to 8 bits: kept if it is as accurate as the float network and faster, here; else refused."""

import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.artifact import describe
from convladder.classifier import IMAGES_A_BATCH, Classifier
from convladder.data.dataset import slices
from convladder.errors import ConvladderError
from convladder.exporting.onnx_file import convert, find_stages, write_sealed
from convladder.runs import Run, whole_file

CALIBRATION_IMAGES = 500
LARGEST_DROP = 0.001  # of validation accuracy
ROUNDS = 9
ROUNDS_TO_WIN = 8  # by chance in 2 of 100
SECONDS_A_ROUND = 0.1


def export_int8(run: Run, path: Path, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Quantize a run's model by its training images' ranges, weights by channel (Jacob et al. 2017, arXiv:1712.05877).

    Returns:
        `accuracy` and `float_accuracy` on the validation images; for `latency` of one image and `throughput` of a
        batch, in microseconds an image, the medians and the rounds of 9 in which the quantized one was faster.

    Raises:
        ConvladderError: It loses more than 0.1 points of accuracy, or is not faster in 8 of 9 alternated rounds, both
            one by one and in batches; exit status 3. There are no validation images.
    """
    data = run.load_dataset()
    if not len(data.validation):
        raise ConvladderError(f"{run.path} held out no validation images. Expected some, to judge what 8 bits lose.")
    model = run.load_model()
    stages = find_stages(model)
    kept = Classifier(run.path)
    calibration = data.train.images[:: max(1, len(data.train) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
    with whole_file(path) as temporary:
        graph = quantize(convert(model, stages), calibration)
        described = describe({**metadata, "quantized": "int8"}, version=__version__, stages=list(stages))
        write_sealed(graph, described, temporary)
        quantized = Classifier(temporary)
        account: dict[str, Any] = {
            "images": len(data.validation),
            "accuracy": _accuracy(quantized, data.validation.images, data.validation.labels),
            "float_accuracy": _accuracy(kept, data.validation.images, data.validation.labels),
        }
        for what, count in (("latency", 1), ("throughput", IMAGES_A_BATCH)):
            account[what] = compare_speed(quantized, kept, calibration[:count])
        slower = [what for what in ("latency", "throughput") if account[what]["rounds_won"] < ROUNDS_TO_WIN]
        drop = account["float_accuracy"] - account["accuracy"]
        if drop > LARGEST_DROP or slower:
            raise ConvladderError(
                f"Quantized, {run.path} is not better: {_tell(account)}. Expected at most {LARGEST_DROP * 100:.1f} "
                f"points less accuracy, and to be faster both ways in {ROUNDS_TO_WIN} of {ROUNDS} rounds, so nothing "
                "was written.",
                exit_status=3,
            )
    return account


def quantize(graph: Any, images: npt.NDArray[np.uint8]) -> Any:
    """Static quantization of an onnx.ModelProto by ONNX Runtime's own tools; the softmax stays in float."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._parts: Iterator[npt.NDArray[np.uint8]] = iter(slices(images))

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            part = next(self._parts, None)
            return None if part is None else {graph.graph.input[0].name: part.astype(np.float32)}

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, prepared, quantized = (Path(folder) / f"{name}.onnx" for name in ("whole", "prepared", "quantized"))
        onnx.save(graph, whole)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)  # folds batch normalization into convolutions
        quantize_static(
            prepared,
            quantized,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm", "MaxPool", "Relu", "Add", "Concat", "Reshape", "Transpose"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(quantized)


def compare_speed(one: Classifier, other: Classifier, images: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Microseconds an image of two classifiers in alternation: medians, ranges, and the rounds that `one` won."""
    repeats = max(1, round(SECONDS_A_ROUND / max(1e-6, _seconds(other, images, 3))))
    rounds = [(_seconds(one, images, repeats), _seconds(other, images, repeats)) for _ in range(ROUNDS)]
    microseconds = [[1e6 * seconds / len(images) for seconds in column] for column in zip(*rounds, strict=True)]
    named = zip(("microseconds", "float_microseconds"), microseconds, strict=True)
    return {
        name: {"median": statistics.median(values), "low": min(values), "high": max(values)} for name, values in named
    } | {"rounds": ROUNDS, "rounds_won": sum(first < second for first, second in rounds)}


def _seconds(classifier: Classifier, images: npt.NDArray[np.uint8], repeats: int) -> float:
    classifier.predict_probabilities(images)
    began = time.perf_counter()
    for _ in range(repeats):
        classifier.predict_probabilities(images)
    return (time.perf_counter() - began) / repeats


def _accuracy(classifier: Classifier, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> float:
    answered = np.concatenate([classifier.predict_probabilities(part).argmax(axis=1) for part in slices(images)])
    return float((answered == labels).mean())


def _tell(account: Mapping[str, Any]) -> str:
    told = [f"accuracy {account['accuracy']:.4f} for {account['float_accuracy']:.4f}"]
    for what, images in (("latency", "one image"), ("throughput", "a batch")):
        quantized, whole = account[what]["microseconds"], account[what]["float_microseconds"]
        told.append(
            f"{images} {quantized['median']:.1f} µs ({quantized['low']:.1f} to {quantized['high']:.1f}) an image for "
            f"{whole['median']:.1f} ({whole['low']:.1f} to {whole['high']:.1f}), faster in "
            f"{account[what]['rounds_won']} of {ROUNDS} rounds"
        )
    return "; ".join(told)
