"""From a stroke to the bars: how long the page takes to answer while one draws, by a server and by itself.

    python benchmarks/page.py runs/linear_head-1 runs/dense-1

Two networks answer each movement of the mouse with probabilities and feature maps. Measured in Chromium, from the
time stamp of the pointer's event to the moment when the bars have their new widths. Browser, server and this program
share the machine.
"""

import argparse
import functools
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

STROKE = [(0.3, 0.25), (0.7, 0.25), (0.6, 0.5), (0.5, 0.8)]
DRAWINGS, STEPS = 10, 8
WARM_UP = 30  # movements that are not counted: modules and networks are loaded by them


@contextmanager
def server(runs: list[str]) -> Iterator[str]:
    command = [sys.executable, "-m", "convladder", "serve", *runs, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    try:
        assert process.stderr
        yield process.stderr.readline().split(": ")[-1].strip() + "/"
    finally:
        process.terminate()
        process.communicate()


class QuietHost(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def static_host(runs: list[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        command = [sys.executable, "-m", "convladder", "export", *runs, "--format", "web", "--output", str(site)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        handler = functools.partial(QuietHost, directory=str(site))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as host:
            threading.Thread(target=host.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{host.server_address[1]}/"
            host.shutdown()


def measure(url: str) -> list[float]:
    """Milliseconds of each round of answers."""
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.locator('body[data-busy="false"]').wait_for()
        box = page.locator("#pad").bounding_box()
        assert box
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in STROKE]
        for _ in range(DRAWINGS):
            page.click("#clear")
            page.mouse.move(*places[0])
            page.mouse.down()
            for (left, top), (right, bottom) in itertools.pairwise(places):
                for step in range(1, STEPS + 1):
                    share = step / STEPS
                    page.mouse.move(left + (right - left) * share, top + (bottom - top) * share)
                    page.locator('body[data-busy="false"]').wait_for()
            page.mouse.up()
        measured = page.evaluate("performance.getEntriesByName('stroke to bars').map(entry => entry.duration)")
        browser.close()
    return [float(duration) for duration in measured][WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", help="run folders; the first two of them answer")
    runs = parser.parse_args().runs
    for name, host in (("server", server), ("browser", static_host)):
        with host(runs) as url:
            durations = measure(url)
        median, high = np.percentile(durations, [50, 99])
        row = {"answered_by": name, "movements": len(durations), "median_ms": median, "p99_ms": high}
        print(json.dumps(row | {"largest_ms": max(durations)}))


if __name__ == "__main__":
    main()
