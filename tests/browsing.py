"""A real browser for the tests of the page: Debian's Chromium, driven by Playwright."""

import base64
import io
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

import convladder as cl
from convladder.serving.application import create_application

SEVEN = [(0.3, 0.25), (0.7, 0.25), (0.6, 0.5), (0.5, 0.8)]


def skip_without(program: str, folders: str | None = None) -> str:
    """The program's path. Without it the test is skipped, or fails where nothing may be left out: in CI."""
    path = shutil.which(program, path=folders)
    if path is None:
        missing = f"{program} is not installed; CONTRIBUTING.md says how it is"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return path


@contextmanager
def open_browser(*arguments: str) -> Iterator[Browser]:
    path = skip_without("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def serve_here(classifiers: Mapping[str, cl.Classifier]) -> Iterator[str]:
    """The page's server in this process, and its address."""
    config = uvicorn.Config(create_application(classifiers), port=0, log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    listener.listen()  # what comes before the server has started waits
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(60)


class Visit:
    """One page, what it asked for and what it complained of."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, scheme: Any = "light", **more: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self.page.on("console", self._listen)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._note)
        self.page.goto(url)
        self.settle()

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _note(self, request: Request) -> None:
        self.requested.append(request.url)

    def close(self) -> None:
        self.context.close()

    def draw_seven(self) -> None:
        box = self.page.locator("#pad").bounding_box()
        assert box
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in SEVEN]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()
        self.settle()

    def settle(self) -> None:
        """Wait until all that was asked for is answered."""
        # Not by wait_for_function: it evaluates text, which the page's policy forbids.
        self.page.locator('body[data-busy="false"]').wait_for()

    def choose(self, letter: str, name: str) -> None:
        self.page.select_option(f"#model-{letter}", name)
        self.settle()

    def label(self, letter: str = "a") -> str:
        return self.page.locator(f"#label-{letter}").inner_text()

    def probabilities(self, letter: str = "a") -> npt.NDArray[np.float64]:
        """As the bars' widths say, in the order of the rows."""
        widths = self.page.eval_on_selector_all(f".track.{letter} .fill", "all => all.map(one => one.style.width)")
        return np.asarray([float(re.sub("%$", "", width)) / 100 for width in widths])

    def network_input(self) -> npt.NDArray[np.uint8]:
        """The pixels that "as the network sees it" shows, shape (1, height, width, 1)."""
        url = self.page.eval_on_selector("#input", "one => one.toDataURL()")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            return np.asarray(picture.convert("L"))[np.newaxis, ..., np.newaxis]

    def maps(self) -> list[str]:
        return list(self.page.eval_on_selector_all("#stages canvas", "all => all.map(one => one.toDataURL())"))

    def file(self, path: str) -> None:
        self.page.set_input_files("#file", path)
        self.settle()
