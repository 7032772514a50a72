"""The parity gate: open for every rung, shut for a model that answers otherwise."""

from pathlib import Path

import keras
import numpy as np
import pytest

import convladder as cl
from convladder.evaluating import predict_probabilities
from convladder.exporting import export_onnx
from convladder.models import MODELS, build_model

METADATA = {"class_names": [str(label) for label in range(10)], "input_shape": (28, 28, 1)}


@pytest.mark.parametrize("rung", MODELS)
def test_every_rung_passes_the_gate(rung: str, small: cl.Dataset, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(rung, (28, 28, 1), 10)
    expected = predict_probabilities(model, small.test.images)
    parity = export_onnx(model, tmp_path / "model.onnx", METADATA, small.test.images, expected)
    assert parity["images"] == 1000
    assert parity["label_flips"] == 0
    answers = cl.Classifier(tmp_path / "model.onnx").predict_probabilities(small.test.images[:3])
    np.testing.assert_allclose(answers, expected[:3], atol=1e-4)


@pytest.mark.parametrize("pooling", ["average", "min"])
def test_every_pooling_passes_the_gate(pooling: str, small: cl.Dataset, tmp_path: Path) -> None:
    model = build_model("pool", (28, 28, 1), 10, pooling=pooling)
    expected = predict_probabilities(model, small.test.images)
    export_onnx(model, tmp_path / "model.onnx", METADATA, small.test.images, expected)
    assert (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_the_gate_refuses_a_model_that_answers_otherwise(error: float, small: cl.Dataset, tmp_path: Path) -> None:
    model = build_model("dense", (28, 28, 1), 10)
    expected = predict_probabilities(model, small.test.images)
    expected[500, 3] += error
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        export_onnx(model, tmp_path / "model.onnx", METADATA, small.test.images, expected)
    assert raised.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []
