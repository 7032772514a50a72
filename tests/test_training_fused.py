"""Fused: a copy that is fitted ends with the weights that Keras's own layers and Adam give the network itself."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from convladder.training.fitting import compile_for
from convladder.training.fused import FusedBatchNormalization, clone
from convladder.training.recipes import DEFAULT, Recipe

SHAPE = (8, 8, 3)
RECIPE = Recipe(**{**vars(DEFAULT), "one_cycle": False, "learning_rate": 0.01, "weight_decay": 0.05})
Build = Callable[[], keras.Model]


def convolve(x: Any, size: int = 3, **settings: Any) -> Any:
    # Without a bias, which normalization takes away again: Adam would make steps of what is rounded.
    return layers.Conv2D(4, size, use_bias=False, **settings)(x)


def network(body: Callable[[Any], Any]) -> keras.Model:
    image = keras.Input(SHAPE)
    x = layers.Flatten()(body(image))
    return keras.Model(image, layers.Dense(3, activation="softmax", name="logits")(x))


def normalized(**settings: Any) -> Build:
    return lambda: network(lambda x: layers.BatchNormalization(**settings)(convolve(x)))


def base() -> keras.Model:
    image = keras.Input(SHAPE)
    return keras.Model(image, layers.BatchNormalization()(convolve(convolve(image))), name="base")


def frozen(*which: int, nested: bool) -> keras.Model:
    """Some layers frozen after they were made, in a network or in one within it."""
    if not nested:
        whole = normalized()()
        for number in which:
            whole.layers[number].trainable = False
        return whole
    inner = base()
    for number in which:
        inner.layers[number].trainable = False
    return network(inner)


def frozen_parent(*opened: int) -> keras.Model:
    inner = base()
    inner.trainable = False
    for number in opened:
        inner.layers[number].trainable = True
    return network(inner)


def frozen_weight() -> keras.Model:
    whole = normalized()()
    whole.layers[1].kernel.trainable = False
    return whole


def shared() -> keras.Model:
    norm = layers.BatchNormalization()
    return network(lambda x: layers.Add()([norm(convolve(x)), norm(convolve(x))]))


def adapted() -> keras.Model:
    norm = layers.Normalization()
    norm.adapt(np.random.default_rng(0).normal(3, 2, (50, *SHAPE)).astype(np.float32))
    return network(norm)


class Doubled(layers.BatchNormalization):  # type: ignore[misc]
    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        return 2 * super().call(inputs, training=training, mask=mask)


class Scaled(layers.Layer):  # type: ignore[misc]
    """Does not tell in its configuration that it is frozen."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


def scaled_frozen() -> keras.Model:
    scaled = Scaled()
    whole = network(scaled)
    scaled.trainable = False
    return whole


NETWORKS: dict[str, Build] = {
    "usual": normalized(),
    "momentum and epsilon": normalized(momentum=0.5, epsilon=1e-5),
    "no scale": normalized(scale=False),
    "no center": normalized(center=False),
    "axis 1": normalized(axis=1),
    "axis 3": normalized(axis=3),
    "renorm": normalized(renorm=True, renorm_clipping={"rmax": 2, "rmin": 0.5, "dmax": 1}),
    "synchronized": normalized(synchronized=True),
    "regularized": normalized(gamma_regularizer="l2", beta_regularizer="l1"),
    "constrained": normalized(gamma_constraint="non_neg", beta_constraint=keras.constraints.MaxNorm(0.01)),
    "float64": normalized(dtype="float64"),
    "mixed float16": normalized(dtype="mixed_float16"),
    "one place": lambda: network(lambda x: layers.BatchNormalization(momentum=0.5)(convolve(x, size=8))),
    "of rows": lambda: network(lambda x: layers.BatchNormalization()(layers.Reshape((64, 3))(x))),
    "of units": lambda: network(lambda x: layers.BatchNormalization()(layers.Flatten()(x))),
    "of five dimensions": lambda: network(lambda x: layers.BatchNormalization()(layers.Reshape((*SHAPE, 1))(x))),
    "masked": lambda: network(lambda x: layers.BatchNormalization()(layers.Masking(mask_value=1.0)(x))),
    "of a subclass": lambda: network(lambda x: Doubled()(convolve(x))),
    "shared": shared,
    "called in inference": lambda: network(lambda x: layers.BatchNormalization()(convolve(x), training=False)),
    "base called in inference": lambda: network(lambda x: base()(x, training=False)),
    "frozen normalization": lambda: frozen(2, nested=False),
    "frozen in a nested model": lambda: frozen(1, 3, nested=True),
    "frozen parent": frozen_parent,
    "frozen parent, one layer open": lambda: frozen_parent(3),
    "one weight frozen": frozen_weight,
    "frozen, and not said in its configuration": scaled_frozen,
    "adapted": adapted,
    "operations": lambda: network(lambda x: keras.ops.relu(2.0 * convolve(x) - 1.0)),
    "sparse gradients": lambda: network(lambda x: layers.Embedding(4, 2)(layers.Flatten()(x))),
    "sequential": lambda: keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.BatchNormalization(), layers.Dense(3, activation="softmax")]
    ),
}


def fit(model: keras.Model, batch_size: int) -> None:
    """Three steps, eagerly, since tracing would take longer."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 4, (3 * batch_size, *SHAPE)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, len(images))]
    model.run_eagerly = True
    model.fit(tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size), shuffle=False, verbose=0)


def fit_by_keras(model: keras.Model, batch_size: int) -> None:
    adam = keras.optimizers.Adam(RECIPE.learning_rate, RECIPE.beta_1, RECIPE.beta_2, weight_decay=RECIPE.weight_decay)
    adam.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=RECIPE.label_smoothing)
    model.compile(adam, loss, jit_compile=False)
    fit(model, batch_size)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize(
    ("name", "batch_size"), [*((name, 8) for name in NETWORKS), ("momentum and epsilon", 1), ("one place", 1)]
)
def test_a_copy_is_fitted_to_the_weights_that_keras_gives(name: str, batch_size: int) -> None:
    keras.utils.set_random_seed(1)
    model = NETWORKS[name]()
    first = model.get_weights()
    copy = clone(model, "float32")
    compile_for(copy, RECIPE)
    fit(copy, batch_size)
    for weight, kept in zip(model.get_weights(), first, strict=True):
        np.testing.assert_array_equal(weight, kept)
    fit_by_keras(model, batch_size)
    assert any((weight != kept).any() for weight, kept in zip(model.get_weights(), first, strict=True))
    tolerance = 2e-3 if name == "mixed float16" else 2e-4
    for ours, theirs, weight in zip(copy.get_weights(), model.get_weights(), model.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=weight.path)


@pytest.mark.parametrize("name", ["usual", "axis 3", "shared", "frozen parent", "regularized"])
def test_what_is_the_same_is_fused(name: str) -> None:
    """Otherwise the test above would hold for a copy that fuses nothing."""
    fused = FusedBatchNormalization in {type(layer) for layer in clone(NETWORKS[name](), "float32").layers}
    assert fused == (name != "frozen parent")  # nested ones are left to Keras


def test_in_bfloat16_a_policy_of_the_user_and_layers_of_their_own_keep_what_they_compute_in() -> None:
    def body(x: Any) -> Any:
        x = keras.ops.relu(convolve(x) * 2.0)
        x = Scaled(name="own")(x)
        return layers.Conv2D(4, 3, dtype="float64", name="exact")(x)

    copy = clone(network(body), "bfloat16")
    kinds = {layer.name: layer.compute_dtype for layer in copy.layers}
    assert (kinds["own"], kinds["exact"], kinds["logits"]) == ("float32", "float64", "float32")
    assert "bfloat16" in kinds.values()
    compile_for(copy, RECIPE)
    fit(copy, 8)
