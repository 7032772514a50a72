"""The backbone: its features against those of the network that its weights come from, in both forms that it has."""

from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pytest

from convladder.models import backbone
from convladder.models.ladder import build_model

CHECK = Path(__file__).parent / "data" / "backbone-check.npz"


def in_keras(images: np.ndarray) -> np.ndarray:
    pixels = keras.Input(images.shape[1:])
    model = keras.Model(pixels, backbone.build_features(pixels))
    backbone.load_weights(model)
    return np.asarray(model.predict_on_batch(images))


def in_onnx(images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(backbone.build_graph(images.shape[1:]), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"pixels": images.astype(np.float32)})[0])


@pytest.mark.long
def test_features_are_those_that_the_weights_were_trained_for() -> None:
    with np.load(CHECK) as check:
        images, expected = check["images"], check["features"]
    np.testing.assert_allclose(in_onnx(images), expected, atol=1e-3)
    np.testing.assert_allclose(in_keras(images), expected, atol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(28, 28, 1), (40, 33, 3), (97, 130, 3)])
def test_both_forms_agree_at_every_size(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.uint8)
    np.testing.assert_allclose(in_onnx(images), in_keras(images), atol=1e-4)


@pytest.mark.long
def test_all_weights_of_the_package_are_used() -> None:
    model = build_model("transfer", (96, 96, 3), 3)
    weights = {weight.path: np.asarray(weight) for weight in model.weights if not weight.path.startswith("logits")}
    stored = backbone.read_weights()
    assert len(weights) == len(stored)
    assert sum(weight.size for weight in weights.values()) == sum(weight.size for weight in stored.values())
    assert model.count_params() == backbone.NUM_PARAMETERS + 3 * 1281
    assert [weight.path for weight in model.trainable_weights] == ["logits/kernel", "logits/bias"]
    assert len(build_model("finetune", (96, 96, 3), 3).trainable_weights) == len(model.weights)
