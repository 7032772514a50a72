"""Fitting: what is traced, how long it goes on, and what ends it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf

import convladder as cl
from convladder.data.dataset import Split
from convladder.evaluating.metrics import predict_probabilities
from convladder.models.ladder import build_model
from convladder.training.fused import FusedAdam, FusedBatchNormalization, clone
from convladder.training.keeping import OneCycle
from convladder.training.recipes import TUNED, default_recipe
from sharing import take_first


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Grows by one each time the training step is traced."""
    seen: list[Any] = []
    original = keras.Model.train_step

    def train_step(self: Any, data: Any) -> Any:
        seen.append(data)
        return original(self, data)

    monkeypatch.setattr(keras.Model, "train_step", train_step)
    return seen


@pytest.mark.long
@pytest.mark.parametrize(
    "changes",
    [{"epochs": 3}, {"epochs": 0.3}, {"epochs": 2.5, "augment": "digits"}, {"minutes": 0.05}, {"precision": "float32"}],
    ids=str,
)
def test_the_graph_is_traced_once(
    changes: dict[str, Any], traces: list[Any], small: cl.Dataset, tmp_path: Path
) -> None:
    few = take_first(small, 640, 100, 100)
    run = cl.train("fast", few, replace(cl.DEFAULT, **changes), directory=tmp_path)
    assert len(traces) == 1
    images, _ = traces[0]
    assert images.dtype.name == "uint8"  # until they reach the model
    assert run.info["status"] == "finished"


class Rates(keras.callbacks.Callback):  # type: ignore[misc]
    """The learning rate after every look, and how long the whole training was foreseen to be."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.foreseen: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(float(self.model.optimizer.learning_rate))
        self.foreseen.append(self.params.get("total", 0))


@pytest.mark.long
@pytest.mark.parametrize("images", [2000, 60])
def test_minutes_are_kept_and_the_learning_rate_has_fallen_by_then(
    images: int, traces: list[Any], small: cl.Dataset, tmp_path: Path
) -> None:
    few = replace(small, train=Split(small.train.images[:images], small.train.labels[:images]))
    rates = Rates()
    run = cl.train("dense", few, replace(cl.DEFAULT, minutes=0.08), directory=tmp_path, callbacks=[rates])
    assert 0.3 * 4.8 < run.info["fit_seconds"] < 4.8  # and not all of them, for scoring and export are within
    assert len(run.history) > 5
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    assert max(rates.seen) > 0.5 * cl.DEFAULT.learning_rate
    assert rates.seen[-1] < 0.1 * cl.DEFAULT.learning_rate
    assert rates.foreseen[-1] >= len(rates.seen)  # of steps, in which one looks once or less often
    # No step is thrown away to measure the others: those that tell how many fit are the first of the training itself.
    assert len(traces) == 1
    assert rates.foreseen[0] == 0
    assert rates.seen[0] < 0.5 * cl.DEFAULT.learning_rate


@pytest.mark.long
def test_members_of_an_ensemble_share_the_minutes(small: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(cl.DEFAULT, minutes=0.15)
    run = cl.train("dense", small, recipe, ensemble=2, directory=tmp_path)
    assert {row["member"] for row in run.history} == {1, 2}
    assert run.info["fit_seconds"] < 9


@pytest.mark.long
def test_until_stops_at_the_first_epoch_that_is_good_enough(small: cl.Dataset, tmp_path: Path) -> None:
    run = cl.train("fast", small, replace(cl.DEFAULT, epochs=50, until=0.85), directory=tmp_path)
    accuracies = [row["validation_accuracy"] for row in run.history]
    assert len(accuracies) < 50
    assert accuracies[-1] >= 0.85
    assert max(accuracies[:-1], default=0) < 0.85


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"epochs": float("nan")},
        {"minutes": 0},
        {"until": 1.5},
        {"batch_size": 0},
        {"augment": "fotos"},
        {"precision": "float16"},
        {"weight_decay": -1},
    ],
    ids=str,
)
def test_a_bad_recipe_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected"):
        replace(cl.DEFAULT, **changes)


def test_until_needs_validation_images() -> None:
    with pytest.raises(cl.ConvladderError, match="validation"):
        replace(cl.ARTICLE, until=0.9)


def test_a_tuned_rung_changes_what_it_says_and_nothing_else() -> None:
    assert default_recipe("pool") == cl.DEFAULT
    assert default_recipe("strong") == replace(cl.DEFAULT, **TUNED["strong"])


def test_the_cycle_rises_to_its_peak_and_falls_to_zero() -> None:
    schedule = OneCycle(0.01)
    schedule.span(200)
    rates = [float(schedule.rate(step)) for step in range(201)]
    assert int(np.argmax(rates)) == 50
    assert rates[50] == pytest.approx(0.01)
    assert rates[0] == pytest.approx(0.001)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


def test_a_bfloat16_copy_answers_nearly_alike_and_keeps_its_weights_in_float32(small: cl.Dataset) -> None:
    model = build_model("batchnorm", (28, 28, 1), 10)
    copy = clone(model, "bfloat16")
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    assert copy.get_layer("stage1_conv").compute_dtype == "bfloat16"
    assert copy.layers[-1].compute_dtype == "float32"
    images = small.test.images[:100]
    difference = np.abs(predict_probabilities(copy, images) - predict_probabilities(model, images)).max()
    assert 0 < difference < 0.05


def test_fused_batch_normalization_is_keras_batch_normalization() -> None:
    values = keras.random.normal((64, 6, 6, 8), seed=1) * 2 + 1

    def run(layer: keras.layers.BatchNormalization) -> list[Any]:
        layer.build(values.shape)
        with tf.GradientTape() as tape:
            tape.watch(values)
            out = layer(values, training=True)
            total = tf.reduce_sum(out * tf.sin(values))
        gradients = tape.gradient(total, [values, layer.gamma.value, layer.beta.value])
        return [out, *gradients, layer.moving_mean, layer.moving_variance, layer(values, training=False)]

    for fused, plain in zip(run(FusedBatchNormalization()), run(keras.layers.BatchNormalization()), strict=True):
        # The moving variance is of the sample, not of the population: by 1 in 2,304 more.
        np.testing.assert_allclose(np.asarray(fused), np.asarray(plain), rtol=1e-4, atol=2e-4)


@pytest.mark.long
def test_fused_adam_is_keras_adam(small: cl.Dataset) -> None:
    def fit(kind: type[keras.optimizers.Adam]) -> list[npt.NDArray[np.float32]]:
        keras.utils.set_random_seed(0)
        model = build_model("dense", (28, 28, 1), 10)
        schedule = OneCycle(0.01)
        schedule.span(20)
        optimizer = kind(schedule.rate, beta_1=0.8, beta_2=0.95, weight_decay=0.05)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        optimizer.build(model.trainable_variables)
        model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(small.train.images[:640], small.train.labels[:640], epochs=1, shuffle=False, verbose=0)
        return list(model.get_weights())

    for fused, plain in zip(fit(FusedAdam), fit(keras.optimizers.Adam), strict=True):
        np.testing.assert_allclose(fused, plain, atol=1e-5)


def test_what_is_fitted_normalizes_fused_and_what_is_kept_is_plain_keras() -> None:
    model = build_model("batchnorm", (28, 28, 1), 10)
    kinds = {type(layer) for layer in clone(model, "float32").layers}
    assert FusedBatchNormalization in kinds
    assert keras.layers.BatchNormalization not in kinds
    assert keras.layers.BatchNormalization in {type(layer) for layer in model.layers}


@pytest.mark.parametrize("settings", [{"scale": False}, {"center": False}, {"axis": 1}], ids=str)
def test_normalization_of_another_kind_is_fitted_as_it_is(settings: dict[str, Any]) -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization(**settings)(image)
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    assert FusedBatchNormalization not in {type(layer) for layer in clone(model, "float32").layers}


def test_frozen_normalization_keeps_its_statistics_when_fused() -> None:
    layer = FusedBatchNormalization(trainable=False)
    values = np.random.default_rng(0).normal(5, 3, (4, 6, 6, 16)).astype(np.float32)
    np.testing.assert_allclose(layer(values, training=True), layer(values, training=False))
    assert not np.asarray(layer.moving_mean).any()


def tempered(probabilities: npt.NDArray[np.float32], run: cl.Run) -> npt.NDArray[np.float64]:
    """As a run's temperature makes them."""
    powers = probabilities.astype(np.float64) ** (1 / run.info["temperature"])
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.long
def test_an_ensemble_is_one_model_whose_answers_are_the_mean(small: cl.Dataset, tmp_path: Path) -> None:
    run = cl.train("dense", small, replace(cl.DEFAULT, epochs=1), seed=3, ensemble=3, directory=tmp_path)
    assert (run.info["ensemble"], len(run.info["best_epochs"])) == (3, 3)
    assert run.info["parameters"] == 3 * 26_506
    assert [row["member"] for row in run.history] == [1, 2, 3]
    model = run.load_model()
    members = [layer for layer in model.layers if layer.name.startswith("member")]
    mean = np.mean([predict_probabilities(member, small.test.images) for member in members], axis=0)
    mean = tempered(mean, run)
    np.testing.assert_allclose(run.predictions["probabilities"], mean, atol=1e-6)
    np.testing.assert_allclose(run.classifier().predict_probabilities(small.test.images), mean, atol=1e-5)
    single = cl.train("dense", small, replace(cl.DEFAULT, epochs=1), seed=4, directory=tmp_path)
    second = tempered(predict_probabilities(members[1], small.test.images), single)
    np.testing.assert_allclose(single.predictions["probabilities"], second, atol=1e-2)


@pytest.mark.long
def test_training_on_mnist_stays_below_one_and_a_half_gigabytes(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from convladder.cli import main\n"
        "sys.argv = 'convladder train --model fast --epochs 0.1 --augment digits --runs'.split() + sys.argv[1:]\n"
        "try:\n    main()\nfinally:\n"
        "    print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak_kilobytes = int(printed.split("VmHWM:")[1].split()[0])
    assert peak_kilobytes * 1024 < 1.5e9


def test_a_built_model_cannot_become_an_ensemble(small: cl.Dataset, tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="rung's name"):
        cl.train(build_model("dense", (28, 28, 1), 10), small, ensemble=2, directory=tmp_path)
    assert list(tmp_path.iterdir()) == []
