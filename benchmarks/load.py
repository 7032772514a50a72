"""Three minutes of load, one upload in twenty hostile, while servers are stopped or killed: what fails, and what grows?

    python benchmarks/load.py [RUN] [--seconds 180] [--hostile 0.05] [--output docs/benchmarks]

`make load` calls it. It measures twice, each time for so many seconds: one server, which is stopped for a second
(SIGSTOP) after a third of them, and two servers behind nginx, one of which is killed (SIGKILL) after half of them and
started again. 61 connections ask, and three more send a byte at a time. The load generator shares the machine's cores
with the servers, over loopback.

It ends with status 1 where one server alone gave a 5xx, or did not answer; where nginx gave one that the killed server
did not hold; where a hostile upload was taken for a picture; or where memory grows.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hostile_requests
import psutil
from http_load import Load, Request, run_load, upload
from output import prepare
from scipy.stats import theilslopes
from serving import digits, processor, serve, trained, wait_until_ready

from convladder.processors import count_processors

CONNECTIONS, SLOW = 61, 3
HELD_SECONDS = 2.0  # after a kill: what the server held has failed by then
GROWTH = 2.0  # MiB a minute that memory may seem to grow by
SAMPLES_A_SECOND = 10
# As in docs/serve.md, without TLS.
NGINX = """
daemon off; worker_processes 1; pid {folder}/pid;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    upstream convladder {{ {servers} keepalive 32; keepalive_timeout 30s; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://convladder; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; client_max_body_size 16m;
            error_page 502 504 = @gone;
        }}
        location @gone {{
            default_type application/json;
            add_header Retry-After 1 always;
            return 503 '{{"error": "The server ended. Ask again.", "code": "busy", "status": 503}}';
        }}
    }}
}}
"""


@dataclass
class Memory:
    """MiB that a process and its children hold, by second: the lowest and the highest of each."""

    lowest: list[float] = field(default_factory=list)
    highest: list[float] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """The slope is that of the lowest values after the first quarter (Theil and Sen), with its 95 % interval."""
        later = self.lowest[len(self.lowest) // 4 :]
        slope, _, low, high = theilslopes(later) if len(later) > 1 else (0.0,) * 4
        return {
            "slope_mib_a_minute": 60 * float(slope),
            "slope_low": 60 * float(low),
            "slope_high": 60 * float(high),
            "highest": max(self.highest),
            "lowest_each_second": [round(value, 1) for value in self.lowest],
            "highest_each_second": [round(value, 1) for value in self.highest],
        }


@contextlib.contextmanager
def sampled(process: int) -> Iterator[Memory]:
    """Look at a process's memory ten times a second."""
    memory, ended = Memory(), threading.Event()
    server = psutil.Process(process)

    def sample() -> None:
        while not ended.is_set():
            values = []
            for _ in range(SAMPLES_A_SECOND):
                processes = [server, *server.children(recursive=True)]
                values.append(sum(one.memory_info().rss for one in processes) / 2**20)
                ended.wait(1 / SAMPLES_A_SECOND)
            memory.lowest.append(min(values))
            memory.highest.append(max(values))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def at(second: float, act: Callable[[], None]) -> Iterator[None]:
    """Do something while a load goes on."""
    timer = threading.Timer(second, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


@contextlib.contextmanager
def nginx(port: int, servers: Sequence[int]) -> Iterator[None]:
    """An nginx in front of servers."""
    with tempfile.TemporaryDirectory() as folder:
        addresses = " ".join(f"server 127.0.0.1:{server};" for server in servers)
        text = NGINX.format(folder=folder, port=port, servers=addresses)
        (Path(folder) / "nginx.conf").write_text(text, encoding="utf-8")
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        process = subprocess.Popen(["nginx", "-p", folder, "-e", "stderr", "-c", f"{folder}/nginx.conf", *user])
        try:
            wait_until_ready(process, port)
            yield
        finally:
            process.terminate()
            process.wait(20)


def mix(model: str, share: float) -> list[Request]:
    """Uploads of digits, so many of them hostile, spread evenly."""
    pictures = digits(512)
    hostile = [
        *hostile_requests.refused(model, pictures[0]).values(),
        *hostile_requests.taken(pictures[0]).values(),
        *hostile_requests.abandoned(pictures[0]).values(),
    ]
    random.Random(0).shuffle(hostile)
    every = round(1 / share)
    sound = [Request(upload([picture])) for picture in pictures]
    return [
        hostile[number // every] if number % every == 0 else sound[number % len(sound)]
        for number in range(every * len(hostile))
    ]


def describe(load: Load) -> dict[str, Any]:
    return {
        "seconds": load.seconds,
        "requests_per_second": load.requests_per_second,
        "p50_seconds": load.percentile(0.5),
        "p99_seconds": load.percentile(0.99),
        "longest_seconds": max(load.latencies),
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "hostile": {f"{kind}: {status}": count for (kind, status), count in sorted(load.kinds.items())},
        "clients_that_left": load.left,
        "slow_senders": {str(status): count for status, count in sorted(load.slow.items())},
        "failures": [round(second, 2) for second in load.failures],
        "unanswered": [[round(second, 2), kind] for second, kind in load.cut],
    }


def slow_senders(picture: bytes) -> list[bytes]:
    """An endless head, a body and a chunk: at ten bytes a second they take minutes to arrive."""
    form = upload([picture])
    return [form[:100] + b"X: " + b"x" * 10_000, form, hostile_requests.abandoned(picture)["half a chunk"].content]


def measure_alone(model: Path, port: int, seconds: float, requests: list[Request], slow: list[bytes]) -> dict[str, Any]:
    """One server, asked directly, that is stopped for a second."""
    with serve("convladder", model, port) as server, sampled(server.process) as memory:

        def stop() -> None:
            os.kill(server.process, signal.SIGSTOP)
            time.sleep(min(1.0, seconds / 10))
            os.kill(server.process, signal.SIGCONT)

        with at(seconds / 3, stop):
            load = run_load(port, requests, CONNECTIONS, seconds, slow)
    return describe(load) | {"memory_mib": memory.describe()}


def measure_pair(model: Path, port: int, seconds: float, requests: list[Request], slow: list[bytes]) -> dict[str, Any]:
    """Two servers behind nginx, one of which is killed, and started again at once."""
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(serve("convladder", model, port + number)) for number in (1, 2))
        stack.enter_context(nginx(port, [port + 1, port + 2]))
        memory = stack.enter_context(sampled(second.process))
        killed = restarted = 0.0

        def kill() -> None:
            nonlocal killed, restarted
            os.kill(first.process, signal.SIGKILL)
            killed = time.perf_counter()
            stack.enter_context(serve("convladder", model, port + 1))
            restarted = time.perf_counter()

        with at(seconds / 2, kill):
            load = run_load(port, requests, CONNECTIONS, seconds, slow)
    killed -= load.began
    held = [second for second in load.failures if killed <= second <= killed + HELD_SECONDS]
    times = {
        "killed_at": round(killed, 2),
        "ready_again_at": round(restarted - load.began, 2),
        "failed_when_killed": len(held),
    }
    return describe(load) | times | {"memory_mib": memory.describe()}


def faults(alone: dict[str, Any], pair: dict[str, Any], refused: set[str]) -> Iterator[str]:
    """What is not as it should be, in a line each."""
    if alone["failures"]:
        yield f"One server gave {len(alone['failures'])} answers of 5xx."
    if alone["unanswered"]:
        yield f"One server left {len(alone['unanswered'])} requests without an answer: {alone['unanswered'][:5]}."
    if len(pair["failures"]) > pair["failed_when_killed"]:
        yield f"Behind nginx 5xx came at {pair['failures']} s, though the server was killed at {pair['killed_at']} s."
    if pair["failed_when_killed"] > CONNECTIONS:
        yield f"{pair['failed_when_killed']} requests failed. The server held {CONNECTIONS} at most."
    if pair["unanswered"]:
        yield f"nginx left {len(pair['unanswered'])} requests without an answer: {pair['unanswered'][:5]}."
    for name, result in (("One server", alone), ("The server that was not killed", pair)):
        for answer in result["hostile"]:
            kind, _, status = answer.rpartition(": ")
            if kind in refused and int(status) < 400:
                yield f"{name} answered {kind!r} with {status}."
        growth = result["memory_mib"]["slope_mib_a_minute"]
        if growth > GROWTH:
            yield f"{name} grew by {growth:.1f} MiB a minute."


def main() -> None:
    """Load, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--hostile", type=float, default=0.05, help="share of the uploads")
    parser.add_argument("--port", type=int, default=8433, help="and the next two")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output:
        prepare(parser, arguments.output)
    if not 0 < arguments.hostile <= 1:
        parser.error(f"--hostile {arguments.hostile} is no share. Expected more than 0, and at most 1.")
    if shutil.which("nginx") is None:
        parser.error("nginx is not installed. Expected it on PATH: apt-get install nginx-light.")
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or trained(folder)
        (picture,) = digits(1)
        requests = mix(run.name, arguments.hostile)
        parts = (run / "model.onnx", arguments.port, arguments.seconds, requests, slow_senders(picture))
        alone, pair = measure_alone(*parts), measure_pair(*parts)
    result = {
        "machine": {"processor": processor(), "cores": count_processors()},
        "connections": CONNECTIONS + SLOW,
        "hostile": arguments.hostile,
        "alone": alone,
        "behind_nginx": pair,
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        (arguments.output / "load.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    refused = set(hostile_requests.refused(run.name, picture))
    found = list(faults(alone, pair, refused))
    print(*found, sep="\n", file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
