"""Scoring: fitted networks become one model; it is scored, written into the run folder and exported."""

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convladder.data.dataset import Dataset
from convladder.data.leaks import leaked
from convladder.errors import ConvladderError
from convladder.evaluating.calibration import choose_threshold, reliability, temper
from convladder.evaluating.familiarity import write_familiarity
from convladder.evaluating.learned import beside_constant
from convladder.evaluating.metrics import describe_predictions, predict_probabilities, without
from convladder.exporting.onnx_file import export_onnx
from convladder.exporting.parity import check_agreement, parity_images
from convladder.exporting.pretrained import predict_quickly
from convladder.files import scratch_folder, whole_file, write_arrays, write_csv, write_json
from convladder.runs.examples import choose_examples
from convladder.runs.run import FAMILIARITY_FILE, LEARNED, embedded_name
from convladder.training.assembling import Answers, Calibration, calibrate
from convladder.training.familiarizing import familiarize, measure_test


def write_results(
    folder: Path,
    members: Sequence[keras.Model],
    history: Sequence[Mapping[str, float]],
    views: str,
    data: Dataset,
    answers: Answers | None,
) -> dict[str, Any]:
    """Write weights, metrics, predictions and the exported model; give back what run.json repeats of them.

    Args:
        folder: Of the run.
        members: The fitted networks, one or those of an ensemble.
        history: A row an epoch.
        views: What predictions are averaged over.
        data: What they were trained on, and are tested on.
        answers: What is known of the answers of a head that was solved.
    """
    model, calibration = calibrate(members, views, data.validation, answers)
    write_weights(folder, model, history)
    labels = data.validation.labels if answers is None else answers.labels
    metrics, arrays, threshold, why = _validate(calibration, labels, data.class_names)
    if answers is None:
        shipped = predict_quickly(model, data.test.images)
    else:
        shipped = temper(answers.test, calibration.temperature).astype(np.float32)
    probabilities = shipped if answers is None or answers.by_folds is None else answers.by_folds
    metrics["test"] = describe_predictions(probabilities, data.test.labels, data.class_names, threshold)
    metrics["test"] |= without(leaked(data), probabilities, data.test.labels)
    write_arrays(folder / LEARNED, digests=np.unique(data.digests[: -len(data.test)]))
    examples = choose_examples(data.test.images, data.test.labels, shipped.argmax(axis=1))
    write_arrays(folder / "examples.npz", **examples._asdict())
    images = parity_images(data)
    expected = predict_probabilities(model, images)
    if answers is not None:  # what was scored was computed without Keras: the model that is kept answers so too
        check_agreement(shipped[: len(images)], expected[: len(shipped)], "The head")
    fitted = {"temperature": calibration.temperature, "threshold": threshold}
    described = fitted | _describe_shipped(model, data, metrics["test"], answers)
    familiarity = familiarize(model, data, answers)
    arrays |= {"probabilities": probabilities, "labels": data.test.labels}
    write_arrays(folder / "predictions.npz", **arrays, **measure_test(model, data, answers, familiarity))
    if familiarity:
        write_familiarity(folder / FAMILIARITY_FILE, familiarity)
    parity = export_onnx(model, folder / "model.onnx", described, images, expected, familiarity)
    write_json(folder / "metrics.json", metrics | {"parity": parity})
    accuracies = {f"{split}_accuracy": scores["accuracy"] for split, scores in metrics.items()}
    reasons = {"temperature_reason": calibration.reason, "threshold_reason": why}
    return accuracies | fitted | reasons | {"learned_nothing": beside_constant(metrics["test"]).nothing}


def write_weights(folder: Path, model: keras.Model, history: Sequence[Mapping[str, float]]) -> None:
    """Write the model, and its history where it has one.

    Raises:
        ConvladderError: They cannot be written, or the system's clock is wrong; exit status 1.
    """
    if history:
        write_csv(folder / "history.csv", history)
    path = folder / "model.keras"
    try:
        with whole_file(path) as temporary, scratch_folder():
            model.save(temporary)
    except (ValueError, struct.error) as error:
        if 1980 <= (year := time.localtime().tm_year) <= 2107 or isinstance(error, ConvladderError):
            raise
        raise ConvladderError(
            f"Could not write {path}: the system's clock says {year}. Expected 1980 to 2107, because the file is a ZIP "
            "archive: set the clock.",
            exit_status=1,
        ) from error


def _validate(
    calibration: Calibration, labels: npt.NDArray[np.int64], class_names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]], float, str]:
    """By split what the validation images say, and the arrays to keep of it; the threshold, and why that."""
    if calibration.before is None or calibration.after is None:
        return {}, {}, 0.0, "no validation images"
    threshold, why = choose_threshold(calibration.after, labels)
    before = reliability(calibration.before, labels)["ece"]
    scores = describe_predictions(calibration.after, labels, class_names, threshold) | {
        "ece_before_temperature": before
    }
    arrays: dict[str, npt.NDArray[Any]] = {"validation_probabilities": calibration.after, "validation_labels": labels}
    return {"validation": scores}, arrays, threshold, why


def _describe_shipped(
    model: keras.Model, data: Dataset, test: Mapping[str, Any], answers: Answers | None
) -> dict[str, Any]:
    """What the .onnx file says of itself, besides its temperature and threshold."""
    return {
        "rung": model.name,
        "class_names": data.class_names,
        "input_shape": data.input_shape,
        "fit": data.resize,
        "fingerprint": data.fingerprint,
        "dataset": data.name,
        "embedded": embedded_name({"data": data.source}),
        "test_accuracy": test["accuracy"],
        "test_images": test["images"],
        "interval": [test["low"], test["high"]],
        "tested_by": f"{answers.folds}-fold cross-validation" if answers and answers.folds else None,
    }
