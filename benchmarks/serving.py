"""Requests a second and latencies, beside a minimal endpoint of FastAPI and ONNX Runtime.

    python benchmarks/serving.py [RUN] [--rounds 3] [--seconds 3] [--output docs/benchmarks]

RUN is a finished run; without it, `fast` is trained for half an epoch. Both servers answer uploads of real 28×28 PNG
files, one or 64 a request, in turn, on fresh processes each round, with the same event loop and HTTP parser. The load
generator shares the machine's cores with the server that it asks.
"""

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from http_load import run_load, upload
from output import prepare

from convladder.processors import count_processors

PEER = """
import io, sys
import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
app = FastAPI()

@app.get("/v2/health/ready")
async def ready() -> dict[str, bool]:
    return {"ready": True}

@app.post("/predict")
async def predict(files: list[UploadFile]) -> list[dict[str, object]]:
    answers = []
    for file in files:
        image = Image.open(io.BytesIO(await file.read())).convert("L").resize((28, 28))
        pixels = np.asarray(image, dtype=np.float32)[None, :, :, None]
        probabilities = session.run(None, {name: pixels})[0][0]
        answers.append({"label": int(probabilities.argmax()), "probabilities": probabilities.tolist()})
    return answers

uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
"""
SERVERS = ("convladder", "peer")


@dataclass
class Server:
    process: int
    ready_seconds: float


def wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    """Return as soon as a server, or what stands before it, says that it is ready."""
    start = time.perf_counter()
    while True:
        with contextlib.suppress(OSError):  # refused, or reset by a server that was ended
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).close()
            return
        if process.poll() is not None or time.perf_counter() > start + 30:
            raise RuntimeError(f"{process.args!r} did not start")
        time.sleep(0.002)


@contextlib.contextmanager
def serve(server: str, model: Path, port: int) -> Iterator[Server]:
    """Start a server, wait until it is ready, and end it."""
    command = [sys.executable, "-m", "convladder", "serve", str(model), "--port", str(port)]
    if server == "peer":
        command = [sys.executable, "-c", PEER, str(model), str(port)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(process, port)
        yield Server(process.pid, time.perf_counter() - start)
    finally:
        process.terminate()
        process.wait(10)


def measure(server: str, model: Path, port: int, pictures: list[bytes], seconds: float) -> dict[str, Any]:
    """One round of one server."""
    singles = [upload([picture]) for picture in pictures]
    many = [upload(pictures[start : start + 64]) for start in range(0, len(pictures) - 63, 64)]
    with serve(server, model, port) as started:
        run_load(port, singles, 1, 0.3)
        one = run_load(port, singles, 1, seconds)
        crowd = run_load(port, singles, 64, seconds)
        packed = run_load(port, many, 1, seconds)
        pair = run_load(port, many, 2, seconds)
    statuses = one.statuses + crowd.statuses + packed.statuses + pair.statuses
    assert set(statuses) == {200}, statuses
    return {
        "server": server,
        "ready_seconds": started.ready_seconds,
        "requests_per_second_1": one.requests_per_second,
        "p50_seconds_1": one.percentile(0.5),
        "p99_seconds_1": one.percentile(0.99),
        "requests_per_second_64": crowd.requests_per_second,
        "p50_seconds_64": crowd.percentile(0.5),
        "p99_seconds_64": crowd.percentile(0.99),
        "images_per_second_packed": 64 * packed.requests_per_second,
        "images_per_second_packed_2": 64 * pair.requests_per_second,
    }


def summarize(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Median, lowest and highest of each figure by server."""
    names = [name for name in rounds[0] if name != "server"]
    by_server = {server: [measured for measured in rounds if measured["server"] == server] for server in SERVERS}
    return {
        server: {
            name: {
                "median": statistics.median(measured[name] for measured in own),
                "low": min(measured[name] for measured in own),
                "high": max(measured[name] for measured in own),
            }
            for name in names
        }
        for server, own in by_server.items()
    }


def digits(count: int) -> list[bytes]:
    """The first test images of MNIST as PNG files."""
    from PIL import Image

    import convladder as cl

    files = []
    for image in cl.load_dataset("mnist").test.images[:count]:
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "PNG")
        files.append(file.getvalue())
    return files


def processor() -> str:
    """What the machine calls its processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")


def trained(folder: str) -> Path:
    """A run of `fast`, trained for half an epoch."""
    subprocess.run(
        [sys.executable, "-m", "convladder", "train", "--model", "fast", "--epochs", "0.5", "--runs", folder],
        check=True,
    )
    return Path(folder) / "fast-1"


def main() -> None:
    """Measure in turn, print a table, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--port", type=int, default=8431)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output:
        prepare(parser, arguments.output)
    with tempfile.TemporaryDirectory() as folder:
        model = (arguments.run or trained(folder)) / "model.onnx"
        pictures = digits(512)
        rounds = [
            measure(server, model, arguments.port, pictures, arguments.seconds)
            for number in range(arguments.rounds)
            for server in (SERVERS if number % 2 == 0 else SERVERS[::-1])
        ]
    summary = summarize(rounds)
    print(f"{'':30}" + "".join(f"{server:>34}" for server in SERVERS))
    for name in summary["peer"]:
        cells = (summary[server][name] for server in SERVERS)
        print(
            f"{name:30}"
            + "".join(f"{c['median']:>12,.5g} ({c['low']:,.5g} to {c['high']:,.5g})".rjust(34) for c in cells)
        )
    if arguments.output:
        content = {
            "machine": {"processor": processor(), "cores": count_processors()},
            "load": "closed loop, on the same cores as the server",
            "rounds": rounds,
            "summary": summary,
        }
        (arguments.output / "serving.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
