"""The page with networks for photographs: everybody can read it, on a small screen too, whatever lies on the pad."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser

import convladder as cl
from browsing import Visit, open_browser, serve_here
from convladder.data.dataset import Split
from convladder.exporting.onnx_file import export_onnx
from convladder.models.ladder import build_model

NAMES = ("cardigan", "long-sleeved undershirt", "pants", "wristwatches")
BOTH = ("photos-worse", "photos-better")  # in the order served
LONGEST_LOSS = 0.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, cl.Classifier]:
    """Two networks for photographs, the worse first; one for digits, never trained."""
    generator = np.random.default_rng(0)
    labels = np.arange(400) % len(NAMES)
    # Each class has a colour, mostly; the test images, of random colours, are often misjudged.
    images = generator.integers(0, 100, (400, 32, 32, 3), dtype=np.uint8)
    shade = np.where(generator.random(400) < 0.8, labels, generator.integers(0, len(NAMES), 400))
    images[np.arange(400), :, :, shade % 3] += (60 * (1 + shade // 3)).astype(np.uint8)[:, np.newaxis, np.newaxis]
    train, validation, test = (Split(images[part], labels[part]) for part in np.split(np.arange(400), (300, 350)))
    data = cl.Dataset("clothes of mine", NAMES, train, validation, test)
    folder = tmp_path_factory.mktemp("photos")
    recipe = replace(cl.DEFAULT, epochs=1)
    runs = [cl.train(rung, data, recipe, directory=folder) for rung in ("dense", "pool")]
    runs.sort(key=lambda run: run.metrics["test"]["accuracy"])
    model = build_model("tiny", (28, 28, 1), 10)
    digits = np.zeros((4, 28, 28, 1), np.uint8)
    described = {"class_names": [*"0123456789"], "input_shape": (28, 28, 1), "fit": "stretch", "rung": "tiny"}
    export_onnx(model, folder / "digits.onnx", described, digits, np.asarray(model(digits.astype(np.float32))))
    own = dict(zip(BOTH, (run.classifier() for run in runs), strict=True))
    return own | {"digits": cl.Classifier(folder / "digits.onnx")}


@pytest.fixture(scope="module")
def two(classifiers: dict[str, cl.Classifier]) -> Iterator[str]:
    with serve_here(classifiers) as url:
        yield url


@pytest.fixture(scope="module")
def one(classifiers: dict[str, cl.Classifier]) -> Iterator[str]:
    with serve_here({name: classifiers[name] for name in BOTH[:1]}) as url:
        yield url


@pytest.fixture(params=["one", "two"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    pixels = np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def shown_text(visit: Visit) -> str:
    """What the page shows, but for the link to the lesson."""
    return visit.page.locator("header").inner_text() + visit.page.locator("main").inner_text()


@pytest.mark.long
def test_a_test_image_says_its_right_answer_to_everybody(browser: Browser, two: str) -> None:
    visit = Visit(browser, two)
    judged = set()
    for button in visit.page.locator("#thumbnails button").all()[:4]:  # every fourth is misjudged
        button.focus()
        visit.page.keyboard.press("Enter")
        visit.settle()
        truth = button.inner_text().partition("\n")[0]
        assert truth in NAMES
        assert truth in str(button.get_attribute("aria-label"))
        assert visit.page.locator("#truth").inner_text() == f"Right answer: {truth}"
        assert truth in str(visit.page.locator("#pad").get_attribute("aria-label"))
        for letter in "ab":
            said = visit.page.locator(f"#judged-{letter}").inner_text()
            assert said == ("right" if visit.label(letter) == truth else "wrong")
            judged.add(said)
        misjudged = "misjudged" in str(button.get_attribute("aria-label"))
        assert misjudged == (visit.label("a") != truth)
    assert judged == {"right", "wrong"}
    visit.page.locator("#spoken", has_text=f"The right answer is {truth}.").wait_for(state="attached")
    visit.page.click("#clear")
    assert not visit.page.locator("#truth").is_visible()
    assert visit.page.locator("#judged-a").inner_text() == ""
    sign = visit.page.locator("#judged-a").evaluate("one => getComputedStyle(one, '::before').content")
    assert sign == "none"
    visit.close()


@pytest.mark.long
def test_the_models_stand_in_the_order_served(browser: Browser, two: str) -> None:
    visit = Visit(browser, two)
    assert visit.page.locator("#model-a option").all_inner_texts() == [*BOTH, "digits"]
    assert [visit.page.locator(f"#model-{letter}").input_value() for letter in "ab"] == list(BOTH)
    visit.close()


@pytest.mark.long
def test_the_words_fit_what_is_served_and_shown(browser: Browser, one: str, two: str, photo: str) -> None:
    of_one, of_drawings = r"\b((they|both|two networks|first network))\b", r"\b(draw|pen|MNIST)"
    visit = Visit(browser, one)
    for state in ("test image", "file", "nothing"):
        if state == "file":
            visit.file(photo)
        elif state == "nothing":
            visit.page.click("#clear")
        visit.settle()
        assert not re.findall(f"{of_one}|{of_drawings}", shown_text(visit), flags=re.IGNORECASE), state
    assert "Drawing" not in str(visit.page.locator("#pad").get_attribute("aria-label"))
    visit.close()

    visit = Visit(browser, two)
    assert "two networks" in shown_text(visit)
    assert visit.page.locator("#input-caption").inner_text() == "As both networks see it"
    assert not re.findall(of_drawings, shown_text(visit), flags=re.IGNORECASE)
    visit.file(photo)
    visit.choose("a", "digits")  # the file stays, and is decoded for this network
    assert visit.label() in "0123456789"
    assert "28×28 pixels, gray" in visit.page.locator("#preparing").inner_text()
    assert "MNIST" not in visit.page.locator("#preparing").inner_text()
    visit.draw_seven()
    assert "MNIST" in visit.page.locator("#preparing").inner_text()
    assert visit.complaints == []
    visit.close()


BROKEN_WORDS = """all => all.flatMap(one => {
    const walker = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
    const broken = [];
    while (walker.nextNode()) {
        for (const { 0: word, index } of walker.currentNode.data.matchAll(/[^\\s-]+/g)) {
            const range = document.createRange();
            range.setStart(walker.currentNode, index);
            range.setEnd(walker.currentNode, index + word.length);
            const own = range.getBoundingClientRect(), box = one.closest(".card").getBoundingClientRect();
            const lines = new Set(Array.from(range.getClientRects(), (part) => Math.round(part.top)));
            if (lines.size > 1 || own.left < box.left || own.right > box.right) broken.push(word);
        }
    }
    return broken;
})"""


@pytest.mark.long
def test_class_names_are_whole_on_a_small_screen(browser: Browser, url: str) -> None:
    visit = Visit(browser, url, 360)
    for button in visit.page.locator("#thumbnails button").all()[:4]:
        button.click()
        visit.settle()
        names = "#bars .name, .verdict:not([hidden]) .label, #thumbnails span, #truth"
        assert set(visit.page.locator("#bars .name").all_inner_texts()) == set(NAMES)
        assert visit.page.eval_on_selector_all(names, BROKEN_WORDS) == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 360
    visit.close()


@pytest.mark.long
def test_feature_maps_are_large_enough_to_see(browser: Browser, two: str) -> None:
    for width, across in ((360, 4), (1200, 8)):
        visit = Visit(browser, two, width)
        widths = visit.page.eval_on_selector_all("#stages .maps", "all => all.map(one => one.clientWidth)")
        assert widths
        assert min(widths) / across >= 60
        visit.close()


@pytest.mark.long
@pytest.mark.parametrize("how", ["keyboard", "touch"])
def test_a_feature_map_is_enlarged(browser: Browser, two: str, how: str) -> None:
    visit = Visit(browser, two, 360, "dark", has_touch=True)
    page, stage = visit.page, visit.page.locator("#stages .enlarge").first
    page.locator('#occlusion[aria-busy="false"]').wait_for()  # which moves what lies below it
    before = visit.maps()
    if how == "keyboard":
        stage.focus()
        page.keyboard.press("Enter")
    else:
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        assert box
        page.touchscreen.tap(box["x"] + 0.3 * box["width"], box["y"] + 5)  # the second of four
    number = 1 if how == "keyboard" else 2
    title = page.get_by_role("dialog").get_by_role("heading")
    assert f"map {number} of" in title.inner_text()
    canvas = page.locator("#zoom-map")
    box = canvas.bounding_box()
    assert box
    assert box["width"] >= 280
    assert canvas.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"
    found = Axe().run(page).response["violations"]
    assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
    first = canvas.evaluate("one => one.toDataURL()")
    if how == "keyboard":
        page.keyboard.press("ArrowRight")
    else:
        page.get_by_role("button", name="Next").tap()
    assert f"map {number + 1} of" in title.inner_text()
    assert canvas.evaluate("one => one.toDataURL()") != first
    if how == "keyboard":
        page.keyboard.press("Escape")
        assert stage.evaluate("one => document.activeElement === one")
    else:
        page.get_by_role("button", name="Close").tap()
    assert page.get_by_role("dialog").count() == 0
    assert visit.maps() == before
    visit.close()


def painted_occlusion(visit: Visit, colour: tuple[int, int, int], lost: float) -> Any:
    """A picture of one colour, whose middle matters: colours of a corner and of the middle, and what stands below."""
    return visit.page.evaluate(
        """async ([colour, lost]) => {
            const { lookedFigures, paintOcclusion } = await import(new URL("page/looked.js", location.href));
            const model = { name: "one", input_shape: [40, 40, 3], class_names: ["hat", "shoe"] };
            const column = document.createElement("div");
            const { looked } = lookedFigures(model, column, false);
            const pixels = Uint8Array.from({ length: 4800 }, (_, i) => colour[i % 3]);
            const answered = { model, pixels, probabilities: [0.9, 0.1] };
            paintOcclusion(looked, answered, { side: 8, places: [[0, 0], [16, 16]] }, [0, lost]);
            const context = looked.canvas.getContext("2d"), zoom = looked.canvas.width / 40;
            const at = (x, y) => Array.from(context.getImageData(x * zoom, y * zoom, 1, 1).data.slice(0, 3));
            return { least: at(4, 4), most: at(20, 20), edge: at(16, 20), text: column.textContent };
        }""",
        [colour, lost],
    )


def luminance(colour: list[int]) -> float:
    """Relative luminance, 0–1, of WCAG 2.2."""
    share = np.asarray(colour) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.long
def test_important_places_show_on_every_photograph(browser: Browser, one: str) -> None:
    visit = Visit(browser, one)
    for colour in ((5, 5, 5), (250, 250, 250), (230, 120, 20), (120, 20, 10)):
        painted = painted_occlusion(visit, colour, LONGEST_LOSS)
        contrast = (luminance(painted["most"]) + 0.05) / (luminance(painted["least"]) + 0.05)
        assert contrast > 3, colour
        assert painted["edge"] == [255, 255, 255]
        assert "−50 points" in painted["text"]
        assert "takes hat from 90 % to 40 %" in painted["text"]
    nothing = painted_occlusion(visit, (5, 5, 5), 0.001)
    assert luminance(nothing["most"]) < 0.01
    visit.page.locator('#occlusion[aria-busy="false"]').wait_for()
    assert visit.page.locator("#occlusion .scale").is_visible()
    visit.close()


@pytest.mark.long
def test_the_page_of_photographs_suits_everyone(browser: Browser, url: str, photo: str) -> None:
    for width, scheme in ((360, "dark"), (1200, "light")):
        visit = Visit(browser, url, width, scheme)
        visit.file(photo)
        visit.page.locator('#occlusion[aria-busy="false"]').wait_for()
        found = Axe().run(visit.page).response["violations"]
        assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        assert visit.complaints == []
        visit.close()
