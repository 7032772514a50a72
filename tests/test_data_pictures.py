"""Training on pictures in files: streamed from the cache, and answered alike in training and by what is shipped."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convladder as cl
import hostile
from convladder.data.checks import class_weights
from convladder.data.decoding import decode_image
from convladder.models.ladder import build_model
from convladder.training.fitting import training_batches
from convladder.training.recipes import default_recipe
from convladder.training.train import warn_of_size

RECIPE = replace(cl.DEFAULT, epochs=2, batch_size=16, precision="float32")


@pytest.fixture(scope="module")
def hostile_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile.build(tmp_path_factory.mktemp("pictures") / "data")


@pytest.mark.long
def test_training_runs_on_a_hostile_folder_and_predict_answers_as_the_test_did(
    hostile_folder: Path, tmp_path: Path
) -> None:
    data = cl.load_dataset(hostile_folder, resize="pad", image_size=24)
    run = cl.train("fast", data, RECIPE, directory=tmp_path)
    assert run.info["left_out"] == hostile.expected()[hostile.LEFT_OUT]
    classifier = run.classifier()
    assert classifier.resize == "pad"
    expected = {
        image.tobytes(): probabilities
        for image, probabilities in zip(data.test.images, run.predictions["probabilities"], strict=True)
    }
    answered = 0
    for path in sorted(hostile_folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        (answer,) = classifier.predict([path])
        if isinstance(answer, cl.ConvladderError):
            continue
        probabilities = expected.get(decode_image(path, data.input_shape, "pad").tobytes())
        if probabilities is not None:
            answered += 1
            by_name = [dict(answer.top)[name] for name in data.class_names]
            np.testing.assert_allclose(by_name, probabilities, atol=1e-5)
    assert answered >= len(data.test)


def test_batches_are_read_from_the_file_and_are_those_of_the_array(hostile_folder: Path) -> None:
    split = cl.load_dataset(hostile_folder).train
    assert isinstance(split.images, np.memmap)
    loaded = cl.Split(np.array(split.images), split.labels)
    recipe = replace(RECIPE, batch_size=8)
    for mapped, in_memory in zip(
        training_batches(split, 3, recipe, 9, seed=1), training_batches(loaded, 3, recipe, 9, seed=1), strict=True
    ):
        np.testing.assert_array_equal(mapped[0], in_memory[0])
        np.testing.assert_array_equal(mapped[1], in_memory[1])
        assert mapped[0].dtype.name == "uint8"


PEAK = """
import resource, sys
import numpy as np
from convladder.engine import import_engine
import_engine()
import convladder as cl
from dataclasses import replace
images = np.memmap(sys.argv[1], np.uint8, "r", shape=(int(sys.argv[2]), 32, 32, 3))
labels = np.arange(len(images)) % 2
part = cl.Split(images, labels)
data = cl.Dataset("many", ("a", "b"), part, cl.Split(images[:50], labels[:50]), cl.Split(images, labels))
cl.train("dense", data, replace(cl.DEFAULT, epochs=1, batch_size=512), directory=sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    peaks = []
    for count in (2_000, 100_000):  # 6 MB and 307 MB
        with (tmp_path / "images").open("wb") as file:
            file.truncate(count * 32 * 32 * 3)
        command = [sys.executable, "-c", PEAK, str(tmp_path / "images"), str(count), str(tmp_path / "runs")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 120e6


KILLED = """
import sys
from convladder.data import cache
if sys.argv.pop(1) == "stop":
    def stop(*_):
        print("building", flush=True)
        sys.stdin.read()
    cache._close_gaps = stop
from convladder.cli import main
main()
"""


@pytest.mark.long
def test_a_training_that_is_killed_while_it_decodes_can_be_repeated(
    hostile_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ["train", "--model", "dense", "--data", str(hostile_folder), "--epochs", "1", "--batch-size", "8"]
    arguments += ["--runs", str(tmp_path), "--json"]
    command = [sys.executable, "-c", KILLED]
    with subprocess.Popen(
        [*command, "stop", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "building\n"
        os.kill(process.pid, signal.SIGKILL)
    again = subprocess.run([*command, "go", *arguments], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["fingerprint"] == cl.load_dataset(hostile_folder, cache=False).fingerprint
    counts = hostile.expected()
    assert f"{sum(counts.values())} files: {counts[hostile.USED]} pictures" in again.stderr
    assert f"{counts[hostile.LEFT_OUT]} left out" in again.stderr


def test_small_classes_count_as_much_as_large_ones() -> None:
    labels = np.array([0] * 30 + [1] * 10 + [3] * 20)
    weights = class_weights(labels)
    assert weights is not None
    for label in (0, 1, 3):
        assert weights[labels[labels == label]].sum() == pytest.approx(20)
    assert weights[labels].mean() == pytest.approx(1)
    assert class_weights(np.array([0] * 19 + [1] * 10)) is None
    images = np.zeros((60, 8, 8, 1), np.uint8)
    (batch,) = training_batches(cl.Split(images, labels), 4, replace(RECIPE, batch_size=60), 1, seed=0)
    np.testing.assert_allclose(batch[2], weights[np.argmax(batch[1], axis=1)])
    (batch,) = training_batches(
        cl.Split(images, labels), 4, replace(RECIPE, batch_size=60, class_weights=False), 1, seed=0
    )
    assert len(batch) == 2


def test_the_default_augmentation_suits_the_channels() -> None:
    assert default_recipe("strong", 1).augment == "digits"
    assert default_recipe("strong", 3) == replace(
        default_recipe("strong", 1), epochs=20, weight_decay=0.25, augment="photos", views="photos"
    )
    assert default_recipe("pool", 3) == cl.DEFAULT


def test_a_model_that_will_cost_much_says_so_and_proposes_another() -> None:
    warn_of_size(build_model("dense", (96, 96, 3), 2))
    message = r"dense has 59,304,002 parameters for pictures of 96×96×3; .* 1\.2 GB.* residual has 43,154"
    with pytest.warns(UserWarning, match=message):
        warn_of_size(build_model("dense", (96, 96, 3), 2, hidden=2000))


@pytest.mark.long
def test_photos_are_trained_with_weights_and_augmentation(hostile_folder: Path, tmp_path: Path) -> None:
    data = cl.load_dataset(hostile_folder)
    recipe = replace(RECIPE, augment="photos")
    run = cl.train("fast", data, recipe, directory=tmp_path)
    assert run.info["recipe"]["class_weights"] is True
    assert np.isfinite([row["loss"] for row in run.history]).all()
