"""Layers against NumPy, written out as the definitions say."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.models.blocks import convolve, inception_module, pool
from convladder.models.own_layers import MinPooling2D

Array = npt.NDArray[np.float64]


def windows(x: Array, size: int, stride: int) -> Array:
    """Every window, shape (batch, rows, columns, size, size, channels)."""
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)


def pad_same(x: Array, size: int, stride: int) -> Array:
    """Zeros around, so that the output is ⌈side / stride⌉ high; the odd one below and to the right."""
    margins = [(0, 0)]
    for side in x.shape[1:3]:
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        margins.append((total // 2, total - total // 2))
    return np.pad(x, [*margins, (0, 0)])


def run_layer(build: Any, x: Array) -> tuple[Array, keras.Model]:
    image = keras.Input(x.shape[1:])
    model = keras.Model(image, build(image))
    return np.asarray(model(x.astype(np.float32))), model


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(0).normal(size=(2, 9, 10, 3))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 4, 5])
def test_convolution(x: Array, kernel_size: int, stride: int, padding: str) -> None:
    y, model = run_layer(lambda t: convolve(t, 4, "conv", kernel_size=kernel_size, stride=stride, padding=padding), x)
    kernel, bias = model.layers[-1].get_weights()
    padded = pad_same(x, kernel_size, stride) if padding == "same" else x
    expected = np.einsum("nhwijc,ijcf->nhwf", windows(padded, kernel_size, stride), kernel) + bias
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("pool_size", [1, 2, 3])
@pytest.mark.parametrize(("pooling", "reduce"), [("max", np.max), ("average", np.mean), ("min", np.min)])
def test_pooling(x: Array, pooling: str, reduce: Any, pool_size: int) -> None:
    y, _ = run_layer(lambda t: pool(t, "pool", pooling=pooling, pool_size=pool_size), x)
    np.testing.assert_allclose(y, reduce(windows(x, pool_size, pool_size), axis=(3, 4)), atol=1e-6)


def test_batch_normalization(x: Array) -> None:
    layer = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9)
    y = np.asarray(layer(x.astype(np.float32), training=True))
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-3), atol=1e-5)
    still = np.asarray(layer(x.astype(np.float32), training=False))
    moving_mean, moving_variance = 0.1 * mean, 0.9 + 0.1 * variance
    np.testing.assert_allclose(still, (x - moving_mean) / np.sqrt(moving_variance + 1e-3), atol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_that_a_model_is_trained_with_is_softmax_cross_entropy(label_smoothing: float) -> None:
    rng = np.random.default_rng(1)
    model = cl.build_model("dense", (8, 8, 1), 5)
    images = rng.integers(0, 256, (7, 8, 8, 1)).astype(np.float64)
    labels = np.eye(5)[rng.integers(0, 5, 7)]
    model.compile(loss=keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing))
    loss = model.evaluate(images, labels, verbose=0)

    activation = (images / 255).reshape(7, -1)
    for name in ("hidden1", "hidden2"):
        kernel, bias = model.get_layer(name).get_weights()
        activation = np.maximum(activation @ kernel + bias, 0)
    kernel, bias = model.get_layer("logits").get_weights()
    logits = activation @ kernel + bias
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    smoothed = labels * (1 - label_smoothing) + label_smoothing / 5
    assert loss == pytest.approx(-(smoothed * log_probabilities).sum(axis=1).mean(), abs=1e-5)


def test_min_pooling_survives_saving(tmp_path: Any, x: Array) -> None:
    image = keras.Input((9, 10, 3))
    model = keras.Model(image, MinPooling2D(2)(image))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(x.astype(np.float32)), model(x.astype(np.float32)))


@pytest.mark.parametrize(("reduce", "channels"), [(True, 8 + 8 + 4 + 4), (False, 8 + 8 + 4 + 3)])
def test_the_inception_module_concatenates_its_branches(x: Array, reduce: bool, channels: int) -> None:
    y, _ = run_layer(lambda t: inception_module(t, 8, "stage1", reduce=reduce, batch_norm=False), x)
    assert y.shape == (2, 9, 10, channels)
