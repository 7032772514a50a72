"""JSON of others in which one value is of another kind: every value of a request, many of a run and of a model."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnx
import pytest
from hypothesis import given

import convladder as cl
from convladder.inference.artifact import METADATA_KEY, seal
from convladder.runs.catalogue import describe_model
from convladder.runs.film import describe_film
from convladder.serving.application import create_application
from fuzzed import ODD, cases, places, with_odd
from served import Client

TENSOR = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1]}
PLAIN = {"inputs": [TENSOR | {"data": [0] * 784}], "id": "1", "outputs": [{"name": "probabilities"}]}
BINARY = {
    "inputs": [TENSOR | {"parameters": {"binary_data_size": 784}}],
    "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
    "parameters": {"binary_data_output": False},
}


@pytest.fixture(scope="module")
def client(run: cl.Run) -> Client:
    return Client(create_application({"digits": run.classifier()}))


def infer(client: Client, text: str, rest: bytes = b"") -> Any:
    headers = {"inference-header-content-length": str(len(text))}
    return client.post("/v2/models/digits/infer", content=text.encode() + rest, headers=headers)


@pytest.mark.parametrize(("asked", "rest"), [(PLAIN, b""), (BINARY, bytes(784))], ids=["plain", "binary"])
def test_no_value_of_a_request_makes_the_server_fail(client: Client, asked: dict[str, Any], rest: bytes) -> None:
    assert infer(client, json.dumps(asked), rest).status_code == 200
    for place in places(asked):
        for odd in ODD:
            answer = infer(client, json.dumps(with_odd(asked, place, odd)), rest)
            assert answer.status_code in (200, 400, 413), (place, odd, answer.text)
            assert answer.status_code == 200 or set(answer.json()) == {"error", "code", "status"}


@pytest.mark.parametrize("key", ["id", "datatype", "shape", "name"])
@pytest.mark.parametrize("depth", [90, 950, *range(960, 1000, 3), 100_000])
def test_no_depth_of_a_request_makes_the_server_fail(client: Client, key: str, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    asked = {**PLAIN, "id": "HERE"} if key == "id" else {**PLAIN, "inputs": [{**TENSOR, "data": [0], key: "HERE"}]}
    answer = infer(client, json.dumps(asked).replace('"HERE"', deep))
    assert answer.status_code == 400
    assert len(answer.text) < 1000


@pytest.mark.parametrize("length", ["0" * 5000 + "784", "9" * 5000, "٣", "-1", "1e3", "0x10"])
def test_no_stated_length_makes_the_server_fail(client: Client, length: str) -> None:
    for name in ("content-length", "inference-header-content-length"):
        answer = client.post("/v2/models/digits/infer", content=b"{}", headers={name: length.encode()})
        assert answer.status_code in (400, 413), (name, answer.text)


def test_a_name_that_begins_with_that_of_a_model_is_none(run: cl.Run) -> None:
    client = Client(create_application({"m" * 100: run.classifier()}))
    for name in ("m" * 101, "m" * 99, "m" * 30_000):
        answer = client.get(f"/v2/models/{name}")
        assert answer.status_code == 404
        assert len(answer.text) < 1000


def test_a_form_of_a_million_pieces_is_read_in_time_in_proportion(client: Client) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="1.png"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    for piece in (b"\r", b"\r\n", b"\r\n-", b"\r\n--\r"):
        answer = client.post("/predict", content=head + piece * (4_000_000 // len(piece)) + b"\r\n--b--", headers=kind)
        assert answer.status_code == 415
    for part in (b"--b\r\n", b"--b\r\nContent-Disposition: form-data; filename=a\r\n\r\n\r\n"):
        answer = client.post("/predict", content=part * 200_000 + b"--b--", headers=kind)
        assert answer.status_code in (400, 413)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_no_value_of_a_run_is_more_than_one_error(run: cl.Run, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    kept = json.loads((copy / name).read_text(encoding="utf-8"))

    @cases(40)
    @given(st.sampled_from(places(kept)), st.sampled_from(ODD))
    def read(place: tuple[Any, ...], odd: Any) -> None:
        (copy / name).write_text(json.dumps(with_odd(kept, place, odd)), encoding="utf-8")
        for use in (
            lambda: cl.Run(copy).metrics,
            lambda: cl.evaluate(copy),
            lambda: describe_film(cl.Run(copy)),
            lambda: cl.Run(copy).load_dataset(),
        ):
            try:
                use()
            except cl.ConvladderError:
                continue
        described = describe_model("copy", cl.Classifier(copy, threads=1))
        json.dumps(described, allow_nan=False)  # whatever stands beside it, the model is shown

    read()


@pytest.mark.long
def test_no_value_of_a_description_is_more_than_one_error(run: cl.Run, tmp_path: Path) -> None:
    model = onnx.load(run.path / "model.onnx")
    kept = json.loads(model.metadata_props[0].value)
    path = tmp_path / "model.onnx"

    @cases(60)
    @given(st.sampled_from(places(kept)), st.sampled_from(ODD))
    def read(place: tuple[Any, ...], odd: Any) -> None:
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(with_odd(kept, place, odd))})
        path.write_bytes(seal(model.SerializeToString()))
        try:
            classifier = cl.Classifier(path, threads=1)
        except cl.ConvladderError:
            return
        json.dumps(describe_model("model", classifier), allow_nan=False)

    read()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[: len(content) // 2],
    "a text": lambda _: b"damaged\n",
    "other bytes": lambda content: content[:100] + bytes(200) + content[300:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["run.json", "metrics.json", "predictions.npz", "examples.npz", "learned.npz", "familiarity.npz", "film.npz"],
)
def test_a_damaged_file_of_a_run_is_one_error_and_harms_no_server(
    run: cl.Run, tmp_path: Path, name: str, damage: str
) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    (copy / name).write_bytes(DAMAGES[damage]((copy / name).read_bytes()))
    client = Client(create_application({"copy": cl.Classifier(copy, threads=1)}))
    for path in ("/models.json", "/learn/lesson.json", "/film/films.json"):
        assert client.get(path).status_code == 200
    for path in ("/examples/copy", "/film/of/copy"):
        assert client.get(path).status_code in (200, 404)
    if name in ("run.json", "metrics.json", "predictions.npz"):
        with pytest.raises(cl.ConvladderError, match=name):
            cl.evaluate(copy)


def test_arrays_of_a_run_that_do_not_belong_together_are_refused(run: cl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    kept = dict(run.predictions)
    others: list[dict[str, Any]] = [
        {"labels": kept["labels"][1:]},
        {"labels": kept["labels"] + 10},
        {"labels": kept["labels"] - 10},
        {"labels": kept["labels"].astype(np.float32)},
        {"labels": np.array(3)},
        {"probabilities": kept["probabilities"][:, 1:]},
        {"probabilities": np.array(0.5)},
        {"probabilities": kept["probabilities"][:0], "labels": kept["labels"][:0]},
        {"validation_labels": kept["labels"][:5]},
    ]
    for other in others:
        np.savez(copy / "predictions.npz", **kept | other)
        with pytest.raises(cl.ConvladderError, match=r"predictions\.npz is damaged"):
            cl.evaluate(copy)
