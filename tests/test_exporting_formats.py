"""The parity gate: open for every rung, shut for a model that answers otherwise."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import convladder as cl
from convladder.data.dataset import Split
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting import int8, parity
from convladder.exporting.formats import export
from convladder.exporting.onnx_file import export_onnx
from convladder.exporting.parity import parity_images
from convladder.models.backbone import PRETRAINED
from convladder.models.ladder import MODELS, build_model
from convladder.training.assembling import assemble

METADATA = {"class_names": [str(label) for label in range(10)], "input_shape": (28, 28, 1)}


@pytest.mark.long
@pytest.mark.parametrize("rung", MODELS)
def test_every_rung_passes_the_gate(rung: str, small: cl.Dataset, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = build_model(rung, (28, 28, 1), 10)
    images = small.test.images[: 100 if rung in PRETRAINED else 1000]  # which are enlarged inside
    expected = predict_probabilities(model, images)
    parity = export_onnx(model, tmp_path / "model.onnx", METADATA, images, expected)
    assert parity["images"] == len(images)
    assert parity["label_flips"] == 0
    answers = cl.Classifier(tmp_path / "model.onnx").predict_probabilities(images[:3])
    np.testing.assert_allclose(answers, expected[:3], atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["average", "min"])
def test_every_pooling_passes_the_gate(pooling: str, small: cl.Dataset, tmp_path: Path) -> None:
    model = build_model("pool", (28, 28, 1), 10, pooling=pooling)
    expected = predict_probabilities(model, small.test.images)
    export_onnx(model, tmp_path / "model.onnx", METADATA, small.test.images, expected)
    assert (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("error", [2e-4, float("nan")])
def test_the_gate_refuses_a_model_that_answers_otherwise(error: float, small: cl.Dataset, tmp_path: Path) -> None:
    model = build_model("dense", (28, 28, 1), 10)
    expected = predict_probabilities(model, small.test.images)
    expected[500, 3] += error
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        export_onnx(model, tmp_path / "model.onnx", METADATA, small.test.images, expected)
    assert raised.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


def test_the_gate_takes_a_thousand_images_where_there_are_as_many(small: cl.Dataset) -> None:
    assert len(parity_images(small)) == 1000
    few = replace(small, test=Split(small.test.images[:60], small.test.labels[:60]))
    assert len(parity_images(few)) == 1000
    assert len(parity_images(replace(few, train=few.test, validation=few.test))) == 180


@pytest.mark.long
@pytest.mark.parametrize("format_", ["openvino", "litert", "savedmodel"])
def test_a_format_answers_as_keras_and_brings_its_description(stored: cl.Run, tmp_path: Path, format_: str) -> None:
    account = export(stored, format_, tmp_path / "model")
    assert account["images"] == 1000
    assert account["label_flips"] == 0
    told = json.loads((tmp_path / "model" / "convladder.json").read_text())
    assert told["class_names"] == list(stored.classifier().class_names)
    assert told["stages"] == ["hidden1", "hidden2"]
    export(stored, format_, tmp_path / "model")  # its own former export is replaced
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_format_that_differs_is_not_written(stored: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        export(stored, "savedmodel", tmp_path / "model")
    assert raised.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_export_is_left_alone(stored: cl.Run, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(cl.ConvladderError, match="is not an export"):
        export(stored, "savedmodel", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.long
@pytest.mark.parametrize("format_", ["onnx", "savedmodel", "litert", "openvino", "triton"])
def test_a_full_disk_is_one_line_and_leaves_nothing(stored: cl.Run, tmp_path: Path, format_: str) -> None:
    """TensorFlow and OpenVINO have exceptions of their own for it; a limit on the size of files stands for the disk."""
    command = [sys.executable, "-m", "convladder", "export", str(stored.path), "--format", format_]
    ended = subprocess.run(
        [*command, "--output", str(tmp_path / "exported")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
        # Without coverage, whose own file would be the first that does not fit.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("Error: Could not write "), ended.stderr
    assert list(tmp_path.iterdir()) == [] or list((tmp_path / "exported").iterdir()) == []


def test_a_missing_runtime_names_its_extra(stored: cl.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(cl.ConvladderError, match=r"pip install 'convladder\[openvino\]'"):
        export(stored, "openvino")


@pytest.mark.long
def test_eight_bits_are_kept_only_where_they_pay(
    stored: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "SECONDS_A_ROUND", 0.002)
    monkeypatch.setattr(int8, "LARGEST_DROP", -1.0)  # whatever is lost is too much
    with pytest.raises(cl.ConvladderError, match=r"accuracy .* instead of .* µs .* nothing was written") as raised:
        export(stored, "onnx", tmp_path / "small.onnx", int8=True)
    assert raised.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(int8, "LARGEST_DROP", 0.05)
    monkeypatch.setattr(int8, "ROUNDS_TO_WIN", 0)
    account = export(stored, "onnx", tmp_path / "small.onnx", int8=True)
    assert account["accuracy"] > account["float_accuracy"] - 0.05
    assert (tmp_path / "small.onnx").stat().st_size < 0.5 * (stored.path / "model.onnx").stat().st_size
    assert cl.Classifier(tmp_path / "small.onnx").metadata["quantized"] == "int8"


@pytest.mark.long
def test_an_average_of_networks_shows_the_stages_of_the_first(small: cl.Dataset, tmp_path: Path) -> None:
    members = [build_model("tiny", (28, 28, 1), 10) for _ in range(2)]
    model = assemble(members)
    images = small.test.images[:20]
    export_onnx(model, tmp_path / "model.onnx", METADATA, images, predict_probabilities(model, images))
    maps = cl.Classifier(tmp_path / "model.onnx").feature_maps(images)
    expected = keras.Model(members[0].inputs[0], members[0].get_layer("stage2_relu").output)(images.astype(np.float32))
    assert list(maps) == ["stage1", "stage2", "stage3"]
    np.testing.assert_allclose(maps["stage2"], expected, atol=1e-4)


@pytest.mark.long
def test_a_network_with_views_that_is_read_in_a_new_process_is_exported(small: cl.Dataset, tmp_path: Path) -> None:
    assemble([build_model("tiny", (28, 28, 1), 10)], "photos", 2.0).save(tmp_path / "model.keras")
    keras.backend.clear_session()  # operations are numbered from 1 again, as in a new process
    model = keras.saving.load_model(tmp_path / "model.keras")
    images = small.test.images[:20]
    export_onnx(model, tmp_path / "model.onnx", METADATA, images, predict_probabilities(model, images))
    assert list(cl.Classifier(tmp_path / "model.onnx").feature_maps(images)) == ["stage1", "stage2", "stage3"]
