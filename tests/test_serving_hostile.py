"""Hostile clients, and servers that are stopped or killed: what other clients notice of it."""

import json
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
from hostile_requests import abandoned, refused, send, slow, taken
from http_load import upload

import convladder as cl
from served import Wire, free_port, nginx, png, started

DOCUMENTATION = Path(__file__).parents[1] / "docs" / "serve.md"
PICTURE = png(np.arange(784, dtype=np.uint8).reshape(28, 28, 1))


@pytest.fixture(scope="module")
def server(run: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    model = tmp_path_factory.mktemp("models") / "fast.onnx"
    shutil.copy(run.path / "model.onnx", model)
    with started(str(model)) as found:
        yield found


def counted(url: str, name: str) -> float:
    (line,) = re.findall(rf"^{name} (\S+)$", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    return float(line)


def test_every_hostile_request_gets_a_4xx_of_our_shape(server: tuple[subprocess.Popen[str], str, int]) -> None:
    wrong = {}
    for kind, request in refused("fast", PICTURE).items():
        with Wire(server[2]) as wire:
            wire.send(request.content)
            status, _, body = wire.answer()
        said = json.loads(body)
        if not (400 <= status < 500 or kind == "another coding") or said.keys() != {"error", "code", "status"}:
            wrong[kind] = (status, said)
    assert wrong == {}
    assert counted(server[1], "convladder_requests_in_flight") == 1  # this one


def test_every_odd_and_sound_request_gets_its_answer(server: tuple[subprocess.Popen[str], str, int]) -> None:
    wrong = {}
    for kind, request in taken(PICTURE).items():
        with Wire(server[2]) as wire:
            wire.send(request.content)
            status, _, body = wire.answer()
        if status != 200:
            wrong[kind] = (status, body[:200])
    assert wrong == {}


@pytest.mark.long
def test_clients_that_leave_in_the_middle_leave_nothing_behind(run: cl.Run) -> None:
    """Neither connections, nor requests at work, nor room for bodies (16 large ones together), nor lines in the log."""
    with started(str(run.path)) as (process, url, port):
        before = counted(url, "process_open_fds")
        for _ in range(20):
            for request in abandoned(PICTURE).values():
                with Wire(port) as wire:
                    wire.send(request.content)
        until = time.monotonic() + 60
        while counted(url, "process_open_fds") > before or counted(url, "convladder_requests_in_flight") > 1:
            assert time.monotonic() < until, "something is left"
        with Wire(port) as wire:
            wire.send(send(bytes(10_000_000)))
            assert wire.answer()[0] == 415  # read, and no picture
        process.terminate()
        assert process.stderr
        assert process.stderr.read() == ""


def test_a_form_that_takes_long_to_read_keeps_nobody_waiting(server: tuple[subprocess.Popen[str], str, int]) -> None:
    _, url, port = server
    with Wire(port) as wire:
        wire.send(slow(3_000_000))
        until = time.monotonic() + 30
        while counted(url, "convladder_requests_in_flight") < 2:  # it is at work while others are answered
            assert time.monotonic() < until
        assert wire.answer()[0] == 400


def test_a_server_that_was_stopped_for_a_while_answers_everyone(
    server: tuple[subprocess.Popen[str], str, int],
) -> None:
    """As by Ctrl-Z, or on a machine without a free core: with requests half sent, whole, and connections not taken."""
    process, _, port = server
    whole = upload([PICTURE])
    half = [Wire(port) for _ in range(8)]
    try:
        for wire in half:
            wire.send(whole[:200])
        half[0].settle()
        process.send_signal(signal.SIGSTOP)
        new = [Wire(port) for _ in range(8)]
        for wire in half:
            wire.send(whole[200:])
        for wire in new:
            wire.send(whole)
        process.send_signal(signal.SIGCONT)
        assert [wire.answer()[0] for wire in half + new] == [200] * 16
        for wire in new:
            wire.__exit__()
    finally:
        process.send_signal(signal.SIGCONT)
        for wire in half:
            wire.__exit__()


@pytest.mark.long
def test_of_two_servers_behind_a_proxy_one_may_be_killed(run: cl.Run, tmp_path: Path) -> None:
    """What it held gets a 503 of our shape that says when to come back; everyone else is answered by the other."""
    blocks = re.findall(r"^```text\n(upstream .*?)^```", DOCUMENTATION.read_text(), re.MULTILINE | re.DOTALL)
    (block,) = blocks
    port = free_port()
    with started(str(run.path)) as (first, _, behind), started(str(run.path)) as (_, _, other):
        for stated, ours in (
            ("listen 80;", f"listen 127.0.0.1:{port};"),
            ("127.0.0.1:8000", f"127.0.0.1:{behind}"),
            ("127.0.0.1:8001", f"127.0.0.1:{other}"),
        ):
            assert block.count(stated) == 1
            block = block.replace(stated, ours)
        with nginx(tmp_path, block, port):
            first.send_signal(signal.SIGSTOP)  # so that it holds requests
            wires = [Wire(port) for _ in range(20)]
            for wire in wires:
                wire.send(upload([PICTURE]))
            readable: list[socket.socket] = []
            until = time.monotonic() + 30
            while len(readable) < 8:  # the other has answered its own, so nginx has passed on those of the first
                assert time.monotonic() < until
                readable = select.select([wire.connection for wire in wires], [], [], 0.1)[0]
            first.kill()
            answers = [wire.answer() for wire in wires]
            for wire in wires:
                wire.__exit__()
            statuses = [status for status, _, _ in answers]
            assert set(statuses) == {200, 503}
            for status, headers, body in answers:
                if status == 503:
                    assert headers["retry-after"] == "1"
                    assert json.loads(body)["code"] == "busy"
            for _ in range(10):
                with Wire(port) as wire:
                    wire.send(upload([PICTURE]))
                    assert wire.answer()[0] == 200
