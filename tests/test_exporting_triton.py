"""The model repository for Triton, read with Triton's own schema and run with the runtime of its backend."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import convladder as cl
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting import parity
from convladder.exporting.formats import export
from convladder.exporting.triton import describe, export_triton
from convladder.inference.classifier import Prediction
from served import png, started

TYPES = {"tensor(float)": model_config_pb2.TYPE_FP32}


def read_config(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def agrees(config: Any, session: onnxruntime.InferenceSession) -> None:
    """What Triton's backend compares when it loads a model: each tensor, after a first side of any length."""
    for told, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in told] == [tensor.name for tensor in found]
        for tensor, actual in zip(told, found, strict=True):
            batch, *sides = actual.shape
            assert isinstance(batch, str)
            assert tensor.data_type == TYPES[actual.type]
            assert len(tensor.dims) > 0  # Triton takes no empty ones
            assert list(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims) == sides


def test_a_repository_is_what_triton_loads(stored: cl.Run, tmp_path: Path) -> None:
    account = export(stored, "triton", tmp_path / "models")
    folder = tmp_path / "models" / stored.path.name
    assert account["path"] == str(folder)
    assert (account["version"], account["images"], account["label_flips"]) == (1, 1000, 0)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == [
        "1/model.onnx",
        "config.pbtxt",
        "convladder.json",
        "labels.txt",
    ]
    config = read_config(folder)
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    agrees(config, session)
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 128
    assert config.HasField("dynamic_batching")
    assert [group.kind for group in config.instance_group] == [model_config_pb2.ModelInstanceGroup.KIND_CPU]
    assert [output.name for output in config.output] == ["probabilities", "familiarity"]  # and no feature maps
    assert [output.label_filename for output in config.output] == ["labels.txt", ""]
    assert (folder / "labels.txt").read_text().splitlines() == list(stored.classifier().class_names)
    images = stored.load_dataset().test.images[: config.max_batch_size]
    probabilities, familiarity = session.run(None, {"image": images.astype(np.float32)})
    np.testing.assert_allclose(probabilities, stored.predictions["probabilities"][: len(images)], atol=1e-5)
    expected = stored.classifier().answer(images).familiarity
    assert expected is not None
    np.testing.assert_allclose(familiarity, expected, atol=1e-5)
    assert cl.Classifier(folder / "1" / "model.onnx").class_names == stored.classifier().class_names


def test_a_further_export_is_a_further_version(stored: cl.Run, tmp_path: Path) -> None:
    export(stored, "triton", tmp_path)
    folder = tmp_path / stored.path.name
    first = (folder / "1" / "model.onnx").read_bytes()
    edited = (folder / "config.pbtxt").read_text().replace("count: 1", "count: 4")
    (folder / "config.pbtxt").write_text(edited)
    (tmp_path / "other" / "1").mkdir(parents=True)  # another model
    assert export(stored, "triton", tmp_path)["version"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["other", stored.path.name])
    assert (folder / "1" / "model.onnx").read_bytes() == first
    assert (folder / "config.pbtxt").read_text() == edited
    agrees(read_config(folder), onnxruntime.InferenceSession(folder / "2" / "model.onnx"))


def triton(run: cl.Run, repository: Path, **described: Any) -> dict[str, Any]:
    """Export, with another description."""
    model, images = run.load_model(), run.load_dataset().test.images[:20]
    metadata = run.classifier().metadata | described
    return export_triton(run, repository, metadata, model, images, predict_probabilities(model, images))


@pytest.mark.long
def test_other_classes_are_no_version_of_the_same_model(stored: cl.Run, tmp_path: Path) -> None:
    triton(stored, tmp_path)
    folder = tmp_path / stored.path.name
    with pytest.raises(cl.ConvladderError, match=r"other classes.*name another repository"):
        triton(stored, tmp_path, class_names=list("abcdefghij"))
    with pytest.raises(cl.ConvladderError, match="other resizing"):
        triton(stored, tmp_path, fit="pad")
    assert [path.name for path in folder.iterdir() if path.is_dir()] == ["1"]
    assert json.loads((folder / "convladder.json").read_text())["class_names"] == list("0123456789")
    assert list(tmp_path.iterdir()) == [folder]


def test_every_class_is_one_line_of_the_labels(stored: cl.Run, tmp_path: Path) -> None:
    names = ["two\nlines", "return\r", "é", "", "\udce9", " spaces ", "6", "7", "8", "9"]
    triton(stored, tmp_path, class_names=names)
    lines = (tmp_path / stored.path.name / "labels.txt").read_bytes().decode().split("\n")
    assert lines == [r"two\nlines", r"return\r", "é", "", r"\udce9", " spaces ", "6", "7", "8", "9", ""]


def test_a_model_that_differs_or_a_folder_of_others_is_left_alone(
    stored: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / stored.path.name
    folder.mkdir()
    (folder / "config.pbtxt").write_text("mine")
    with pytest.raises(cl.ConvladderError, match="is not an export"):
        triton(stored, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["config.pbtxt"]
    monkeypatch.setattr(parity, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        triton(stored, tmp_path / "models")
    assert raised.value.exit_status == 3
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.long
def test_the_documented_client_gets_what_the_classifier_says(
    stored: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From `serve`, which speaks the same protocol."""
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Path("digits/0.png").write_bytes(png(stored.load_dataset().test.images[0]))
    page = (Path(__file__).parents[1] / "docs" / "ship.md").read_text()
    (block,) = (block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "tritonclient" in block)
    triton(stored, Path("models"))
    found: dict[str, Any] = {}
    with started(str(stored.path)) as (_, url, _):
        server = url.removeprefix("http://")
        exec(block.replace("localhost:8000", server).replace("fast-1", stored.path.name), found)
    (expected,) = stored.classifier().predict("digits/0.png")
    assert isinstance(expected, Prediction)
    assert found["label"] == expected.label
    assert found["familiarity"] == pytest.approx(expected.familiarity, abs=1e-5)


def test_a_file_of_before_is_described_as_well(tmp_path: Path) -> None:
    """It has no familiarity, and feature maps."""
    file = Path(__file__).parent / "data" / "before-familiarity.onnx"
    (tmp_path / "config.pbtxt").write_text(describe(file))
    agrees(read_config(tmp_path), onnxruntime.InferenceSession(file))
