"""Write loop.webp: a digit drawn on the page, two networks that answer while it grows, and the ladder's plot.

python docs/loop.py [FILE]    # two minutes: trains two networks, and draws on the page that convladder serves

The plot is the first of example-report.html. Strokes and frames are the same each time; the answers are those of this
machine's training.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

RUNGS = ("pool", "dense")  # in the order in which the page shows them
WIDTH, HEIGHT = 720, 424  # of the loop
PAGE_WIDTH = 1040  # of the page, in its own pixels
THREE = [(0.30, 0.27), (0.38, 0.17), (0.55, 0.16), (0.66, 0.25), (0.64, 0.38), (0.55, 0.46), (0.45, 0.48)]
THREE += [(0.58, 0.50), (0.69, 0.60), (0.69, 0.74), (0.58, 0.84), (0.42, 0.85), (0.30, 0.76)]
STEPS = 2  # frames from one point of the digit to the next
FRAME, LOOK, READ = 90, 1800, 4000  # milliseconds of a frame, of the finished digit, of the plot
SHEET = "body { margin: 0; background: #fffdf9; } svg { display: block; height: 100vh; margin: 0 auto; }"


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Train the two networks, and serve the page with them."""
    convladder = [sys.executable, "-m", "convladder"]
    for rung in RUNGS:
        subprocess.run([*convladder, "train", "--model", rung, "--epochs", "2"], cwd=folder, check=True)
    command = [*convladder, "serve", *(f"runs/{rung}-1" for rung in RUNGS), "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stderr
        try:
            yield process.stderr.readline().split(": ")[-1].strip()
        finally:
            process.terminate()


def draw(page: Page) -> list[Image.Image]:
    """Draw the digit; a frame whenever both networks have answered."""
    page.locator('body[data-busy="false"]').wait_for()
    page.click("#clear")
    pad, answer = page.locator("#pad").bounding_box(), page.locator("#answer").bounding_box()
    assert pad
    assert answer
    start = answer["y"] - 14
    clip = {"x": 0, "y": start, "width": PAGE_WIDTH, "height": PAGE_WIDTH * HEIGHT / WIDTH}
    frames = []

    def go(place: tuple[float, float]) -> None:
        page.mouse.move(pad["x"] + place[0] * pad["width"], pad["y"] + place[1] * pad["height"])
        page.locator('body[data-busy="false"]').wait_for()
        frames.append(as_frame(page.screenshot(clip=clip, animations="disabled")))

    go(THREE[0])
    page.mouse.down()
    for (left, top), (right, bottom) in pairwise(THREE):
        for step in range(1, STEPS + 1):
            share = step / STEPS
            go((left + (right - left) * share, top + (bottom - top) * share))
    page.mouse.up()
    return frames


def plot(page: Page) -> Image.Image:
    """The first plot of the example report."""
    report = (Path(__file__).parent / "example-report.html").read_text(encoding="utf-8")
    style = "".join(re.findall(r"<style>.*?</style>", report, flags=re.DOTALL))
    found = re.search(r"<figure>(<svg.*?</svg>)", report, flags=re.DOTALL)
    assert found
    page.set_content(f"{style}<style>{SHEET}</style>{found[1]}")
    return as_frame(page.screenshot())


def as_frame(png: bytes) -> Image.Image:
    """A screenshot, in the size of the loop."""
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def write(file: Path) -> None:
    """Write the loop into a file."""
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        size = {"width": PAGE_WIDTH, "height": round(PAGE_WIDTH * HEIGHT / WIDTH)}
        page = chromium.new_page(viewport=size, color_scheme="light", reduced_motion="reduce")
        page.goto(url)
        frames = draw(page)
        frames.append(plot(page))
        chromium.close()
    durations = [FRAME] * (len(frames) - 2) + [LOOK, READ]
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0, quality=80, method=6)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "loop.webp")
