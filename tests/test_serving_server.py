"""The server as a process of its own, asked over real connections: existing clients, bad ones, and a graceful end."""

import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from typer.testing import CliRunner

import convladder as cl
from convladder import cli
from served import Wire, png, say, started


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
        assert said["outputs"] == [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "familiarity", "datatype": "FP32", "shape": [-1]},
        ]
        given = triton.InferInput("image", [1, 28, 28, 1], "UINT8")
        given.set_data_from_numpy(small.test.images[:1])
        every = client.infer("second", [given])  # no outputs named: all, in binary
        (plain,) = every.as_numpy("probabilities")
        assert plain.argmax() == run.predictions["probabilities"][0].argmax()
        (familiarity,) = every.as_numpy("familiarity")
        assert 0 <= familiarity <= 1
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


@pytest.mark.long
@pytest.mark.parametrize(
    ("told", "status", "said"), [(signal.SIGTERM, 0, ""), (signal.SIGINT, 130, "Error: Interrupted.\n")]
)
def test_what_is_in_flight_is_finished_when_it_is_told_to_end(
    run: cl.Run, small: cl.Dataset, told: signal.Signals, status: int, said: str
) -> None:
    """By SIGTERM or Ctrl-C, with an idle connection, a half-sent head and a request at work."""
    picture = png(small.test.images[0])
    with started(str(run.path)) as (process, _, port), socket.create_connection(("127.0.0.1", port), 20) as connection:
        head = HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(picture)
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # so the request is at work
        with Wire(port) as idle, Wire(port) as half:
            half.send(HEAD)
            idle.settle()
            process.send_signal(told)
            assert idle.rest() == b""
            assert half.rest() == b""
        connection.sendall(picture[:50])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        connection.sendall(picture[50:])
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert process.wait(10) == status
        assert process.stderr
        assert process.stderr.read() == said


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


def test_a_second_ctrl_c_ends_it_at_once(run: cl.Run) -> None:
    with started(str(run.path)) as (process, _, port), Wire(port) as wire:
        wire.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert wire.file.readline().startswith(b"HTTP/1.1 100 ")
        with Wire(port) as idle:
            process.send_signal(signal.SIGINT)
            assert idle.rest() == b""  # the first has been noted
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130  # and not after the 30 seconds that the request may take


@pytest.mark.parametrize(
    "path",
    [
        "/page/../page.py",
        "/page/../../errors.py",
        "/page/%2e%2e/page.py",
        "/page/..%2fpage.py",
        "/page/..%5cpage.py",
        "/page/main.js/../../page.py",
        "/page/main.js%00.html",
        "//page.py",
        "/examples/../page.py",
        "/examples/..%2f..%2fpage.py",
        "/../../../../../../etc/passwd",
        "//etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_page(server: tuple[str, int], path: str) -> None:
    """As bytes: HTTP clients tidy a path before they send it."""
    answer = say(server[1], f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"import" not in answer
    assert b"root:" not in answer


def open_files(url: str) -> float:
    """How many files and connections the server has open."""
    (line,) = re.findall(r"^process_open_fds (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(line)


def test_a_client_that_does_not_read_its_answers_is_cut_off(server: tuple[str, int]) -> None:
    requests = b"GET /page/main.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000  # answers beyond all buffers
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", server[1]))
        before = open_files(server[0])
        connection.sendall(requests)
        until = time.monotonic() + 20
        while open_files(server[0]) >= before:  # meanwhile others are answered
            assert time.monotonic() < until, "it is waited for"
    assert "convladder_requests_in_flight 1.0" in httpx.get(f"{server[0]}/metrics").text  # this one


@pytest.mark.parametrize(
    "head",
    [HEAD + b"X: ", HEAD + b"Content-Length: 90000\r\n\r\n", HEAD + CHUNKED + b"ffff\r\n"],
    ids=["head", "body", "chunk"],
)
def test_a_client_that_sends_byte_by_byte_is_not_waited_for(server: tuple[str, int], head: bytes) -> None:
    until = time.monotonic() + 20
    with Wire(server[1]) as wire:
        wire.send(head)
        while not select.select([wire.connection], [], [], 0.05)[0]:
            wire.send(b"x")
            assert time.monotonic() < until, "it is waited for"
        assert wire.rest().startswith(b"HTTP/1.1 408 ")


@pytest.mark.long
def test_too_many_requests_and_too_much_work_are_told_when_to_come_back(run: cl.Run) -> None:
    """A request that would take minutes is ended by its seconds; while it is at work, another is turned away."""
    picture = png(np.zeros((5000, 5000, 1), np.uint8))
    form = httpx.Request("POST", "http://localhost/predict", files=[("f", ("x.png", picture))] * 400)
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    limits = "requests=1,seconds=3,images=400,pixels=100000000000"
    with started(str(run.path), "--limits", limits) as (_, url, port), Wire(port) as wire:
        assert httpx.get(f"{url}/v2").status_code == 200
        wire.send(f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + form.read())
        until = time.monotonic() + 20
        while (turned_away := httpx.get(f"{url}/v2")).status_code == 200:
            assert time.monotonic() < until, "it is not at work"
        assert (turned_away.status_code, turned_away.json()["code"]) == (503, "busy")
        assert turned_away.headers["retry-after"] == "1"
        status, headers, body = wire.answer()
        assert status == 503
        assert b"longer than 3 s" in body
        assert headers["retry-after"] == "5"
        assert httpx.get(f"{url}/v2").status_code == 200


def test_what_is_just_within_a_limit_is_answered(server: tuple[str, int], run: cl.Run) -> None:
    picture = HEAD + b"Connection: close\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
    assert say(server[1], picture).startswith(b"HTTP/1.1 415 ")  # read, and no picture
    opened = [Wire(server[1]) for _ in range(19)]
    try:
        assert say(server[1], b"GET /v2 HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    finally:
        for wire in opened:
            wire.__exit__()


def test_bodies_that_fill_the_memory_are_told_to_come_back(run: cl.Run) -> None:
    """Sixteen of the largest bodies fit, one byte more does not; those that are there are answered."""
    head = HEAD + b"Connection: close\r\nContent-Length: 1000\r\n\r\n"
    with started(str(run.path), "--limits", "body=1000,seconds=20") as (_, _, port):
        wires = [Wire(port) for _ in range(17)]
        try:
            for wire in wires[:16]:
                wire.send(head + b"x" * 999)
            wires[16].send(head + b"x" * 16)
            wires[0].settle()
            wires[16].send(b"x")
            assert wires[16].answer()[0] == 503
            for wire in wires[:16]:
                wire.send(b"x")
                assert wire.rest().startswith(b"HTTP/1.1 415 ")
        finally:
            for wire in wires:
                wire.__exit__()
