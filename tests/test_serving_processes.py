"""`serve --workers`: real processes behind one port, that are stopped, killed and replaced."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, cast

import httpx
import numpy as np
import psutil
import pytest
from http_load import run_load, upload

import convladder as cl
from convladder.errors import ConvladderError
from convladder.files import scratch_folder
from convladder.inference.artifact import NO_DIGEST, seal
from convladder.processors import count_processors
from convladder.serving.limits import Limits
from convladder.serving.processes import run_workers
from served import Wire, png, started

FILE = Path(__file__).parent / "data" / "before-familiarity.onnx"
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
ASKED = 'convladder_requests_total{route="/v2",status="200"}'
KEY = {"x-api-key": "secret"}
SECONDS = 60  # for anything to happen


class Server:
    """A server with several workers."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, port: int) -> None:
        self.process, self.url, self.port = process, url, port
        self.folder = Path(tempfile.gettempdir())
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.Client(headers=KEY, timeout=SECONDS, limits=limits)

    @property
    def workers(self) -> list[psutil.Process]:
        """Those that there are, the oldest first."""
        children = psutil.Process(self.process.pid).children()
        return sorted((child for child in children if is_worker(child)), key=lambda child: child.create_time())

    def get(self, path: str) -> httpx.Response:
        return self.client.get(f"{self.url}{path}")  # over a connection of its own

    def counted(self, metric: str) -> float:
        """Its value; 0 where nothing was counted."""
        lines = self.get("/metrics").text.splitlines()
        return sum(float(line.removeprefix(metric)) for line in lines if line.startswith(f"{metric} "))

    def stderr(self) -> IO[str]:
        return cast(IO[str], self.process.stderr)


def is_worker(process: psutil.Process) -> bool:
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:
        return False


@contextmanager
def suspended(worker: psutil.Process) -> Iterator[None]:
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


def wait_until(happened: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < until


@contextmanager
def several(*arguments: str, model: Path = FILE, **environment: str) -> Iterator[Server]:
    """A server; at the end no process of it is left."""
    with started(str(model), *arguments, **environment) as (process, url, port):
        family = psutil.Process(process.pid).children(recursive=True)
        server = Server(process, url, port)
        try:
            yield server
        finally:
            server.client.close()
            if process.poll() is None:
                family += psutil.Process(process.pid).children(recursive=True)
                process.send_signal(signal.SIGTERM)
                process.wait(SECONDS)
        assert not psutil.wait_procs(family, SECONDS)[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("temporary")
    limits = "body=1000000,images=400,pixels=100000000000"
    options = ("--workers", "2", "--host", "0.0.0.0", "--limits", limits)
    with several(*options, TMPDIR=str(folder), CONVLADDER_API_KEY="secret") as server:
        server.folder = folder
        yield server
    assert list(folder.iterdir()) == []


def ask(server: Server, times: int) -> None:
    for _ in range(times):
        assert server.get("/v2").status_code == 200


@pytest.mark.long
def test_either_worker_answers_and_the_counts_are_of_both(pair: Server) -> None:
    before, memory = pair.counted(ASKED), 0.0
    for worker in pair.workers:
        with suspended(worker):  # so that the other one answers
            ask(pair, 20)
            memory = max(memory, sum(one.memory_info().rss for one in pair.workers))
    assert pair.counted(ASKED) == before + 40
    assert pair.counted('convladder_request_seconds_count{route="/v2"}') == before + 40
    wait_until(lambda: pair.counted("convladder_requests_in_flight") == 1)  # this one; the last is counted off late
    assert pair.counted("process_resident_memory_bytes") > 0.9 * memory


@pytest.mark.long
def test_key_and_limits_hold_in_every_worker(pair: Server) -> None:
    for worker in pair.workers:
        with suspended(worker):
            assert httpx.get(f"{pair.url}/v2").status_code == 401
            too_large = httpx.post(f"{pair.url}/predict", content=bytes(1_000_001), headers=KEY)
            assert too_large.status_code == 413


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_its_counts_are_kept(pair: Server) -> None:
    first, second = pair.workers
    before = pair.counted(ASKED)
    files = [("f", ("x.png", png(np.zeros((4000, 4000, 1), np.uint8))))] * 50
    form = httpx.Request("POST", pair.url, headers=KEY, files=files)
    head = "".join(f"{name}: {value}\r\n" for name, value in form.headers.items())
    with ExitStack() as stack:
        with suspended(first):
            ask(pair, 3)
            wire = stack.enter_context(Wire(pair.port))
            wire.connection.sendall(f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + form.read())
            ask(pair, 1)
        wait_until(lambda: pair.counted("convladder_requests_in_flight") == 2)  # it takes seconds
        second.kill()
        assert wire.rest() == b""
    told = pair.stderr().readline()
    third = pair.workers[1]
    assert told == f"Worker {second.pid} ended (SIGKILL). Worker {third.pid} takes its place.\n"
    third.kill()  # while it starts
    assert f"Worker {third.pid} ended (SIGKILL)." in pair.stderr().readline()
    fourth = pair.workers[1]
    wait_until(lambda: list(pair.folder.rglob(f"{fourth.pid}.ready")))
    wait_until(lambda: pair.counted("convladder_requests_in_flight") == 1)
    with suspended(first):
        ask(pair, 2)  # the new one answers
    assert pair.counted(ASKED) == before + 6
    fourth.terminate()  # a worker that ends in order is replaced as well
    assert f"Worker {fourth.pid} ended (SIGTERM)." in pair.stderr().readline()


@contextmanager
def at_work(port: int) -> Iterator[Wire]:
    """A request whose body is still to come."""
    with Wire(port) as wire:
        wire.connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n")
        assert wire.file.readline().startswith(b"HTTP/1.1 100 ")
        assert wire.file.readline() == b"\r\n"
        yield wire


@pytest.mark.long
@pytest.mark.parametrize(
    ("told", "to_all", "status", "said"),
    [
        (signal.SIGTERM, False, 0, ""),
        pytest.param(signal.SIGINT, False, 130, "Error: Interrupted.\n", marks=pytest.mark.long),
        # As a terminal does.
        pytest.param(signal.SIGINT, True, 130, "Error: Interrupted.\n", marks=pytest.mark.long),
        pytest.param(signal.SIGHUP, True, 129, "Error: Stopped by SIGHUP.\n", marks=pytest.mark.long),
    ],
)
def test_both_finish_what_is_in_flight_when_the_server_is_told_to_end(
    told: signal.Signals, to_all: bool, status: int, said: str
) -> None:
    with several("--workers", "2") as server, at_work(server.port) as wire, Wire(server.port) as idle:
        idle.send(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.answer()[0] == 200
        for process in [server.process, *(server.workers if to_all else [])]:
            process.send_signal(told)
        assert idle.rest() == b""
        wire.connection.sendall(b"no pixels")
        assert wire.answer()[0] == 415
        assert server.process.wait(SECONDS) == status
        assert server.stderr().read() == said


@pytest.mark.long
def test_a_second_ctrl_c_ends_all_at_once() -> None:
    """Without a number there is one worker for each processor."""
    with several("--workers", "0") as server, at_work(server.port), Wire(server.port) as idle:
        assert max(1, len(server.workers)) == count_processors()
        idle.settle()
        server.process.send_signal(signal.SIGINT)
        assert idle.rest() == b""  # the first has been noted
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 130  # and not after the 30 seconds that the request may take


@pytest.mark.long
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with several("--workers", "2", TMPDIR=str(tmp_path)) as server:
        workers = server.workers
        server.process.kill()
        server.process.wait()
        assert not psutil.wait_procs(workers, SECONDS)[1]
    with scratch_folder(tmp_path):
        assert len(list(tmp_path.iterdir())) == 1  # what was left is removed by the next


def changed(content: bytes) -> bytes:
    """Another valid model, with another name of a class."""
    renamed = seal(content.replace(b'"class_names": ["0"', b'"class_names": ["O"'))
    assert NO_DIGEST.encode() not in renamed
    assert renamed != content
    return renamed


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (changed, 1, "model.onnx is not the file that the server started with. Start the server again."),
        pytest.param(
            lambda content: content[:-9],
            2,
            "model.onnx was changed or damaged after it was written",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_worker_that_would_answer_otherwise_than_the_others_ends_all(
    tmp_path: Path, change: Callable[[bytes], bytes], status: int, said: str
) -> None:
    """One line says why; nothing is started again and again."""
    model = tmp_path / "model.onnx"
    shutil.copy(FILE, model)
    with several("--workers", "2", model=model) as server:
        model.write_bytes(change(model.read_bytes()))
        server.workers[0].kill()
        assert server.process.wait(SECONDS) == status
        replaced, error = server.stderr().read().splitlines()
        assert "takes its place" in replaced
        assert error.startswith("Error: ")
        assert said in error


def serve(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "convladder", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_what_cannot_be_served_is_refused_as_by_one_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, status, said in (
            ([FILE, "--port", taken.getsockname()[1]], 1, "cannot be listened at"),
            ([tmp_path], 2, "Could not load"),
        ):
            process = serve("--workers", "2", *arguments)
            error = process.communicate(timeout=SECONDS)[1]
            assert (process.returncode, error.count("\n")) == (status, 1), error
            assert said in error


@pytest.mark.long
def test_a_worker_that_ends_before_it_is_ready_ends_all() -> None:
    process = serve(FILE, "--port", "0", "--workers", "3")
    parent = psutil.Process(process.pid)
    wait_until(lambda: any(map(is_worker, parent.children())))
    next(filter(is_worker, parent.children())).kill()
    error = process.communicate(timeout=SECONDS)[1]
    assert error == (
        "Error: A worker ended before it was ready (SIGKILL). Expected memory for 3 workers: ask for fewer by "
        "--workers.\n"
    )
    assert process.returncode == 1


@pytest.mark.long
def test_ctrl_c_while_workers_start_ends_all_in_one_line() -> None:
    process = serve(FILE, "--port", "0", "--workers", "2")
    parent = psutil.Process(process.pid)
    wait_until(lambda: sum(map(is_worker, parent.children())) == 2)
    for one in [*parent.children(), parent]:
        one.send_signal(signal.SIGINT)
    error = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 130
    ready = rf"{re.escape(FILE.stem)}: http://[\d.:]+ \(2 workers\)\n"  # of workers that were quicker than this test
    assert re.fullmatch(rf"({ready})?Error: Interrupted\.\n", error), error


def test_no_folder_for_the_counts_is_said(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        with pytest.raises(ConvladderError, match="Expected TMPDIR to name a folder"):
            run_workers(print, 2, ("127.0.0.1", 0), Limits(), print, print)  # type: ignore[arg-type]


@pytest.mark.long
def test_under_load_nothing_fails_but_what_a_killed_worker_held(mnist: cl.Dataset) -> None:
    """Four workers and 64 connections, of which the killed worker has some."""
    requests = [upload([png(image)]) for image in mnist.test.images[:64]]
    held: list[int] = []
    with several("--workers", "4") as server:

        def kill() -> None:
            worker = server.workers[0]
            worker.suspend()  # so that its connections can be counted
            held.append(sum(one.status == psutil.CONN_ESTABLISHED for one in worker.net_connections("tcp")))
            worker.kill()

        timer = threading.Timer(4, kill)
        timer.start()
        load = run_load(server.port, requests, 64, 10)
        timer.join()
        assert "Worker" in server.stderr().readline()
        wait_until(lambda: len(server.workers) == 4)
        counted = server.counted('convladder_requests_total{route="/predict",status="200"}')
    assert set(load.statuses) == {200}
    assert 0 < len(load.cut) <= held[0] < 64
    assert abs(counted - load.statuses[200]) <= held[0]  # answered and not counted yet, or the other way round


@pytest.mark.long
def test_a_worker_that_hangs_is_replaced() -> None:
    with several("--workers", "2") as server:
        first, second = server.workers
        first.suspend()
        assert server.stderr().readline().startswith(f"Worker {first.pid} ended (SIGKILL).")
        with suspended(second):
            ask(server, 1)
