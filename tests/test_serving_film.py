"""The films in a real browser: the page, the export, the lesson, and `watch` beside a real training."""

import base64
import json
import re
import select
import shutil
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

import convladder as cl
from browsing import Visit, open_browser
from convladder.exporting.site import RUNTIME_FILES, write_site
from convladder.reporting.report import MOMENTS_SHOWN
from convladder.runs.film import FILM, describe_film
from convladder.serving.page import WEB
from served import started

PACE = 180  # milliseconds a moment


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def url(run: cl.Run) -> Iterator[str]:
    with started(str(run.path)) as (_, address, _port):
        yield f"{address}/"


@contextmanager
def visited(browser: Browser, url: str, **how: Any) -> Iterator[Visit]:
    visit = Visit(browser, url, **how)
    visit.page.locator(".film-play").wait_for()
    yield visit
    visit.close()
    assert visit.complaints == []
    assert all(address.startswith(url.partition("film/")[0].partition("learn/")[0]) for address in visit.requested)


@contextmanager
def served_files(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join(60)
    server.server_close()


def turned(film: dict[str, Any]) -> list[tuple[int, int, bool]]:
    """Moment, image and whether it is right from then on, as NumPy finds it."""
    right = np.asarray(film["answers"]) == film["labels"]
    moments, images = np.nonzero(right[1:] != right[:-1])
    return [
        (int(moment) + 1, int(image), bool(right[moment + 1, image]))
        for moment, image in zip(moments, images, strict=True)
    ]


@pytest.mark.long
def test_the_film_shows_each_moment_as_it_was(browser: Browser, url: str, run: cl.Run) -> None:
    film = describe_film(run)
    last = len(film["steps"]) - 1
    with visited(browser, f"{url}film/") as visit:
        slider = visit.page.locator(".film-line input")
        for moment in (0, 1, last):
            slider.fill(str(moment))
            correct = [answer == label for answer, label in zip(film["answers"][moment], film["labels"], strict=True)]
            said = visit.page.locator(".film-moment").inner_text()
            assert f"{sum(correct)} of 10 test images right" in said
            assert slider.get_attribute("aria-valuetext") == said
            items = visit.page.locator(".film-answers li")
            assert [str(item.get_attribute("class")) == "right" for item in items.all()] == correct
            texts = visit.page.locator(".film-said").all_inner_texts()
            assert [text.split()[1].rstrip(",") for text in texts] == [
                str(answer) for answer in film["answers"][moment]
            ]
        assert len(visit.page.locator(".film-marks .right, .film-marks .wrong").all()) == len(turned(film))
        assert f"step {film['steps'][last]}" in said
        found = visit.page.evaluate(
            "async (film) => (await import(new URL('player.js', location.href))).turns(film)", film
        )
        assert [(turn["moment"], turn["image"], turn["right"]) for turn in found] == turned(film)


@pytest.mark.long
def test_filters_and_maps_are_drawn_from_the_film(browser: Browser, url: str, run: cl.Run) -> None:
    film = describe_film(run)
    values = np.frombuffer(zlib.decompress(base64.b64decode(film["filters"]["values"])), np.int8)
    values = values.reshape(film["filters"]["shape"])
    peaks, side = np.asarray(film["filters"]["peaks"]), values.shape[2]
    with visited(browser, f"{url}film/") as visit:
        slider = visit.page.locator(".film-line input")
        drawn = []
        for moment in (0, len(peaks) - 1):
            slider.fill(str(moment))
            pixels = visit.page.eval_on_selector(
                ".film-filters canvas",
                """(canvas, [side, zoom]) => {
                  const wide = side * zoom;
                  const copy = new OffscreenCanvas(wide, wide).getContext("2d", { willReadFrequently: true });
                  copy.drawImage(canvas, 0, 0);
                  const { data } = copy.getImageData(0, 0, wide, wide);
                  const start = (x, y) => 4 * ((y * zoom + 2) * side * zoom + x * zoom + 2);
                  const places = Array.from({ length: side * side }, (_, n) => start(n % side, Math.floor(n / side)));
                  return places.map((place) => [...data.slice(place, place + 3)]);
                }""",
                [side, round(36 / side)],
            )
            share = np.minimum(1, np.abs(values[moment, 0, :, :, 0].ravel() / 127 * peaks[moment] / peaks.max()))
            ground, above, below = map(np.array, ([0xF4, 0xF1, 0xEA], [0x0B, 0x66, 0x70], [0xAD, 0x3F, 0x18]))
            towards = np.where((values[moment, 0, :, :, 0].ravel() < 0)[:, None], below, above)
            np.testing.assert_allclose(np.asarray(pixels), ground + (towards - ground) * share[:, None], atol=2)
            drawn.append(
                [item.evaluate("one => one.toDataURL()") for item in visit.page.locator(".film-map canvas").all()]
            )
        assert len(drawn[0]) == 2
        assert drawn[0] != drawn[1]


@pytest.mark.long
def test_the_film_plays_pauses_and_obeys_the_keyboard(browser: Browser, url: str, run: cl.Run) -> None:
    last = len(describe_film(run)["steps"]) - 1
    with visited(browser, f"{url}film/") as visit:
        slider, play = visit.page.locator(".film-line input"), visit.page.locator(".film-play")
        visit.page.clock.install(time=0)
        visit.page.clock.pause_at(1)  # and goes on as told, because a busy machine may look when all is over
        assert slider.input_value() == str(last)  # nothing moves by itself
        play.focus()
        visit.page.keyboard.press("Enter")
        assert play.inner_text() == "Pause"
        for moment in range(last + 1):
            assert slider.input_value() == str(moment)
            visit.page.clock.run_for(PACE)
        assert play.inner_text() == "Play"  # at the end
        assert slider.input_value() == str(last)
        slider.focus()
        visit.page.keyboard.press("Home")
        assert slider.input_value() == "0"
        visit.page.keyboard.press("ArrowRight")
        assert slider.input_value() == "1"
        visit.page.keyboard.press("Home")
        visit.page.keyboard.press("Space")
        assert play.inner_text() == "Pause"
        assert slider.input_value() == "1"
        visit.page.keyboard.press("ArrowLeft")  # a hand on the slider stops it
        assert play.inner_text() == "Play"
        visit.page.clock.run_for(PACE)
        assert slider.input_value() == "0"


def test_where_less_motion_is_wished_for_a_press_is_a_moment(browser: Browser, url: str, run: cl.Run) -> None:
    moments = len(describe_film(run)["steps"])
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{url}film/")
    play, slider = page.locator(".film-play"), page.locator(".film-line input")
    expect(play).to_have_text("Next moment")
    for press in range(3):
        play.click()
        assert slider.input_value() == str(press % moments)  # after the last the first
    context.close()


@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark"), (360, "light")])
def test_everybody_can_watch_it(browser: Browser, url: str, width: int, scheme: str) -> None:
    with visited(browser, f"{url}film/", width=width, scheme=scheme) as visit:
        found = Axe().run(visit.page)
        assert [violation["id"] for violation in found.response["violations"]] == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.long
def test_overfitting_is_drawn_and_said(browser: Browser, url: str) -> None:
    """In the lesson's film, which overfits."""
    film = json.loads((Path(str(WEB)) / "learn" / "film.json").read_text(encoding="utf-8"))
    assert film["overfit"]
    assert (Path(str(WEB)) / "learn" / "film.json").stat().st_size < 100_000
    with visited(browser, f"{url}learn/") as visit:
        words = visit.page.locator(".film-words").inner_text()
        assert f"lowest after epoch {film['overfit']['epoch']}" in words
        assert len(visit.page.locator(".film-chart .overfit").all()) == 2
        assert len(visit.page.locator(".film-marks .overfit").all()) == 1


@pytest.mark.long
def test_an_exported_page_has_the_film_without_a_server(browser: Browser, run: cl.Run, tmp_path: Path) -> None:
    runtime = tmp_path / "dist"
    runtime.mkdir()
    for name in RUNTIME_FILES:
        (runtime / name).touch()
    write_site({"a/b net": run.classifier(), "second": run.classifier()}, tmp_path / "site", runtime)
    listed = json.loads((tmp_path / "site" / "film" / "films.json").read_text(encoding="utf-8"))["films"]
    assert [entry["name"] for entry in listed] == ["a/b net", "second"]
    with served_files(tmp_path / "site") as url, visited(browser, f"{url}film/") as visit:
        assert visit.page.locator(".film-answers li").count() == 10
        visit.page.select_option("#run", "second")
        visit.settle()
        expect(visit.page.locator(".film-answers li")).to_have_count(10)


@pytest.mark.long
def test_a_training_is_watched_while_it_goes_on(browser: Browser, small_npz: Path, tmp_path: Path) -> None:
    given = ["train", "--model", "dense", "--data", str(small_npz), "--epochs", "100000"]
    training = subprocess.Popen([sys.executable, "-m", "convladder", *given], cwd=tmp_path, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "dense-1"
    watching = None
    try:
        while not (folder / FILM).exists():
            assert training.poll() is None
            time.sleep(0.05)  # between two looks
        command = [sys.executable, "-m", "convladder", "watch", str(folder), "--port", "0"]
        watching = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert watching.stderr
        assert select.select([watching.stderr], [], [], 60)[0]
        found = re.search(r"http://\S+", watching.stderr.readline())
        assert found
        assert found[0].endswith("/film/")
        with visited(browser, found[0]) as visit:
            slider = visit.page.locator(".film-line input")
            expect(visit.page.locator("#state")).to_contain_text("It trains.")
            count = int(slider.get_attribute("max") or 0)
            expect(slider).not_to_have_attribute("max", str(count), timeout=180_000)  # it grew
            assert slider.input_value() == slider.get_attribute("max")  # and shows the newest
            training.terminate()
            training.wait(60)
            expect(visit.page.locator("#state")).to_be_empty(timeout=30_000)
    finally:
        training.kill()
        training.wait()
        if watching:
            watching.kill()
            watching.communicate()


@pytest.mark.long
def test_a_report_plays_the_film_of_each_rung(browser: Browser, run: cl.Run, tmp_path: Path) -> None:
    report = cl.write_report([run], tmp_path / "report.html")
    page = browser.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.as_uri())
    assert page.locator(".film-play").count() == 0  # built when it is opened
    page.locator("details.films summary").click()
    page.locator(".film-play").wait_for()
    moments = len(describe_film(run, MOMENTS_SHOWN)["steps"])
    assert page.locator(".film-line input").get_attribute("max") == str(moments - 1)
    page.locator(".film-line input").fill("0")
    assert "Before the first step" in page.locator(".film-moment").inner_text()
    assert complaints == []
    page.close()


@pytest.mark.long
def test_a_report_says_why_a_rung_has_no_film(browser: Browser, run: cl.Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run.path, tmp_path / "copy"))
    (copy / FILM).write_bytes(b"damaged")
    page = browser.new_page()
    page.goto(cl.write_report([copy], tmp_path / "report.html").as_uri())
    assert "film.npz is damaged" in page.locator("p.films.note").inner_text()
    assert page.locator("details.films").count() == 0
    page.close()


def convladder(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convladder", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.long
def test_watch_refuses_what_has_no_film_in_one_line(run: cl.Run, tmp_path: Path) -> None:
    empty, old = tmp_path / "empty", tmp_path / "old"
    for folder in (empty, old):
        folder.mkdir()
    (old / "run.json").write_text(json.dumps(run.info), encoding="utf-8")
    (damaged := tmp_path / "damaged").mkdir()
    (damaged / "run.json").write_text(json.dumps(run.info | {"status": "running"}), encoding="utf-8")
    (damaged / FILM).write_bytes(b"film")
    for given, told in [
        (tmp_path / "none", "is not a run. Expected a folder that train or compare wrote"),
        (empty, "is not a run."),
        (run.path / "model.onnx", "is not a run."),
        (old, "has no film.npz. Expected a run of this version"),
        (damaged, "is damaged"),
    ]:
        finished = convladder("watch", given, "--port", 0)
        assert finished.returncode == 2
        assert finished.stdout == ""
        assert told in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
