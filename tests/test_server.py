"""The server as a process of its own, asked over real connections: existing clients, bad ones, and a graceful end."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from typer.testing import CliRunner

import convladder as cl
from convladder import cli
from served import png, say, started


@pytest.fixture(scope="module")
def server(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    second = tmp_path_factory.mktemp("models") / "second.onnx"
    shutil.copy(run.path / "model.onnx", second)
    limits = "body=100000,connections=20,seconds=1"
    with started(str(run.path), str(second), "--limits", limits) as (_, url, port):
        yield url, port


def test_a_real_client_is_answered(server: tuple[str, int], run: cl.Run, small: cl.Dataset) -> None:
    files = [("f", (f"{n}.png", png(image))) for n, image in enumerate(small.test.images[:70])]
    with httpx.Client(base_url=server[0]) as client:
        for model in (run.path.name, "second"):
            said = client.post("/predict", params={"model": model}, files=files).json()
            assert said["model"] == model
            answered = [item["probability"] for item in said["predictions"]]
            assert answered == pytest.approx(run.predictions["probabilities"].max(axis=1)[:70].tolist(), abs=1e-5)


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("datatype", ["UINT8", "FP32"])
def test_tritonclient_infers(
    server: tuple[str, int], run: cl.Run, small: cl.Dataset, binary_in: bool, binary_out: bool, datatype: str
) -> None:
    with triton.InferenceServerClient(server[0].removeprefix("http://")) as client:
        images = small.test.images[:12].astype(np.uint8 if datatype == "UINT8" else np.float32)
        given = triton.InferInput("image", list(images.shape), datatype)
        given.set_data_from_numpy(images, binary_data=binary_in)
        wanted = triton.InferRequestedOutput("probabilities", binary_data=binary_out)
        answer = client.infer("second", [given], outputs=[wanted], request_id="7")
    assert answer.get_response()["id"] == "7"
    np.testing.assert_allclose(answer.as_numpy("probabilities"), run.predictions["probabilities"][:12], atol=1e-5)


def test_tritonclient_finds_its_way(server: tuple[str, int], run: cl.Run, small: cl.Dataset) -> None:
    with triton.InferenceServerClient(server[0].removeprefix("http://")) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("second")
        assert client.is_model_ready("second", "1")
        assert not client.is_model_ready("third")
        assert client.get_server_metadata()["name"] == "convladder"
        said = client.get_model_metadata(run.path.name)
        assert said["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 28, 28, 1]}]
        assert said["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}]
        given = triton.InferInput("image", [1, 28, 28, 1], "UINT8")
        given.set_data_from_numpy(small.test.images[:1])
        (plain,) = client.infer("second", [given]).as_numpy("probabilities")  # no outputs named: all, in binary
        assert plain.argmax() == run.predictions["probabilities"][0].argmax()
        with pytest.raises(triton.InferenceServerException, match="not a model"):
            client.infer("third", [given])


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "status", "code"),
    [
        ([b"no HTTP\r\n\r\n"], 400, "no_http"),
        ([HEAD], 408, "too_slow"),
        ([HEAD + b"Content-Length: 9\r\n\r\nabc"], 408, "too_slow"),
        ([HEAD + b"X: " + b"x" * 40_000, b"x" * 40_000], 431, "head_too_large"),
        ([HEAD + b"Content-Length: 100001\r\n\r\n" + b"x" * 100_001], 413, "body_too_large"),
        ([HEAD + b"Content-Length: 99999999999\r\n\r\n"], 413, "body_too_large"),
        ([HEAD + b"Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n"], 413, "body_too_large"),
        ([HEAD + CHUNKED] + [b"8000\r\n" + b"x" * 0x8000 + b"\r\n"] * 13, 413, "body_too_large"),
        ([HEAD + b"Connection: close\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"], 415, "no_picture"),
    ],
)
def test_a_bad_client_is_told_and_not_waited_for(
    server: tuple[str, int], parts: list[bytes], status: int, code: str
) -> None:
    answer = say(server[1], *parts)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b'"code": "%b"' % code.encode() in answer
    assert b"100 Continue" not in answer


def test_one_connection_too_many_is_told_to_come_back(server: tuple[str, int]) -> None:
    opened = [socket.create_connection(("127.0.0.1", server[1])) for _ in range(20)]
    try:
        answer = say(server[1], b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    finally:
        for connection in opened:
            connection.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in answer.lower()


def test_what_is_in_flight_is_finished_when_it_is_told_to_end(run: cl.Run, small: cl.Dataset) -> None:
    picture = png(small.test.images[0])
    with started(str(run.path)) as (process, _, port), socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(picture)
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # so the request is at work
        process.send_signal(signal.SIGTERM)
        connection.sendall(picture[:50])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        connection.sendall(picture[50:])
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert process.wait(10) == 0


def test_another_address_needs_a_key(run: cl.Run) -> None:
    refused = CliRunner().invoke(cli.app, ["serve", str(run.path), "--host", "0.0.0.0"], env={"CONVLADDER_API_KEY": ""})
    assert isinstance(refused.exception, cl.ConvladderError)
    assert "CONVLADDER_API_KEY" in str(refused.exception)
    with started(str(run.path), "--host", "0.0.0.0", CONVLADDER_API_KEY="secret") as (_, _, port):
        assert httpx.get(f"http://127.0.0.1:{port}/v2").status_code == 401
        assert httpx.get(f"http://127.0.0.1:{port}/v2", headers={"x-api-key": "secret"}).status_code == 200


def test_what_cannot_be_served_is_refused(run: cl.Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, status in (
            (["serve", str(run.path), "--port", port], 1),
            (["serve", str(run.path), str(run.path)], 2),
            (["serve", str(tmp_path)], 2),
            (["serve", str(run.path), "--limits", "bodies=1"], 2),
        ):
            error = CliRunner().invoke(cli.app, arguments).exception
            assert isinstance(error, cl.ConvladderError)
            assert error.exit_status == status
