"""The film of a training: what each moment holds, beside Keras; how many there are; and that it harms nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convladder as cl
from convladder.errors import ConvladderError
from convladder.evaluating.metrics import predict_probabilities
from convladder.runs.examples import choose_examples
from convladder.runs.film import FILM, Film, describe_film, load_film, read_film
from convladder.training import filming, fitting
from convladder.training.fitting import _count_looks, compile_copy
from sharing import take_first

LARGEST = 300_000  # bytes of a film, as the documentation says
RNG = np.random.default_rng(0)


def noise(count: int, side: int, channels: int, classes: int) -> cl.Split:
    images = RNG.integers(0, 256, (count, side, side, channels), dtype=np.uint8)
    return cl.Split(images, np.arange(count) % classes)


def noisy(side: int = 16, channels: int = 3, classes: int = 3) -> cl.Dataset:
    train, validation, test = (noise(count, side, channels, classes) for count in (64, 16, 2 * classes))
    names = tuple(f"class {number}" for number in range(classes))
    return cl.Dataset("noise", names, train, validation, test)


def brief(**changes: Any) -> cl.Recipe:
    """Its last epoch is its best, because no validation images choose another; and its film is what is exported."""
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "validate": False, "precision": "float32"}
    return replace(cl.DEFAULT, **given | changes)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moments are left out by their number alone, not by the time that they take here."""
    monkeypatch.setattr(filming, "SHARE", 1e6)


@pytest.mark.long
def test_a_long_training_has_about_forty_moments_that_are_dense_at_the_start(
    small: cl.Dataset, tmp_path: Path, unhurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "STEPS_PER_LOOK", 4)  # a hundred looks
    run = cl.train("dense", small, replace(cl.DEFAULT, epochs=12, batch_size=64), seed=1, directory=tmp_path)
    film = read_film(run)
    assert 30 <= len(film.step) <= filming.MOST_MOMENTS
    assert film.step[0] == 0
    assert film.epoch[-1] == pytest.approx(12 * 32 * 64 / 2000)  # whole steps, 32 an epoch
    apart = np.diff(film.step)
    assert (apart > 0).all()
    assert apart[:5].mean() < apart[-5:].mean() / 2
    assert (run.path / FILM).stat().st_size < LARGEST
    assert 0 < run.info["film_seconds"] < run.info["fit_seconds"]
    assert film.epochs[:, 5].tolist() == [row["validation_accuracy"] for row in run.history]
    assert film.accuracy[-1] > film.accuracy[1]


@pytest.mark.parametrize(("steps", "epochs"), [(214.8, 2), (161.1, 2), (429.7, 1), (31.2, 16)])
def test_a_short_training_is_looked_at_often_enough_for_a_film(steps: float, epochs: int) -> None:
    looks = _count_looks(steps, epochs, 1e9)
    assert 36 <= epochs * looks <= 64
    assert round(steps / looks) * looks == pytest.approx(steps, rel=0.012, abs=1)  # it is no longer or shorter for that


@pytest.mark.parametrize(
    ("steps", "epochs", "macs"), [(214.8, 2, 7e6), (429.7, 20, 1e9), (0.3, 1, 1e12), (7.8, 1, 1e6)]
)
def test_a_network_that_looks_would_slow_down_has_no_more_of_them(steps: float, epochs: int, macs: float) -> None:
    assert _count_looks(steps, epochs, macs) == max(1, np.ceil(steps / max(1, min(32, int(1.2e11 / macs)))))


@pytest.mark.long
def test_what_would_take_more_than_its_share_of_the_time_is_left_out(
    small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filming, "SHARE", 0)
    film = read_film(cl.train("dense", small, brief(epochs=4), directory=tmp_path))
    assert film.step.tolist() == [0, film.step[-1]]  # the first and the last are always kept
    assert film.epoch[-1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    ("rung", "data"),
    [("residual", noisy(64)), ("conv", noisy(32, 3, 10)), ("dense", noisy(28, 1, 400)), ("dense", noisy(200, 3))],
    ids=["photographs", "colours", "many classes", "large pictures under a dense layer"],
)
def test_a_film_is_small_whatever_is_filmed(rung: str, data: cl.Dataset, tmp_path: Path) -> None:
    """As large as it can get: of noise, which cannot be compressed."""
    model = cl.build_model(rung, data.input_shape, data.num_classes)
    copy, _ = compile_copy(model, brief(one_cycle=False), "float32")
    camera = filming.Camera(tmp_path, data, brief())
    camera.set_model(copy)
    camera.on_train_begin()
    shapes = [(key, np.shape(value)) for key, value in camera._moments[0].items()]
    for step in range(1, filming.MOST_MOMENTS):
        moment = dict(camera._moments[0]) | {"step": step}
        for key, shape in shapes:
            if key in ("filters", "maps", "probabilities"):
                moment[key] = RNG.integers(-127, 128, shape).astype(camera._moments[0][key].dtype)
        if data.num_classes > 100:  # probabilities that sum to 1 are mostly 0
            moment["probabilities"] = camera._moments[0]["probabilities"]
        camera._moments.append(moment)
    camera.on_train_end()
    assert (tmp_path / FILM).stat().st_size < LARGEST


@pytest.mark.long
def test_each_moment_holds_what_keras_computes(small: cl.Dataset, tmp_path: Path, unhurried: None) -> None:
    run = cl.train("pool", small, brief(batch_size=128), directory=tmp_path)
    film, model = read_film(run), run.load_model()
    chosen = choose_examples(small.test.images, small.test.labels, small.test.labels)
    assert film.labels.tolist() == chosen.labels[:10].tolist() == list(range(10))
    np.testing.assert_array_equal(film.images, chosen.images[:10])  # digits are smaller than a thumbnail
    expected = predict_probabilities(model, chosen.images[:10])
    np.testing.assert_allclose(film.probabilities[-1] / 255, expected, atol=0.003)
    assert film.answers[-1].tolist() == expected.argmax(axis=1).tolist()
    first = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    kernel = first.get_weights()[0].transpose(3, 0, 1, 2)[:16]
    assert film.counts.tolist() == [64, 64]
    peak = film.filter_peaks[-1]
    assert peak == pytest.approx(np.abs(kernel).max())
    np.testing.assert_allclose(film.filters[-1] * (peak / 127), kernel, atol=peak / 250)
    maps = keras.Model(model.input, first.output)(chosen.images[:2].astype(np.float32)).numpy()
    maps = maps[:, ::2, ::2, :8].transpose(0, 3, 1, 2)
    assert film.maps.shape[1:] == maps.shape
    np.testing.assert_allclose(film.maps[-1] * (film.map_peaks[-1] / 127), maps, atol=film.map_peaks[-1] / 200)
    untrained = film.filters[0] * (film.filter_peaks[0] / 127)
    assert np.abs(untrained - kernel).max() > 0.01
    assert film.map_peaks.shape == film.loss.shape


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((16, 16, 3)), layers.Conv2D(5, 3), layers.GlobalAveragePooling2D()])
    image = keras.Input((16, 16, 3))
    return keras.Model(image, layers.Dense(3, activation="softmax")(inner(image)), name="nested")


def depthwise() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3)(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="depthwise")


def pooled() -> keras.Model:
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(layers.AveragePooling2D(2)(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="pooled")


def wide() -> keras.Model:
    """Its first kernel has as many channels as no picture has."""
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 5)(layers.Concatenate()([image, image]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(3, activation="softmax")(x), name="wide")


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "filters", "maps"),
    [
        (nested, (5, 3, 3, 3), (0, 0, 0, 0)),
        (depthwise, (0, 0, 0, 0), (2, 3, 14, 14)),
        (pooled, (0, 0, 0, 0), (0, 0, 0, 0)),
        (wide, (4, 5, 5, 1), (2, 4, 12, 12)),
        ("dense", (6, 16, 16, 3), (0, 0, 0, 0)),
        ("residual", (16, 3, 3, 3), (2, 8, 8, 8)),
        ("tiny", None, None),
    ],
)
def test_every_network_has_a_film_of_what_it_has(
    model: str | Callable[[], keras.Model], filters: Any, maps: Any, tmp_path: Path, unhurried: None
) -> None:
    run = cl.train(model if isinstance(model, str) else model(), noisy(), brief(), directory=tmp_path)
    film = read_film(run)
    if filters is not None:
        assert (film.filters.shape[1:], film.maps.shape[1:]) == (filters, maps)
    assert film.answers.shape == (len(film.step), 6)
    json.dumps(describe_film(run), allow_nan=False)


@pytest.mark.long
def test_finetuning_is_filmed_on_the_pictures_that_it_enlarges(tmp_path: Path, unhurried: None) -> None:
    run = cl.train("finetune", noisy(channels=1), replace(cl.DEFAULT, epochs=1, batch_size=16), directory=tmp_path)
    film = read_film(run)
    assert film.filters.shape[1:] == (16, 3, 3, 3)
    assert film.maps.shape[1:] == (2, 8, 11, 11)
    assert film.step[-1] > 0


@pytest.mark.long
def test_of_an_ensemble_the_first_network_is_filmed(tmp_path: Path, unhurried: None) -> None:
    film = read_film(cl.train("dense", noisy(), brief(), ensemble=2, directory=tmp_path))
    assert film.epoch[-1] == pytest.approx(1, rel=0.1)
    assert (np.diff(film.step) > 0).all()


@pytest.mark.long
def test_a_head_that_is_solved_has_no_film_and_says_why(tmp_path: Path) -> None:
    run = cl.train("transfer", noisy(32), directory=tmp_path)
    assert not (run.path / FILM).exists()
    assert "film_seconds" not in run.info
    with pytest.raises(ConvladderError, match="has no film: the head of transfer is solved, not trained step by step"):
        read_film(run)


@pytest.mark.long
def test_filming_changes_no_weight(small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network with dropout and batch normalization, which act otherwise in training."""
    few = take_first(small, 400, 100, 100)
    filmed = cl.train("regularized", few, brief(), seed=3, directory=tmp_path)
    monkeypatch.setattr(filming.Camera, "_film", lambda self: self._moments.append({"step": 0}))
    monkeypatch.setattr(filming.Camera, "_write", lambda self: None)
    other = cl.train("regularized", few, brief(), seed=3, directory=tmp_path)
    for one, two in zip(filmed.load_model().get_weights(), other.load_model().get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.long
def test_a_film_that_cannot_be_written_harms_nothing(small: cl.Dataset, tmp_path: Path) -> None:
    def occupy(folder: Path) -> list[keras.callbacks.Callback]:
        (folder / FILM).mkdir()
        return []

    with pytest.warns(UserWarning, match=r"Camera failed \(Could not write .*film.npz"):
        run = cl.train("dense", small, brief(), directory=tmp_path, callbacks=occupy)
    assert run.info["status"] == "finished"
    assert run.metrics["test"]["accuracy"] > 0.3


def test_a_training_that_diverges_keeps_its_film(small: cl.Dataset, tmp_path: Path, unhurried: None) -> None:
    with pytest.raises(ConvladderError, match="diverged"):
        cl.train("dense", small, brief(learning_rate=1e28, one_cycle=False), directory=tmp_path)
    run = cl.Run(tmp_path / "dense-1")
    assert run.info["status"] == "failed"
    json.dumps(describe_film(run), allow_nan=False)


def test_a_film_goes_on_where_its_training_is_resumed(tmp_path: Path, unhurried: None) -> None:
    data = noisy()
    copy, _ = compile_copy(cl.build_model("dense", data.input_shape, 3), brief(one_cycle=False), "float32")

    def film_steps(camera: filming.Camera, steps: list[int]) -> Film:
        camera.set_model(copy)
        camera.on_train_begin()
        for step in steps:
            copy.optimizer.iterations.assign(step)
            camera.on_train_batch_end(step, {"loss": 1.0, "accuracy": 0.5})
        camera.on_epoch_end(0, {"loss": 1.0, "accuracy": 0.5})
        camera.on_train_end()
        return load_film(tmp_path / FILM, 3)

    assert film_steps(filming.Camera(tmp_path, data, brief()), [1, 2, 3]).step.tolist() == [0, 1, 2, 3]
    copy.optimizer.iterations.assign(2)  # of the checkpoint
    resumed = film_steps(filming.Camera(tmp_path, data, brief()), [3, 4])
    assert resumed.step.tolist() == [0, 1, 2, 3, 4]
    assert (np.diff(resumed.seconds) > 0).all()
    (tmp_path / FILM).write_bytes(b"damaged")
    assert film_steps(filming.Camera(tmp_path, data, brief()), [5]).step.tolist() == [4, 5]


@pytest.mark.long
def test_a_killed_run_keeps_what_was_filmed(small_npz: Path, tmp_path: Path) -> None:
    given = ["train", "--model", "dense", "--data", str(small_npz), "--epochs", "100000"]
    process = subprocess.Popen([sys.executable, "-m", "convladder", *given], cwd=tmp_path, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "dense-1"
    try:
        moments = 0
        while moments < 5:
            assert process.poll() is None
            if (folder / FILM).exists():
                moments = len(read_film(cl.Run(folder)).step)  # whole at any time
            time.sleep(0.05)  # between two looks
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(folder)
    film = describe_film(cl.Run(folder))
    assert film["running"]
    assert len(film["steps"]) >= 5


def test_a_film_can_hold_the_maps_of_all_its_images_but_not_of_more(run: cl.Run) -> None:
    film = read_film(run)
    images = len(film.images)
    for maps, fits in ((images, True), (images + 1, False)):
        seen = np.zeros((len(film.step), maps, *film.maps.shape[2:]), np.int8)
        assert replace(film, maps=seen).fits(10) == fits
