"""What the tests of the server share."""

import asyncio
import contextlib
import io
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image
from starlette.types import ASGIApp

from browsing import skip_without


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A picture's file, from pixels of shape (height, width, channels)."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return file.getvalue()


class Client:
    """Asks an application in this process."""

    def __init__(self, app: ASGIApp, base_url: str = "http://127.0.0.1") -> None:
        self.app, self.base_url = app, base_url

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url) as client:
                return await client.request(method, path, **content)

        return asyncio.run(ask())

    def get(self, path: str, **content: Any) -> httpx.Response:
        return self.request("GET", path, **content)

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self.request("POST", path, **content)


@contextlib.contextmanager
def started(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A real server on a free port of loopback: its process, its URL and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "convladder", "serve", *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert process.stderr
        assert select.select([process.stderr], [], [], 60)[0], "it does not say where it listens"
        line = process.stderr.readline()
        found = re.search(r"http://\S+:(\d+)", line)
        assert found, line + process.stderr.read()
        yield process, found[0], int(found[1])
    finally:
        process.terminate()  # and not killed, so that coverage counts what it ran
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextlib.contextmanager
def nginx(folder: Path, server: str, port: int) -> Iterator[None]:
    """A real nginx with this `server` block, ready at the port."""
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    main = f"{user} daemon off; pid {folder}/pid; worker_processes 1; events {{}}"
    (folder / "nginx.conf").write_text(f"{main} http {{ access_log off; {paths} {server} }}")
    command = [
        skip_without("nginx"),
        "-p",
        str(folder),
        "-e",
        str(folder / "error.log"),
        "-c",
        str(folder / "nginx.conf"),
    ]
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < until, "nginx does not listen"
        yield
    finally:
        process.terminate()
        process.wait(20)


class Wire:
    """One connection to a server, byte by byte."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.connection.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.connection.close()

    def send(self, *segments: bytes) -> None:
        """Send each when the server has read the one before; what it has answered can be read though it has closed."""
        self.connection.sendall(segments[0])
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for segment in segments[1:]:
                self.settle()
                self.connection.sendall(segment)

    def settle(self) -> None:
        """Wait until the server has read what was sent: it turns to connections in the order of their events."""
        with Wire(self.port) as other:
            other.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            other.rest()

    def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """The next answer: status, headers and body."""
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        length = 0 if method == "HEAD" else int(headers["content-length"])
        return status, headers, self.file.read(length)

    def rest(self) -> bytes:
        """All that is answered until the server closes."""
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it has closed, and something was sent after that
            while received := self.file.read1():
                answer += received
        return answer


def say(port: int, *segments: bytes) -> bytes:
    """What is answered to bytes, until the server closes."""
    with Wire(port) as wire:
        wire.send(*segments)
        return wire.rest()
