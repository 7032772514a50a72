"""A minute of load: 64 connections, one upload in a hundred broken. Are there errors, and does memory grow?

    python benchmarks/load.py [RUN] [--seconds 60] [--output docs/benchmarks]

`make load` calls it. It ends with status 1 where an answer was a 5xx, or a broken upload was taken for a picture. The
load generator shares the machine's cores with the server, over loopback.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from http_load import run_load, upload
from output import prepare
from serving import digits, processor, serve, trained

from convladder.processors import count_processors

BROKEN = 100  # one upload in so many


def broken_uploads(picture: bytes) -> list[bytes]:
    """What goes wrong with uploads: cut off, no picture, no form, nothing, another type, a picture of many pixels."""
    whole = upload([picture])
    return [
        upload([picture[:100]]),
        upload([b"no picture"]),
        whole.replace(b"boundary=----convladder", b"boundary=----another"),
        upload([]),
        whole.replace(b"multipart/form-data", b"application/json"),
        upload([picture[:16] + b"\x00\x00\xff\xff\x00\x00\xff\xff" + picture[24:]]),
    ]


def resident(process: int) -> float:
    """MiB of memory that a process holds."""
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {process} is gone")


def measure(model: Path, port: int, seconds: float) -> dict[str, Any]:
    """Load for so many seconds, and the server's memory every second."""
    pictures = digits(512)
    requests = [upload([picture]) for picture in pictures]
    broken = broken_uploads(pictures[0])
    for number in range(0, len(requests), BROKEN):
        requests[number] = broken[number // BROKEN % len(broken)]
    memory: list[float] = []
    with serve("convladder", model, port) as server:
        ended = threading.Event()

        def sample() -> None:
            while not ended.wait(1):
                memory.append(resident(server.process))

        sampler = threading.Thread(target=sample)
        sampler.start()
        start = time.perf_counter()
        load = run_load(port, requests, 64, seconds)
        ended.set()
        sampler.join()
    return {
        "machine": {"processor": processor(), "cores": count_processors()},
        "connections": 64,
        "seconds": time.perf_counter() - start,
        "requests_per_second": load.requests_per_second,
        "p50_seconds": load.percentile(0.5),
        "p99_seconds": load.percentile(0.99),
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "memory_mib": {
            "after_5_seconds": memory[min(4, len(memory) - 1)],
            "median_of_the_last_10": statistics.median(memory[-10:]),
            "highest": max(memory),
            "each_second": [round(value, 1) for value in memory],
        },
    }


def main() -> None:
    """Load, print and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=8433)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.output:
        prepare(parser, arguments.output)
    with tempfile.TemporaryDirectory() as folder:
        result = measure((arguments.run or trained(folder)) / "model.onnx", arguments.port, arguments.seconds)
    print(json.dumps(result, indent=2))
    if arguments.output:
        (arguments.output / "load.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    total = sum(result["statuses"].values())
    failed = sum(count for status, count in result["statuses"].items() if status[0] == "5")
    refused = sum(count for status, count in result["statuses"].items() if status[0] == "4")
    sys.exit(1 if failed or not 0.9 < refused * BROKEN / total < 1.3 else 0)


if __name__ == "__main__":
    main()
