"""A network that its user built: it stays as it is, and what cannot be trained is refused before anything is made."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convladder as cl
from convladder.comparing.settings import identity_of
from convladder.evaluating.metrics import predict_probabilities
from convladder.training.adopting import adopt
from test_training_fused import NETWORKS, base, network

RNG = np.random.default_rng(0)


def split(count: int) -> cl.Split:
    return cl.Split(RNG.integers(0, 4, (count, 8, 8, 3)).astype(np.uint8), np.arange(count) % 3)


DATA = cl.Dataset("mine", ("a", "b", "c"), split(24), split(6), split(6))


def state(model: keras.Model) -> list[Any]:
    """All that a user may notice a change of."""
    optimizer = model.optimizer
    return [
        [weight.tolist() for weight in model.get_weights()],
        [(layer.name, layer.trainable, len(layer._inbound_nodes)) for layer in model.layers],
        [(weight.path, weight.trainable) for weight in model.weights],
        (model.compiled, model.loss if model.compiled else None, model.stop_training, model.trainable),
        None if optimizer is None else [variable.numpy().tolist() for variable in optimizer.variables],
    ]


@pytest.mark.long
@pytest.mark.parametrize("name", ["usual", "frozen in a nested model", "adapted", "sequential", "one weight frozen"])
def test_training_leaves_the_caller_s_network_as_it_was(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    images = DATA.train.images.astype(np.float32)
    model.train_on_batch(images, np.eye(3)[DATA.train.labels])
    before = state(model)
    run = cl.train(model, DATA, replace(cl.DEFAULT, epochs=1, views="photos"), directory=tmp_path)
    assert state(model) == before
    trained = run.load_model()
    assert np.abs(predict_probabilities(trained, DATA.test.images) - model(images[:6]).numpy()).max() > 1e-4


@pytest.mark.long
def test_a_network_trained_on_goes_on_from_its_own_weights(tmp_path: Path) -> None:
    first = NETWORKS["usual"]()
    still = replace(cl.DEFAULT, epochs=1, learning_rate=0.0, one_cycle=False, weight_decay=0)
    kernel = first.get_layer("logits").get_weights()[0]
    run = cl.train(first, DATA, still, directory=tmp_path)
    np.testing.assert_allclose(run.load_model().get_layer("logits").get_weights()[0], kernel, atol=1e-6)


def several(inputs: int) -> keras.Model:
    images = [keras.Input((8, 8, 3)) for _ in range(inputs)]
    x = layers.Add()(images) if inputs > 1 else images[0]
    return keras.Model(images, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def any_size() -> keras.Model:
    image = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def under_a_name() -> keras.Model:
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model({"image": image}, {"answer": layers.Dense(3, activation="softmax")(layers.Flatten()(image))})


@pytest.mark.parametrize("build", [lambda: several(1), any_size, under_a_name])
def test_an_input_in_a_list_under_a_name_or_of_any_size_is_taken(build: Callable[[], keras.Model]) -> None:
    model = build()
    copy = adopt(model, DATA)
    assert copy.input.shape == (None, 8, 8, 3)
    assert copy.output.shape == (None, 3)
    image = DATA.test.images[:2].astype(np.float32)
    given = {"image": image} if isinstance(model.input, dict) else [image] if isinstance(model.input, list) else image
    (expected,) = keras.tree.flatten(model(given))
    np.testing.assert_allclose(copy(image), expected, atol=1e-6)


def without_a_softmax() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(image)))


def of_four_classes() -> keras.Model:
    image = keras.Input((8, 8, 3))
    return keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(image)))


def of_gray() -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(image)))


def with_nan() -> keras.Model:
    model = NETWORKS["usual"]()
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    return model


def all_frozen() -> keras.Model:
    model = NETWORKS["usual"]()
    model.trainable = False
    return model


class Unknown(keras.Model):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        return x


class Forgetful(layers.Layer):  # type: ignore[misc]
    """Its configuration does not tell by how much it multiplies."""

    def __init__(self, factor: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return dict(super().get_config())


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: several(2), "has 2 inputs"),
        (of_gray, "takes arrays of 8×8×1"),
        (of_four_classes, "gives arrays of 4"),
        (without_a_softmax, "does not return probabilities"),
        (with_nan, "answers with NaN"),
        (all_frozen, "all are frozen"),
        (Unknown, "with unknown layers"),
        (base, "gives arrays of 4×4×4"),
        (lambda: network(layers.Lambda(lambda x: x / 255.0)), "cannot be copied"),
        (lambda: network(Forgetful(0.01)), "the copy's answers differ"),
        (lambda: len, "with unknown layers"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_and_nothing_is_made(
    build: Callable[[], Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(cl.ConvladderError, match=said) as caught:
        cl.train(build(), DATA, cl.DEFAULT, directory=tmp_path)
    assert "Expected" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_built_network_is_never_taken_for_the_rung_of_its_name(small: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(cl.DEFAULT, epochs=0.2)
    built = cl.train(cl.build_model("dense", (28, 28, 1), 10), small, recipe, directory=tmp_path)
    rung = cl.train("dense", small, recipe, directory=tmp_path)
    assert identity_of(built.info) != identity_of(rung.info)
    assert identity_of(rung.info) == identity_of({**rung.info, "own_network": None})  # as runs of before say
