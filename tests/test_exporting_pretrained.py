"""The backbone's own graph under a head, against what Keras computes."""

import keras
import numpy as np
import onnxruntime
import pytest

from convladder.exporting.onnx_file import convert, find_stages, with_stages
from convladder.exporting.pretrained import convert_pretrained
from convladder.models.ladder import build_model
from convladder.training.assembling import assemble


def trained(rung: str, shape: tuple[int, int, int]) -> keras.Model:
    """A network whose head, and of `finetune` the rest, is not as it was built."""
    model = build_model(rung, shape, 4)
    rng = np.random.default_rng(0)
    moved = 0.01 if rung == "finetune" else 0
    backbone = [weight + moved * rng.normal(size=weight.shape) for weight in model.get_weights()[:-2]]
    model.set_weights([*backbone, rng.normal(0, 0.1, (1280, 4)), rng.normal(size=4)])
    return model


@pytest.mark.long
@pytest.mark.parametrize(
    ("rung", "shape", "views", "temperature"),
    [
        ("transfer", (96, 96, 3), "photos", 0.7),
        ("finetune", (100, 97, 3), "none", 1),
        ("finetune", (28, 28, 1), "photos", 1),
    ],
)
def test_probabilities_and_maps_are_those_of_keras(
    rung: str, shape: tuple[int, int, int], views: str, temperature: float
) -> None:
    model = assemble([trained(rung, shape)], views, temperature)
    stages = find_stages(model)
    assert list(stages) == [f"stage{number}" for number in range(1, 7)]
    images = np.random.default_rng(1).integers(0, 256, (3, *shape)).astype(np.float32)
    graph = convert(model, stages)
    assert convert_pretrained(model, list(stages)) is not None
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = with_stages(model, stages)(images)
    for output, found in zip(session.get_outputs(), session.run(None, {"image": images}), strict=True):
        np.testing.assert_allclose(found, expected[output.name], atol=1e-4 if output.name == "probabilities" else 5e-3)


@pytest.mark.long
def test_any_other_network_is_left_to_keras_s_export() -> None:
    assert convert_pretrained(build_model("pool", (28, 28, 1), 10), []) is None
    members = [trained("transfer", (96, 96, 3)) for _ in range(2)]
    assert convert_pretrained(assemble(members), []) is None
