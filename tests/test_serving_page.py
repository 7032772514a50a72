"""The page in a real browser, answered by the server and by itself: it says and shows what the classifier does."""

import base64
import contextlib
import io
import json
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

import convladder as cl
from browsing import Visit, open_browser, serve_here, skip_without
from convladder import cli
from convladder.data.decoding import decode_image
from convladder.exporting import web as web_exporting
from convladder.exporting.onnx_file import export_onnx
from convladder.exporting.site import RUNTIME_FILES, write_site
from convladder.exporting.web import export_web
from convladder.models.ladder import build_model
from served import say


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def classifiers(run: cl.Run, stored: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, cl.Classifier]:
    """Two rungs for digits, and a network, never trained, for photographs in three classes."""
    model = build_model("tiny", (32, 40, 3), 3)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 40, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photos.onnx"
    described = {"class_names": ["cat", "dog", "fox"], "input_shape": (32, 40, 3), "fit": "crop", "rung": "tiny"}
    export_onnx(model, path, described, images, np.asarray(model(images.astype(np.float32))))
    return {"fast": run.classifier(), "dense": stored.classifier(), "photos": cl.Classifier(path)}


@pytest.fixture(scope="module")
def served(classifiers: dict[str, cl.Classifier]) -> Iterator[str]:
    with serve_here(classifiers) as url:
        yield url


@pytest.fixture(scope="module")
def runtime(stored: cl.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime Web as npm fetches it, out of an exported page."""
    skip_without("npm")
    folder = tmp_path_factory.mktemp("exported") / "site"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(
            "sys.argv", ["convladder", "export", str(stored.path), "--format", "web", "--output", str(folder)]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert not ended.value.code
    assert "agrees with Keras on 1,000 images" in printed.getvalue()
    package = tmp_path_factory.mktemp("package")
    for file in (folder / "runtime").glob("*.*"):
        shutil.copy(file, package / (file.name if file.suffix == ".wasm" else f"{file.stem}.mjs"))
    return package


class PlainHost(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def static(
    classifiers: dict[str, cl.Classifier], runtime: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The exported page on a plain host, under a path of its own."""
    root = tmp_path_factory.mktemp("host")
    write_site(classifiers, root / "some" / "path", runtime)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(PlainHost, directory=str(root))) as host:
        thread = threading.Thread(target=host.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{host.server_address[1]}/some/path/"
        host.shutdown()
        thread.join(60)


@pytest.fixture(params=["served", "static"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    visit = Visit(browser, url)
    yield visit
    visit.close()
    assert visit.complaints == []
    assert visit.requested
    assert all(address.startswith((url, "blob:", "data:")) for address in visit.requested)


@pytest.mark.long
def test_a_digit_drawn_with_the_mouse_is_recognized(visit: Visit, classifiers: dict[str, cl.Classifier]) -> None:
    visit.choose("a", "fast")
    visit.choose("b", "dense")
    before = visit.maps()
    visit.draw_seven()
    assert visit.label() == "7"
    seen = visit.network_input()
    for letter, name in (("a", "fast"), ("b", "dense")):
        expected = classifiers[name].predict_probabilities(seen)[0]
        np.testing.assert_allclose(visit.probabilities(letter), expected, atol=1e-5)
        assert visit.label(letter) == str(expected.argmax())
    after = visit.maps()
    assert len(after) == len(classifiers["fast"].stages) + len(classifiers["dense"].stages)
    assert not set(before) & set(after)

    # As MNIST's digits: the longer side 20 of 28 pixels, the centre of mass in the middle.
    ink = seen[0, ..., 0].astype(float)
    rows, columns = np.nonzero(ink > 64)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20, 21)
    centre = [(ink * axis).sum() / ink.sum() for axis in np.indices(ink.shape)]
    np.testing.assert_allclose(centre, 13.5, atol=0.6)

    # Once the hand rests: said aloud, and what was looked at. Waited for, as it may have rested while it drew.
    visit.page.locator("#spoken", has_text="fast says 7").wait_for(state="attached")
    visit.page.locator("#occlusion .a figcaption", has_text=re.compile("^7 at ")).wait_for()
    visit.page.locator("#occlusion .a figcaption", has_text="Hiding").wait_for()

    visit.page.get_by_role("button", name="Shift right").click()
    visit.settle()
    np.testing.assert_array_equal(visit.network_input()[:, :, 2:], seen[:, :, :-2])
    np.testing.assert_allclose(
        visit.probabilities("b"), classifiers["dense"].predict_probabilities(visit.network_input())[0], atol=1e-5
    )


@pytest.mark.long
def test_an_uploaded_picture_is_classified_as_predict_does(
    visit: Visit, small: cl.Dataset, classifiers: dict[str, cl.Classifier], tmp_path: Path
) -> None:
    visit.choose("a", "fast")
    Image.fromarray(small.test.images[0, ..., 0]).save(tmp_path / "digit.png")
    visit.file(str(tmp_path / "digit.png"))
    (answer,) = classifiers["fast"].predict([tmp_path / "digit.png"])
    assert isinstance(answer, cl.Prediction)
    assert visit.label() == answer.label
    assert visit.probabilities()[int(answer.label)] == pytest.approx(answer.probability, abs=1e-5)

    # A photograph, for a network of colours and three classes that stands alone.
    visit.choose("a", "photos")
    assert not visit.page.locator("#model-b").is_visible()
    assert "Drop or paste" in visit.page.locator("#pad-hint").inner_text()
    colours = np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    visit.file(str(tmp_path / "photo.png"))
    pixels = classifiers["photos"].decode(tmp_path / "photo.png")
    expected = classifiers["photos"].predict_probabilities(pixels[np.newaxis])[0]
    np.testing.assert_allclose(visit.probabilities(), expected, atol=1e-5)


@pytest.mark.long
def test_the_page_says_when_a_picture_is_unlike_the_training(visit: Visit, small: cl.Dataset, tmp_path: Path) -> None:
    visit.choose("a", "fast")
    for name, pixels, unlike in (("digit", small.test.images[0], False), ("strange", 255 - small.test.images[0], True)):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{name}.png")
        visit.file(str(tmp_path / f"{name}.png"))
        assert ("unlike its training pictures" in visit.page.locator("#sure-a").inner_text()) == unlike
    visit.page.locator("#spoken", has_text="unlike its training pictures").wait_for(state="attached")


@pytest.mark.long
def test_the_keyboard_alone_is_enough(visit: Visit) -> None:
    keyboard = visit.page.keyboard
    for _ in range(5):
        keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.id") == "pad":
            break
    for key, times in ((" ", 1), ("ArrowDown", 8)):
        for _ in range(times):
            keyboard.press(key)
    visit.settle()
    assert "one stroke" in str(visit.page.locator("#pad").get_attribute("aria-label"))
    seen = visit.network_input()[0, ..., 0]
    rows, columns = np.nonzero(seen)
    assert np.ptp(rows) > 3 * np.ptp(columns)  # a downstroke

    keyboard.press("Shift+ArrowLeft")
    visit.settle()
    np.testing.assert_array_equal(visit.network_input()[0, :, :-2, 0], seen[:, 2:])
    keyboard.press("Delete")
    visit.page.locator("#label-a", has_text="–").wait_for()


@pytest.mark.long
def test_the_page_suits_everyone(browser: Browser, served: str) -> None:
    for width, scheme in ((360, "dark"), (1280, "light")):
        visit = Visit(browser, served, width, scheme)
        visit.draw_seven()
        found = Axe().run(visit.page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.close()


@pytest.mark.long
def test_dropping_pasting_and_what_is_no_picture(
    browser: Browser, served: str, small: cl.Dataset, run: cl.Run, tmp_path: Path
) -> None:
    visit = Visit(browser, served)
    visit.choose("a", "fast")
    Image.fromarray(small.test.images[3, ..., 0]).save(tmp_path / "digit.png")
    content = list((tmp_path / "digit.png").read_bytes())
    for event, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        visit.draw_seven()
        visit.page.evaluate(
            """([event, holder, content]) => {
                const files = new DataTransfer();
                files.items.add(new File([new Uint8Array(content)], "digit.png", { type: "image/png" }));
                const happening = new Event(event, { bubbles: true, cancelable: true });
                Object.defineProperty(happening, holder, { value: files });
                document.body.dispatchEvent(happening);
            }""",
            [event, holder, content],
        )
        visit.settle()
        np.testing.assert_allclose(visit.probabilities(), run.predictions["probabilities"][3], atol=1e-5)
    (tmp_path / "text.png").write_text("no picture")
    visit.page.set_input_files("#file", str(tmp_path / "text.png"))
    visit.page.locator("#problem:not([hidden])").wait_for()
    assert "is not a picture" in visit.page.get_by_role("alert").inner_text()
    visit.close()


@pytest.mark.long
def test_the_browser_decodes_as_pillow_does(browser: Browser, static: str, tmp_path: Path) -> None:
    visit = Visit(browser, static)
    generator = np.random.default_rng(2)
    for number, (height, width, channels, fit, mode) in enumerate(
        [
            (28, 28, 1, "stretch", "L"),
            (61, 100, 1, "stretch", "RGB"),
            (61, 100, 3, "crop", "RGB"),
            (61, 100, 3, "pad", "L"),
            (20, 13, 1, "pad", "RGB"),
            (20, 13, 3, "crop", "RGB"),
        ]
    ):
        values = generator.integers(0, 256, (height, width) if mode == "L" else (height, width, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(values).save(path)
        shape = (28, 36, channels) if number else (28, 28, 1)
        answered = visit.page.evaluate(
            """async ([content, shape, fit]) => {
                const { Engine } = await import(new URL("page/browser-engine.js", location.href));
                const file = new Blob([new Uint8Array(content)], { type: "image/png" });
                return Array.from(await new Engine().decode({ input_shape: shape, fit }, file));
            }""",
            [list(path.read_bytes()), shape, fit],
        )
        np.testing.assert_array_equal(np.reshape(answered, shape), decode_image(path, shape, fit))
    visit.close()


@pytest.mark.long
def test_the_page_tells_how_good_the_networks_are(visit: Visit, run: cl.Run) -> None:
    visit.choose("a", "fast")
    told = visit.page.locator("#accounts .a").inner_text()
    test = run.metrics["test"]
    assert f"{100 * test['accuracy']:.2f} %" in told
    assert f"{test['images']:,} test images" in told
    assert run.info["fingerprint"][:12] in told
    wrong = run.predictions["probabilities"].argmax(axis=1)
    pairs = [(t, a) for t, a in zip(run.predictions["labels"], wrong, strict=True) if t != a]
    truth, answer = max(pairs, key=pairs.count)
    assert f"taken for {answer}: {pairs.count((truth, answer))}×" in told or pairs.count((truth, answer)) == 1


@pytest.mark.long
def test_a_test_image_gets_what_the_run_answered(visit: Visit, classifiers: dict[str, cl.Classifier]) -> None:
    visit.choose("a", "fast")
    button = visit.page.locator("#thumbnails button").nth(3)
    button.click()
    visit.settle()
    assert button.get_attribute("aria-pressed") == "true"
    assert "misjudged" in str(button.get_attribute("aria-label"))
    truth = str(button.get_attribute("aria-label")).partition(": ")[2][0]
    assert visit.page.locator("#truth").inner_text() == f"Right answer: {truth}"
    assert visit.label() != truth
    expected = classifiers["fast"].predict_probabilities(visit.network_input())[0]
    np.testing.assert_allclose(visit.probabilities(), expected, atol=1e-5)


def test_what_the_page_asks_is_checked(served: str) -> None:
    def status(path: str, content: bytes) -> int:
        answer = httpx.post(served + path, content=content)
        assert answer.is_success or set(answer.json()) == {"error", "code", "status"}
        return answer.status_code

    assert status("look/fast", bytes(784)) == 200
    assert status("look/fast", bytes(784 * 3)) == 200
    for path, content in (("look/fast", b""), ("look/fast", bytes(783)), ("look/fast?maps=1", bytes(784 * 2))):
        assert status(path, content) == 422
    assert status("look/fast", bytes(784 * 300)) == 422
    assert status("look/nobody", bytes(784)) == 404
    assert status("decode/fast", b"no picture") == 415
    assert httpx.get(served + "examples/nobody").status_code == 404
    port = int(served.rstrip("/").rpartition(":")[2])
    raw = b"GET /page/../page.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"  # httpx would tidy it
    assert say(port, raw).startswith(b"HTTP/1.1 404 ")
    policy = httpx.get(served).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.long
def test_an_export_that_cannot_be_is_refused(
    run: cl.Run, stored: cl.Run, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(cl.ConvladderError, match="exists and is not an export"):
        export_web({"dense": stored}, tmp_path / "full", runtime)
    with pytest.raises(cl.ConvladderError, match=r"holds no ort\.wasm\.min\.mjs"):
        export_web({"dense": stored}, tmp_path / "site", tmp_path)
    otherwise = cl.Run(shutil.copytree(stored.path, tmp_path / "otherwise"))
    shutil.copy(run.path / "model.onnx", otherwise.path)
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        export_web({"dense": otherwise}, tmp_path / "site", runtime)
    assert raised.value.exit_status == 3
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(cl.ConvladderError, match="npm is not installed") as raised:
        export_web({"dense": stored}, tmp_path / "site")
    assert raised.value.exit_status == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "otherwise"]


def test_runs_whose_names_become_one_file_are_all_exported(stored: cl.Run, run: cl.Run, tmp_path: Path) -> None:
    runtime = tmp_path / "dist"
    runtime.mkdir()
    for name in RUNTIME_FILES:
        (runtime / name).touch()
    named = {"my net": stored, "my-net": run, "My net": stored, "my+net-": run, "é": run}
    write_site({name: one.classifier() for name, one in named.items()}, tmp_path / "site", runtime)
    written = json.loads((tmp_path / "site" / "models.json").read_text(encoding="utf-8"))["models"]
    assert [model["name"] for model in written] == list(named)
    for model in written:
        content = (tmp_path / "site" / unquote(model["file"])).read_bytes()
        assert content == named[model["name"]].classifier().path.read_bytes()
    for folder in ("models", "examples"):
        files = [path.name.casefold() for path in (tmp_path / "site" / folder).iterdir()]
        assert len(set(files)) == len(files) == len(named)


@pytest.mark.long
def test_the_gate_runs_the_file_that_was_written(
    stored: cl.Run, run: cl.Run, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here another one than the run's is written."""
    monkeypatch.setattr(
        web_exporting,
        "write_site",
        lambda classifiers, *others: write_site({name: run.classifier() for name in classifiers}, *others),
    )
    with pytest.raises(cl.ConvladderError, match="nothing was written") as raised:
        export_web({"dense": stored}, tmp_path / "site", runtime)
    assert raised.value.exit_status == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_lesson_of_an_export_runs_without_a_server(
    browser: Browser, static: str, classifiers: dict[str, cl.Classifier]
) -> None:
    visit = Visit(browser, f"{static}learn/")
    visit.page.locator("#digits button").nth(4).click()
    visit.settle()
    pixels = base64.b64decode(httpx.get(f"{static}learn/lesson.json").json()["digits"]["pixels"])
    digit = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28, 1)[4:5]
    for letter, name in (("a", "dense"), ("b", "fast")):
        assert visit.page.eval_on_selector(f"#network-{letter}", "one => one.selectedOptions[0].textContent") == name
        expected = classifiers[name].predict_probabilities(digit)[0].argmax()
        assert visit.page.locator(f"#answer-{letter}").inner_text() == str(expected)
    assert visit.page.locator("#where").inner_text().startswith("Everything is computed in this browser")
    assert all(address.startswith((static, "blob:", "data:")) for address in visit.requested)
    assert visit.complaints == []
    visit.page.locator("#page").click()
    visit.settle()
    assert visit.page.url == static
    visit.close()
