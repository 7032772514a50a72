"""The site that `make docs` makes, in a real browser: every page is found, and nothing comes from another host."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, Response

import convladder as cl
from browsing import open_browser

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
pytestmark = [pytest.mark.long, pytest.mark.xdist_group("site")]  # in one process, so that the site is made once


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made as `make docs` makes it: a warning is an error, and a page that none leads to gives one."""
    recipe = (ROOT / "Makefile").read_text().partition("\ndocs:")[2].partition("python ")[2].partition(" docs docs/")[0]
    folder = tmp_path_factory.mktemp("site")
    made = subprocess.run(
        [sys.executable, *recipe.split(), DOCS, folder], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The first page. A request to another host, a missing file or an error of a script fails the test."""
    context = browser.new_context()
    opened = context.new_page()
    wrong: list[str] = []

    def note_request(asked: Request) -> None:
        if not asked.url.startswith((address, "data:")):
            wrong.append(asked.url)

    def note_response(answer: Response) -> None:
        if answer.status >= 400:
            wrong.append(f"{answer.status} {answer.url}")

    opened.on("request", note_request)
    opened.on("response", note_response)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.goto(address)
    yield opened
    context.close()
    assert wrong == []


def test_the_sidebar_leads_to_the_pages(page: Page) -> None:
    contents = page.get_by_role("navigation", name="Contents")
    for title in ("Ship", "Benchmarks"):
        contents.get_by_role("link", name=title, exact=True).click()
        assert title in page.get_by_role("heading", level=1).inner_text()


def test_the_two_doors_open(page: Page) -> None:
    for door, title in (("I want to learn", "Tutorial"), ("I have a folder of photos", "From a folder of photographs")):
        page.get_by_role("article").get_by_role("link", name=door).click()
        assert page.get_by_role("heading", level=1).inner_text().startswith(title)
        page.go_back()


def test_a_search_finds_a_page_by_its_title(page: Page) -> None:
    page.keyboard.press("Control+k")
    page.keyboard.type("occlusion")
    page.keyboard.press("Enter")
    title = "How good is my network?"
    page.locator("#search-results").get_by_role("link", name=title, exact=True).first.click()
    assert title in page.get_by_role("heading", level=1).inner_text()
    assert "occlusion" in page.get_by_role("article").inner_text().lower()


def test_the_reference_has_every_public_name_and_no_other(site: Path) -> None:
    anchors = re.findall(r'id="convladder\.(\w+)"', (site / "api.html").read_text())
    assert sorted(anchors) == cl.__all__


def test_every_page_asks_the_site_alone(page: Page, site: Path, address: str) -> None:
    no_pages = {"_downloads", "_static"}  # the theme leaves a template among its scripts, to which nothing leads
    pages = [path.relative_to(site) for path in site.rglob("*.html") if no_pages.isdisjoint(path.parts)]
    written = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md") if "_build" not in path.parts}
    assert written <= set(pages)
    for path in pages:
        page.goto(address + path.as_posix(), wait_until="load")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 400, "height": 800})
    for path in sorted(written):
        page.goto(address + path.as_posix())
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
