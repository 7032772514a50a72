"""What a model file may not do, and what it may not say of itself."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import convladder as cl
from convladder.inference.artifact import read_artifact, seal


def external(tensor: Any) -> None:
    """Let a tensor's values lie in weights.bin."""
    tensor.data_type, tensor.data_location = onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL
    tensor.dims.append(1)
    where = tensor.external_data.add()
    where.key, where.value = "location", "weights.bin"


def ways_to_a_tensor(descriptor: Any, seen: tuple[Any, ...] = ()) -> Iterator[tuple[str, ...]]:
    """By ONNX's own schema, every path of fields from a message to a tensor, no message more than twice on it."""
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or seen.count(inner) > 1:
            continue
        if inner.name == "TensorProto":
            yield (field.name,)
        for rest in ways_to_a_tensor(inner, (*seen, inner)):
            yield (field.name, *rest)


WAYS = list(ways_to_a_tensor(onnx.ModelProto.DESCRIPTOR, (onnx.ModelProto.DESCRIPTOR,)))


def test_the_schema_leads_to_tensors_in_many_places() -> None:
    for way in (
        ("graph", "initializer"),
        ("graph", "sparse_initializer", "indices"),
        ("graph", "node", "attribute", "t"),
        ("graph", "node", "attribute", "graphs", "node", "attribute", "t"),
        ("functions", "node", "attribute", "tensors"),
        ("functions", "attribute_proto", "sparse_tensors", "values"),
        ("training_info", "algorithm", "initializer"),
    ):
        assert way in WAYS


def test_external_data_is_refused_wherever_the_schema_has_a_tensor(run: cl.Run, tmp_path: Path) -> None:
    content = (run.path / "model.onnx").read_bytes()
    for way in WAYS:
        model = message = onnx.ModelProto.FromString(content)
        for name in way:
            field = getattr(message, name)
            message = field.add() if hasattr(field, "add") else field
        external(message)
        (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
        with pytest.raises(cl.ConvladderError, match=r"model\.onnx keeps weights in another file"):
            read_artifact(tmp_path / "model.onnx")


def test_external_data_that_is_there_is_refused_by_all_that_load_a_model(
    run: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convladder.cli import main

    model = onnx.load(run.path / "model.onnx")
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    weights.ClearField("raw_data")
    weights.ClearField("dims")
    external(weights)
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    (tmp_path / "run.json").write_text((run.path / "run.json").read_text())
    monkeypatch.chdir(tmp_path)
    for arguments in (["predict", ".", "x.png"], ["serve", "model.onnx"], ["explain", "model.onnx", "x.png"],
                      ["evaluate", ".", "--data", "mnist"], ["export", "."]):  # fmt: skip
        monkeypatch.setattr("sys.argv", ["convladder", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2
        assert len(said) == 1
        assert "keeps weights in another file (external data)" in said[0]


def test_a_field_whose_number_others_would_read_as_another_is_refused(tmp_path: Path) -> None:
    # Of the tag's 35 bits protobuf keeps 32: field 7, the graph, which holds a tensor in another file.
    model = onnx.ModelProto()
    external(model.graph.initializer.add())
    tagged = model.SerializeToString()
    assert tagged[0] == 7 << 3 | 2
    (tmp_path / "model.onnx").write_bytes(bytes([0x80 | tagged[0], 0x80, 0x80, 0x80, 0x10]) + tagged[1:])
    with pytest.raises(cl.ConvladderError, match="not ONNX: a field without a number"):
        read_artifact(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": "warm"}, "has the temperature 'warm'. Expected a number"),
        ({"temperature": None}, "has the temperature None"),
        ({"threshold": float("nan")}, "has the threshold nan"),
        ({"threshold": -1}, "has the threshold -1"),
    ],
)
def test_numbers_that_are_none_are_refused(
    run: cl.Run, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    model = onnx.load(run.path / "model.onnx")
    stored = json.loads(model.metadata_props[0].value) | changes
    onnx.helper.set_model_props(model, {"convladder": json.dumps(stored)})
    (tmp_path / "model.onnx").write_bytes(seal(model.SerializeToString()))
    with pytest.raises(cl.ConvladderError, match=message):
        cl.Classifier(tmp_path / "model.onnx")


def test_a_graph_without_outputs_and_a_description_that_is_no_text_are_refused(run: cl.Run, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(b'"digest": "', b'"dig\xffst": "'))
    with pytest.raises(cl.ConvladderError, match="Could not load"):
        cl.Classifier(path)
    del model.graph.output[:]
    path.write_bytes(seal(model.SerializeToString()))
    with pytest.raises(cl.ConvladderError, match="gives no probabilities"):
        cl.Classifier(path)
