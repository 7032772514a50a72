"""Write loop.webp: a digit drawn on the page, two networks that answer while it grows, and the ladder's plot.

python docs/loop.py                          # minutes: trains two networks on MNIST first
python docs/loop.py runs/pool-1 runs/dense-1

The plot is from example-report.html. Strokes and frames are the same each time; the answers are the networks'.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageOps
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

DOCS = Path(__file__).parent
CONVLADDER = (sys.executable, "-m", "convladder")
RUNGS = ("pool", "dense")
WIDTH, HEIGHT = 720, 424  # of the loop
SCALE = 13 / 9  # pixels of the page to a pixel of the loop
THREE = [(0.30, 0.27), (0.38, 0.17), (0.55, 0.16), (0.66, 0.25), (0.64, 0.38), (0.55, 0.46), (0.45, 0.48)]
THREE += [(0.58, 0.50), (0.69, 0.60), (0.69, 0.74), (0.58, 0.84), (0.42, 0.85), (0.30, 0.76)]
STEPS = 2  # frames from one point of the digit to the next
FRAME, LOOK, READ = 90, 1800, 4000  # milliseconds of a frame, of the finished digit, of the plot


def train(folder: Path) -> list[Path]:
    """Train the two networks, as `make run` does."""
    for rung in RUNGS:
        subprocess.run([*CONVLADDER, "train", "--model", rung], cwd=folder, check=True)
    return [folder / "runs" / f"{rung}-1" for rung in RUNGS]


@contextmanager
def serve(runs: Sequence[Path]) -> Iterator[str]:
    """Serve the page, and give its address."""
    command = [*CONVLADDER, "serve", *map(str, runs), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") as process:
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
    frames = []

    def go(across: float, down: float) -> None:
        page.mouse.move(pad["x"] + across * pad["width"], pad["y"] + down * pad["height"])
        page.locator('body[data-busy="false"]').wait_for()
        frames.append(photograph(page, answer["y"] - 12))

    go(*THREE[0])
    page.mouse.down()
    for (left, top), (right, bottom) in pairwise(THREE):
        for step in range(1, STEPS + 1):
            share = step / STEPS
            go(left + (right - left) * share, top + (bottom - top) * share)
    page.mouse.up()
    return frames


def plot(page: Page) -> Image.Image:
    """The ladder's plot of the example report: accuracy against parameters."""
    page.goto((DOCS / "example-report.html").as_uri())
    with Image.open(io.BytesIO(page.locator("figure svg[aria-label*='against parameters']").screenshot())) as picture:
        return ImageOps.pad(picture.convert("RGB"), (WIDTH, HEIGHT), color="white")


def photograph(page: Page, top: float) -> Image.Image:
    """What the page shows below a place, in the size of the loop."""
    png = page.screenshot(clip={"x": 0, "y": top, "width": WIDTH * SCALE, "height": HEIGHT * SCALE})
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def make_frames(browser: Browser, url: str) -> list[Image.Image]:
    """All frames; the last is the plot."""
    size: ViewportSize = {"width": round(WIDTH * SCALE), "height": 900}
    page = browser.new_page(viewport=size, color_scheme="light", reduced_motion="reduce")
    page.goto(url)
    return [*draw(page), plot(browser.new_page(color_scheme="light", device_scale_factor=3))]


def main() -> None:
    """Write the loop."""
    parser = argparse.ArgumentParser(description="Make the README's moving picture from the real page.")
    parser.add_argument("runs", nargs="*", type=Path, help="two runs of MNIST")
    parser.add_argument("--output", type=Path, default=DOCS / "loop.webp")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serve(given.runs or train(Path(folder))) as url,
        sync_playwright() as playwright,
    ):
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        frames = make_frames(browser, url)
        browser.close()
    durations = [FRAME] * (len(frames) - 2) + [LOOK, READ]
    first, *others = frames
    first.save(given.output, save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=6)


if __name__ == "__main__":
    main()
