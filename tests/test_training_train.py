"""Training on a small part of MNIST: the run folder, the chosen epoch, bfloat16, determinism, interruption."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import convladder as cl
from convladder.evaluating.metrics import predict_probabilities
from convladder.models.ladder import build_model
from convladder.training.assembling import assemble
from convladder.training.fitting import training_batches
from convladder.training.recipes import processor_flags, resolve_precision
from sharing import take_first

FILES = {"examples.npz", "run.json", "history.csv", "model.keras", "model.onnx", "metrics.json", "predictions.npz"} | {
    "learned.npz",
    "film.npz",
    "familiarity.npz",
}
NEIGHBOURS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))


def test_a_run_folder_holds_what_the_design_says(run: cl.Run, small: cl.Dataset) -> None:
    assert {path.name for path in run.path.iterdir()} == FILES
    info = run.info
    assert info["status"] == "finished"
    assert (info["rung"], info["seed"], info["fingerprint"]) == ("fast", 1, small.fingerprint)
    assert info["versions"]["keras"] == keras.__version__
    assert info["fit_seconds"] > 0
    assert info["test_accuracy"] == run.metrics["test"]["accuracy"] > 0.8
    assert info["validation_accuracy"] == run.metrics["validation"]["accuracy"]
    assert len(run.history) == info["recipe"]["epochs"]
    assert run.metrics["parity"]["images"] == 1000


def test_the_saved_model_gives_the_saved_predictions_and_metrics(run: cl.Run, small: cl.Dataset) -> None:
    probabilities = predict_probabilities(run.load_model(), small.test.images)
    np.testing.assert_allclose(probabilities, run.predictions["probabilities"], atol=1e-6)
    accuracy = (probabilities.argmax(axis=1) == small.test.labels).mean()
    assert accuracy == run.metrics["test"]["accuracy"]
    shipped = run.classifier().predict_probabilities(small.test.images)
    np.testing.assert_allclose(shipped, probabilities, atol=1e-5)


@pytest.mark.long
def test_runs_are_numbered_on_and_never_overwritten(small: cl.Dataset, tmp_path: Path) -> None:
    (tmp_path / "dense-7").mkdir()
    (tmp_path / "dense-notes").mkdir()
    recipe = replace(cl.DEFAULT, epochs=0.5)
    assert cl.train("dense", small, recipe, directory=tmp_path).path.name == "dense-8"


@pytest.mark.long
def test_the_kept_weights_are_those_of_the_best_epoch(small: cl.Dataset, tmp_path: Path) -> None:
    # A learning rate this large makes late epochs worse than early ones now and then.
    recipe = replace(cl.DEFAULT, epochs=4, learning_rate=0.05, one_cycle=False, precision="float32")
    run = cl.train("dense", small, recipe, directory=tmp_path)
    accuracies = [row["validation_accuracy"] for row in run.history]
    assert run.info["best_epochs"] == [1 + int(np.argmax(accuracies))]
    assert run.info["validation_accuracy"] == max(accuracies)


@pytest.mark.long
def test_the_article_s_recipe_trains_on_all_images_without_scaling(small: cl.Dataset, tmp_path: Path) -> None:
    run = cl.train("dense", small, replace(cl.ARTICLE, epochs=1), directory=tmp_path)
    assert run.info["images"] == {"train": 2500, "validation": 0, "test": 1000}
    assert "rescale" not in [layer.name for layer in run.load_model().layers]
    assert "validation" not in run.metrics
    assert (run.info["temperature"], run.info["threshold"]) == (1, 0)
    assert run.info["temperature_reason"] == "no validation images"
    assert run.metrics["test"]["abstention"]["coverage"] == 1


def test_any_keras_model_can_be_trained(small: cl.Dataset, tmp_path: Path) -> None:
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")],
        name="mine",
    )
    run = cl.train(model, small, replace(cl.DEFAULT, epochs=1), directory=tmp_path)
    assert run.path.name == "mine-1"
    assert run.info["temperature"] == 1  # it has no layer called logits


def test_bfloat16_is_taken_only_where_the_processor_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name : some\nflags : fpu avx512f avx512_bf16\n")
    assert "avx512_bf16" in processor_flags(cpuinfo)
    assert processor_flags(tmp_path / "nothing") == set()
    monkeypatch.setattr("convladder.training.recipes.processor_flags", lambda: {"avx2", "amx_bf16"})
    assert resolve_precision(cl.DEFAULT)[0] == "bfloat16"
    monkeypatch.setattr("convladder.training.recipes.processor_flags", lambda: {"avx2", "avx512f"})
    assert resolve_precision(cl.DEFAULT)[0] == "float32"


@pytest.mark.long
def test_without_bfloat16_a_run_falls_back_to_float32_and_says_so(
    small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convladder.training.recipes.processor_flags", lambda: {"avx2"})
    run = cl.train("dense", small, replace(cl.DEFAULT, epochs=0.1), directory=tmp_path)
    assert run.info["precision"] == "float32"
    assert "no bfloat16" in run.info["precision_reason"]


@pytest.mark.long
def test_what_is_trained_in_bfloat16_is_kept_in_float32(small: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(cl.DEFAULT, epochs=0.5, precision="bfloat16")
    run = cl.train("batchnorm", take_first(small, 300, 100, 100), recipe, directory=tmp_path)
    assert run.info["precision"] == "bfloat16"
    assert {layer.compute_dtype for layer in run.load_model().layers} == {"float32"}
    assert run.metrics["parity"]["largest_difference"] < 1e-5


def test_batches_stay_bytes_and_cover_every_image_once_an_epoch(small: cl.Dataset) -> None:
    numbered = small.train.images.copy()
    numbered[:, 0, 0, 0], numbered[:, 0, 1, 0] = np.divmod(np.arange(2000), 256)
    batches = training_batches(
        cl.Split(numbered, small.train.labels), 10, replace(cl.DEFAULT, batch_size=100), 20, seed=3
    )
    seen, first = [], None
    for images, labels in batches:
        assert images.dtype.name == "uint8"
        numbers = images.numpy()[:, 0, 0, 0].astype(int) * 256 + images.numpy()[:, 0, 1, 0]
        np.testing.assert_array_equal(labels.numpy().argmax(axis=1), small.train.labels[numbers])
        first = numbers if first is None else first
        seen.extend(numbers.tolist())
    assert sorted(seen) == list(range(2000))
    assert first is not None
    assert first.tolist() != sorted(first.tolist())


SCRIPT = """
import hashlib, sys
import numpy as np
import convladder as cl
data = cl.load_dataset(sys.argv[1])
run = cl.train("batchnorm", data, seed=5, directory=sys.argv[2], deterministic=True)
print(hashlib.sha256(b"".join(np.ascontiguousarray(w) for w in run.load_model().get_weights())).hexdigest())
"""


@pytest.mark.long
def test_the_same_seed_gives_the_same_weights_bit_for_bit(small_npz: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(small_npz), str(tmp_path)]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert len(first.strip()) == 64
    assert first == second


@pytest.mark.long
def test_an_interrupted_training_leaves_the_best_weights_so_far(small_npz: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convladder", "train", "--model", "dense", "--data", str(small_npz)]
    process = subprocess.Popen(
        [*command, "--epochs", "100000", "--runs", str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (a background job ignores it)
    )
    assert process.stderr is not None
    while "epoch 1/" not in (line := process.stderr.readline()):  # until an epoch has been scored
        assert line
    os.kill(process.pid, signal.SIGINT)
    message = process.communicate(timeout=60)[1].splitlines()[-1]
    assert process.returncode == 130
    assert "holds the best weights so far" in message
    folder = tmp_path / "dense-1"
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.npz",
        "film.npz",
        "history.csv",
        "model.keras",
        "run.json",
    }
    best = max(row["validation_accuracy"] for row in cl.Run(folder).history)
    validation = cl.load_dataset(small_npz).validation
    probabilities = predict_probabilities(cl.Run(folder).load_model(), validation.images)
    # The kept network is float32, the one that was scored may have been bfloat16.
    assert (probabilities.argmax(axis=1) == validation.labels).mean() == pytest.approx(best, abs=0.02)


def test_a_callback_that_fails_leaves_a_run_that_says_failed(small: cl.Dataset, tmp_path: Path) -> None:
    class Failing(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        cl.train("dense", small, directory=tmp_path, callbacks=[Failing()])
    assert cl.Run(tmp_path / "dense-1").info["status"] == "failed"


@pytest.mark.long
def test_views_are_averaged_in_the_model_that_is_kept(small: cl.Dataset, tmp_path: Path) -> None:
    few = take_first(small, 1000, 200, 200)
    run = cl.train("fast", few, replace(cl.DEFAULT, epochs=2, views="digits"), seed=1, directory=tmp_path)
    model = run.load_model()
    (member,) = (layer for layer in model.layers if layer.name == "member1")
    images = few.test.images
    moved = [np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))[:, 2 - y : 30 - y, 2 - x : 30 - x] for y, x in NEIGHBOURS]
    mean = np.mean([predict_probabilities(member, image) for image in moved], axis=0)
    sharpened = mean.astype(np.float64) ** (1 / run.info["temperature"])
    expected = sharpened / sharpened.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.predictions["probabilities"], expected, atol=1e-5)
    np.testing.assert_allclose(run.classifier().predict_probabilities(images), expected, atol=1e-5)
    assert run.info["macs"] == 5 * 747_456


def test_photos_are_looked_at_in_the_mirror() -> None:
    member = build_model("pool", (32, 32, 3), 4)
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    mean = (predict_probabilities(member, images) + predict_probabilities(member, images[:, :, ::-1])) / 2
    np.testing.assert_allclose(predict_probabilities(assemble([member], "photos"), images), mean, atol=1e-6)
