"""One set of tests over the whole ladder, so that a new rung is tested the day it is added."""

from typing import Any

import numpy as np
import pytest

import convladder as cl
from convladder.models.ladder import MODELS, build_model, rung_choices, rung_idea
from convladder.models.summary import count_macs

PINNED = {"dense": 26_506, "conv": 823_338, "pool": 70_698, "regularized": 70_698}


@pytest.mark.parametrize(("rung", "parameters"), PINNED.items())
def test_the_article_s_parameter_counts(rung: str, parameters: int) -> None:
    assert build_model(rung, (28, 28, 1), 10).count_params() == parameters


def test_tiny_has_fewer_than_five_thousand_parameters() -> None:
    assert build_model("tiny", (28, 28, 1), 10).count_params() == 4_864


@pytest.mark.long
@pytest.mark.parametrize("rung", MODELS)
@pytest.mark.parametrize(("input_shape", "classes"), [((8, 8, 3), 2), ((28, 28, 1), 10), ((33, 47, 3), 7)])
def test_every_rung_takes_every_size(rung: str, input_shape: tuple[int, int, int], classes: int) -> None:
    model = build_model(rung, input_shape, classes)
    images = np.random.default_rng(0).integers(0, 256, (3, *input_shape)).astype(np.uint8)
    probabilities = np.asarray(model(images))
    assert probabilities.shape == (3, classes)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("rung", MODELS)
def test_every_rung_says_its_idea_in_a_sentence(rung: str) -> None:
    assert rung_idea(rung).endswith(".")
    assert count_macs(build_model(rung, (28, 28, 1), 10)) > 0


def test_pixels_are_scaled_inside_the_model_unless_asked_not_to() -> None:
    scaled = build_model("dense", (8, 8, 1), 3)
    raw = build_model("dense", (8, 8, 1), 3, rescale=False)
    raw.set_weights(scaled.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(scaled(images), raw(images / 255), atol=1e-6)


@pytest.mark.parametrize(
    ("rung", "choices", "shape"),
    [
        ("conv", {"kernel_size": 5, "padding": "valid"}, {"stage1_conv": (24, 24, 64)}),
        ("conv", {"stride": 2}, {"stage1_conv": (14, 14, 64), "stage2_conv": (7, 7, 32)}),
        ("pool", {"pooling": "min", "pool_size": 3}, {"stage1_pool": (9, 9, 64)}),
        ("dense", {"hidden": 100}, {"hidden1": (100,)}),
        ("inception", {"module": "naive"}, {"stage2_concat": (14, 14, 24 + 24 + 12 + 32)}),
        ("inception", {"module": "reduced"}, {"stage2_concat": (14, 14, 24 + 24 + 12 + 12)}),
    ],
)
def test_choices_change_shapes(rung: str, choices: dict[str, Any], shape: dict[str, tuple[int, ...]]) -> None:
    model = build_model(rung, (28, 28, 1), 10, **choices)
    for layer, expected in shape.items():
        assert model.get_layer(layer).output.shape[1:] == expected


def layer_kinds(model: object) -> set[str]:
    return {type(layer).__name__ for layer in model.layers}  # type: ignore[attr-defined]


@pytest.mark.long
def test_choices_change_layers() -> None:
    assert "BatchNormalization" in layer_kinds(build_model("batchnorm", (28, 28, 1), 10))
    assert "BatchNormalization" not in layer_kinds(build_model("batchnorm", (28, 28, 1), 10, batch_norm=False))
    assert "Add" in layer_kinds(build_model("residual", (28, 28, 1), 10))
    assert "Add" not in layer_kinds(build_model("residual", (28, 28, 1), 10, residual=False))
    convolutions = build_model("deep", (28, 28, 1), 10, depth=31).layers
    assert len([layer for layer in convolutions if type(layer).__name__ == "Conv2D"]) == 31


def test_regularized_holds_its_penalties_and_its_dropout() -> None:
    model = build_model("regularized", (28, 28, 1), 10, dropout=0.4, l1=0.01, l2=0.02)
    kernel = np.asarray(model.get_layer("stage1_conv").kernel)
    expected = 0.01 * np.abs(kernel).sum() + 0.02 * np.square(kernel).sum()
    assert float(model.get_layer("stage1_conv").losses[0]) == pytest.approx(expected, rel=1e-5)
    assert model.get_layer("stage1_dropout").rate == 0.4


def test_deep_and_residual_differ_by_the_connections_alone() -> None:
    deep, residual = (build_model(rung, (28, 28, 1), 10) for rung in ("deep", "residual"))
    assert deep.count_params() == residual.count_params()
    assert count_macs(deep) == count_macs(residual)


@pytest.mark.parametrize(
    ("rung", "choices", "message"),
    [
        ("pol", {}, "Did you mean pool"),
        ("pool", {"pooling": "maximum"}, "'maximum' is not a pooling. Expected one of: max, average, min"),
        ("dense", {"stride": 2}, "dense has no choice stride. It has: hidden"),
        ("conv", {"kernel_size": 9, "padding": "valid"}, "9×9 does not fit into 8×8"),
        ("conv", {"padding": "full"}, "not a padding"),
        ("conv", {"kernel_size": 0}, "kernel size"),
        ("conv", {"stride": -1}, "stride"),
        ("pool", {"pool_size": 5}, "does not fit"),
        ("regularized", {"dropout": -0.1}, "dropout -0.1 is out of range"),
        ("regularized", {"dropout": 1.0}, "dropout"),
        ("regularized", {"l2": float("nan")}, "l2"),
        ("inception", {"module": "wide"}, "inception module"),
        ("deep", {"depth": 1}, "depth"),
        ("dense", {"hidden": 0}, "hidden units"),
    ],
)
def test_a_bad_choice_is_refused(rung: str, choices: dict[str, Any], message: str) -> None:
    with pytest.raises(cl.ConvladderError, match=message):
        build_model(rung, (8, 8, 1), 2, **choices)


@pytest.mark.parametrize(("input_shape", "classes"), [((7, 28, 1), 10), ((28, 28, 2), 10), ((28, 28, 1), 1)])
def test_a_bad_shape_is_refused(input_shape: tuple[int, int, int], classes: int) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected"):
        build_model("pool", input_shape, classes)


def test_choices_are_those_of_the_signature() -> None:
    assert rung_choices("deep") == {"depth": 20, "batch_norm": True}
