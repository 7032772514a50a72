"""The report on photographs, in a real browser: large pictures, whole names; and what is kept for the next report."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Locator, Page

import convladder as cl
from browsing import open_browser
from convladder.data.dataset import Split
from convladder.data.loading import locate
from convladder.reporting.kept import FILE
from convladder.reporting.pictures import overlay, picture_uri

SOURCE = locate("clothes") / "train"
LONG = "a coat of the finest lambswool, knee-length, with seven buttons & a hood"
UNBROKEN = "Donaudampfschifffahrtsgesellschaftskapitänsmütze"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty photographs of two classes, one with a long name."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    for name, other in (("hat", LONG), ("pants", UNBROKEN)):
        (folder / other).mkdir(parents=True)
        for path in sorted((SOURCE / name).iterdir())[:20]:
            shutil.copy(path, folder / other)
    return folder


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs")
    for rung in ("dense", "pool"):
        recipe = replace(cl.DEFAULT, epochs=0.5, learning_rate=1e-6)  # it learns nothing, so that errors are shown
        cl.train(rung, cl.load_dataset(photos), recipe, directory=directory)
    return directory


@pytest.fixture(scope="module")
def report(runs: Path) -> Path:
    return cl.write_report(runs, runs / "report.html")


def open_page(browser: Browser, path: Path, width: int = 1280, scheme: str = "light") -> Page:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    return page


def widths(pictures: Locator) -> list[tuple[int, float]]:
    """Each picture's own width, and that of its image on the screen."""
    found = pictures.evaluate_all("all => all.map(one => [one.naturalWidth, one.getBoundingClientRect().width])")
    return [(int(natural), float(seen)) for natural, seen in found]


@pytest.mark.long
@pytest.mark.parametrize(("width", "least"), [(1280, 160), (360, 140)])
def test_photographs_are_large_even_of_a_network_that_takes_48_pixels(
    width: int, least: int, report: Path, runs: Path, browser: Browser
) -> None:
    assert cl.Run(runs / "pool-1").info["input_shape"][0] == 48
    page = open_page(browser, report, width)
    found = widths(page.locator(".found:visible img, .worst:visible img"))
    assert len(found) > 1
    assert all(natural == 160 and seen >= least for natural, seen in found), found
    rendering = page.locator(".worst:visible img").first.evaluate("one => getComputedStyle(one).imageRendering")
    assert rendering == "auto"  # smooth
    page.close()


@pytest.mark.long
def test_digits_are_enlarged_without_blur(stored: cl.Run, tmp_path: Path, browser: Browser) -> None:
    trained = shutil.copytree(stored.path, tmp_path / "run")
    page = open_page(browser, cl.write_report(trained, tmp_path / "report.html"))
    pictures = page.locator(".found:visible img")
    assert {natural for natural, _ in widths(pictures)} == {28}
    assert {seen for _, seen in widths(pictures)} == {160.0}
    assert pictures.first.evaluate("one => getComputedStyle(one).imageRendering") == "pixelated"
    # What is embedded are the pixels themselves.
    number = int(str(pictures.first.get_attribute("alt")).split(":")[0].removeprefix("Test image "))
    source = str(pictures.first.get_attribute("src"))
    assert source == picture_uri(stored.load_dataset().test.images[number])
    page.close()


@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_the_report_on_photographs_is_accessible(width: int, scheme: str, report: Path, browser: Browser) -> None:
    page = open_page(browser, report, width, scheme)
    violations = Axe().run(page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.long
def test_every_plot_of_accuracies_has_the_chance_line(report: Path, runs: Path, browser: Browser) -> None:
    labels = cl.Run(runs / "pool-1").predictions["labels"]
    share = np.bincount(labels).max() / len(labels)
    page = open_page(browser, report)
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    plots = page.locator("figure:visible svg:not(.films svg)")
    assert plots.count() >= 5
    for plot in plots.all():
        assert "chance" in " ".join(plot.locator(".chance").all_text_contents()), plot.get_attribute("aria-label")
        assert "always the most frequent class" in str(plot.get_attribute("aria-label"))
    assert f"right on {100 * share:.1f}" in page.locator("main").inner_text()
    page.close()


@pytest.mark.long
def test_what_takes_long_is_computed_once_and_kept_with_the_run(runs: Path, report: Path, tmp_path: Path) -> None:
    said: list[str] = []
    again = cl.write_report(runs, tmp_path / "again.html", say=said.append)
    assert said == []
    assert again.read_text() == report.read_text()
    copied = tmp_path / "copied"
    shutil.copytree(runs, copied)
    for file in copied.glob(f"*/{FILE}"):  # as in a folder of an older version
        file.unlink()
    anew = cl.write_report(copied, tmp_path / "anew.html", say=said.append)
    assert any("learning curve" in line for line in said)
    assert anew.read_text().replace(str(copied), str(runs)) == report.read_text()


@pytest.mark.long
@pytest.mark.parametrize("content", ["", "[]", '{"audit": 3}', '{"maps": {"basis": [1], "value": 7}}'])
def test_a_damaged_store_is_made_anew(content: str, runs: Path, report: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runs, tmp_path / "copied")
    for file in copied.glob(f"*/{FILE}"):
        file.write_text(content)
    written = cl.write_report(copied, tmp_path / "report.html")
    assert written.read_text().replace(str(copied), str(runs)) == report.read_text()
    assert all(len(json.loads(file.read_text())) for file in copied.glob(f"*/{FILE}"))


@pytest.mark.long
def test_a_new_file_is_audited_though_the_pictures_are_the_same(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for source in sorted(photos.glob("*/*")):  # with splits that another file does not change
        number = int(hashlib.sha256(source.name.encode()).hexdigest(), 16) % 3
        target = folder / ("train", "val", "test")[number] / source.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    recipe = replace(cl.DEFAULT, epochs=0.5)
    trained = cl.train("dense", cl.load_dataset(folder, image_size=16), recipe, directory=tmp_path / "runs")
    assert "The file is empty" not in cl.write_report(trained, tmp_path / "report.html").read_text()
    (folder / "train" / LONG / "new.jpg").write_bytes(b"")
    assert "The file is empty" in cl.write_report(trained, tmp_path / "report.html").read_text()


@pytest.mark.long
def test_where_the_run_s_folder_cannot_be_written_the_report_still_is(runs: Path, report: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(runs, tmp_path / "copied")
    for file in copied.glob(f"*/{FILE}"):
        file.unlink()
        file.mkdir()  # in its place, which root cannot replace either
    written = cl.write_report(copied, tmp_path / "report.html")
    assert written.read_text().replace(str(copied), str(runs)) == report.read_text()


@pytest.mark.long
def test_the_command_writes_a_report_without_tensorflow(runs: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from convladder.cli import main\n"
        f"sys.argv = ['convladder', 'report', {str(runs)!r}, '--output', {str(tmp_path / 'report.html')!r}]\n"
        "try:\n    main()\nfinally:\n"
        "    assert not {'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "report.html").stat().st_size > 50_000


@pytest.mark.long
@pytest.mark.parametrize("count", [12, 102])
def test_long_class_names_are_whole_at_360_pixels(count: int, tmp_path: Path, browser: Browser) -> None:
    names = tuple(f"{UNBROKEN if number % 2 else LONG} {number}" for number in range(count))
    rng = np.random.default_rng(0)

    def split(of_each: int) -> Split:
        labels = np.repeat(np.arange(count), of_each)
        return Split(rng.integers(0, 256, (len(labels), 8, 8, 1), dtype=np.uint8), labels)

    dataset = cl.Dataset("many", names, split(2), split(1), split(2))
    trained = cl.train("dense", dataset, replace(cl.DEFAULT, epochs=0.5), directory=tmp_path / "runs")
    page = open_page(browser, cl.write_report(trained, tmp_path / "report.html"), 360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    cells = page.locator(".matrix th, .confusions td:not(:last-child), .numbers:has(#classes-0) tbody th")
    said = cells.all_inner_texts()
    assert {name for name in names if name in said} == set(names)
    cut = cells.evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth + 1 || one.scrollHeight > one.clientHeight + 1"
        " || one.getBoundingClientRect().width > 200).map(one => one.textContent)"
    )
    assert cut == []
    page.close()


@pytest.mark.parametrize("brightness", [0, 128, 255])
def test_a_map_is_seen_on_dark_and_on_bright_photographs(brightness: int) -> None:
    image = np.full((16, 16, 3), brightness, np.uint8)
    values = np.zeros((8, 8), np.float32)  # of a network that takes smaller images
    values[:4], values[4:, 4:] = 0.5, -0.4
    drawn = overlay(image, values).astype(int)
    untouched, red, blue = drawn[12, 2], drawn[2, 2], drawn[13, 13]
    assert len(set(untouched.tolist())) == 1  # gray
    assert red[0] - red[2] > 60
    assert blue[2] - blue[0] > 60
    assert abs(red - untouched).max() > 60


def test_a_color_picture_stays_in_color_and_a_gray_one_gray() -> None:
    for channels in (1, 3):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
        content = base64.b64decode(picture_uri(pixels).partition(",")[2])
        with Image.open(io.BytesIO(content)) as picture:
            assert np.array_equal(np.asarray(picture), np.broadcast_to(pixels, (20, 30, 3)))
