"""The report, opened in a real browser: what is clicked, typed and read; what it says where data are gone."""

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page
from sklearn.metrics import confusion_matrix

import convladder as cl
from browsing import open_browser
from convladder.reporting.pictures import Gallery, fill, sort_into_cells
from convladder.reporting.repeating import command_for
from convladder.training.recipes import default_recipe_for

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def directory(small_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rungs, one of them with two seeds, on data that can be loaded again."""
    directory = tmp_path_factory.mktemp("runs")
    dataset = cl.load_dataset(small_npz)
    for rung, seed in (("dense", 0), ("dense", 1), ("fast", 0)):
        usual = default_recipe_for(rung, dataset) if rung == "dense" else cl.DEFAULT
        cl.train(rung, dataset, replace(usual, epochs=1), seed=seed, directory=directory)
    return directory


@pytest.fixture(scope="module")
def report(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cl.write_report([directory], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


class Visit:
    """One page, what it asked for and what it complained of."""

    def __init__(self, browser: Browser, path: Path, width: int = 1280, scheme: Any = "light") -> None:
        self.complaints: list[str] = []
        self.requested: list[str] = []
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.goto(path.as_uri())

    def shown(self) -> list[str]:
        """What the pictures that are seen below the matrix say of themselves, in words."""
        pictures = self.page.locator(".found:visible img")
        loaded = pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
        assert loaded
        return [str(picture.get_attribute("alt")) for picture in pictures.all()]

    def close(self) -> None:
        assert self.complaints == []
        assert [url for url in self.requested if not url.startswith(("file:", "data:"))] == []
        self.page.context.close()


def commonest(run: cl.Run, place: int = 0) -> tuple[int, int, int]:
    """A confusion, the commonest first, as scikit-learn counts it: label, taken for, times."""
    taken = run.predictions["probabilities"].argmax(axis=1)
    matrix = confusion_matrix(run.predictions["labels"], taken)
    np.fill_diagonal(matrix, 0)
    label, other = np.unravel_index(np.argsort(-matrix, axis=None, kind="stable")[place], matrix.shape)
    return int(label), int(other), int(matrix[label, other])


@pytest.mark.long
def test_a_click_on_a_confusion_shows_those_images(report: Path, directory: Path, browser: Browser) -> None:
    visit = Visit(browser, report)
    visit.page.select_option("#choice", label="dense")
    # Of two runs the report looks into the lower median.
    run = min((cl.Run(directory / f"dense-{n}") for n in (1, 2)), key=lambda run: float(run.info["test_accuracy"]))
    label, taken, count = commonest(run, 1)
    button = visit.page.get_by_role("button", name=f"{label} taken for {taken}: {count} image")
    button.click()
    expected = np.flatnonzero(
        (run.predictions["labels"] == label) & (run.predictions["probabilities"].argmax(axis=1) == taken)
    )
    shown = visit.shown()
    assert len(shown) == min(12, count)
    assert {int(text.split(":")[0].removeprefix("Test image ")) for text in shown} <= set(expected.tolist())
    surest = run.predictions["probabilities"][expected].max()
    assert f"Answer: {taken} {100 * surest:.1f} %" in shown[0]
    assert button.get_attribute("aria-pressed") == "true"
    visit.close()


@pytest.mark.long
def test_the_keyboard_goes_from_cell_to_cell(report: Path, browser: Browser) -> None:
    visit = Visit(browser, report)
    page = visit.page
    page.locator('.view:visible button[data-cell="0,0"]').focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell").endswith(",0")
    page.locator('.view:visible button[data-cell="1,1"]').focus()
    page.keyboard.press("Enter")
    by_enter = visit.shown()
    assert by_enter
    assert all(": 1. Answer: 1 " in text for text in by_enter)
    page.locator('.view:visible button[data-cell="0,0"]').focus()
    page.keyboard.press("Space")
    assert all(": 0. Answer: 0 " in text for text in visit.shown())
    assert page.locator(".found:visible").get_attribute("aria-live") == "polite"
    visit.close()


@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_is_accessible_and_no_wider_than_the_screen(report: Path, browser: Browser, width: int, scheme: str) -> None:
    visit = Visit(browser, report, width, scheme)
    violations = Axe().run(visit.page).response["violations"]
    assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    for figure in visit.page.locator("svg").all():
        assert figure.get_attribute("role") == "img"
        assert len(figure.get_attribute("aria-label") or "") > 20
    visit.close()


@pytest.mark.long
def test_on_paper_everything_is_open_and_no_control_is_seen(report: Path, browser: Browser) -> None:
    visit = Visit(browser, report)
    closed = visit.page.locator("#again ~ details, section details").all()
    assert closed
    assert not any(one.get_attribute("open") is not None for one in closed)
    visit.page.emulate_media(media="print")
    visit.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert visit.page.locator("caption", has_text="Each run, and how it was trained").is_visible()
    assert not visit.page.locator("nav").is_visible()
    assert not visit.page.locator("select").is_visible()
    visit.close()


@pytest.mark.long
def test_it_says_what_the_runs_say(report: Path, directory: Path, browser: Browser) -> None:
    comparison = cl.Comparison(tuple(cl.Run(directory / name) for name in ("dense-1", "dense-2", "fast-1")))
    visit = Visit(browser, report)
    said = visit.page.locator("main").inner_text()
    row = next(row for row in comparison.rows if row["name"] == comparison.recommendation["name"])
    assert f"Take {row['name']}: it classifies {100 * row['test_accuracy']:.2f}" in said
    assert comparison.runs[0].info["fingerprint"] in said
    assert ["robustness" in cl.Run(run.path).metrics for run in comparison.runs].count(True) == 2  # a run a rung
    headings = visit.page.locator("h1, h2, h3").all_inner_texts()
    assert headings[0] == "Which layer earns its cost?"
    assert {"The ladder", "Learning curves", "Robustness", "How to reproduce it"} <= set(headings)
    visit.close()


@pytest.mark.long
def test_every_plot_has_the_chance_line_of_its_images(report: Path, directory: Path, browser: Browser) -> None:
    labels = cl.Run(directory / "dense-1").predictions["labels"]
    share = np.bincount(labels).max() / len(labels)
    visit = Visit(browser, report)
    plots = visit.page.locator("figure svg")
    kinds = [str(plot.get_attribute("aria-label")) for plot in plots.all()]
    assert sum("predicted probability" in kind for kind in kinds) == 2  # calibration, of each rung
    assert sum(kind.startswith("Accuracy against") for kind in kinds) == 5  # robustness, of each change
    for plot, kind in zip(plots.all(), kinds, strict=True):
        assert "chance" in (plot.locator(".chance").text_content() or ""), kind
        if "epoch" not in kind:  # those are of the validation images
            assert f"chance {100 * share:.2g} %" in kind
    visit.close()


@pytest.mark.long
def test_the_command_is_the_one_that_makes_these_runs(small_npz: Path, directory: Path) -> None:
    def command(*names: str) -> str | None:
        return command_for(cl.Comparison(tuple(cl.Run(directory / name) for name in names)))

    expected = f"convladder compare --data {small_npz} --models dense --seeds"
    assert command("dense-1", "dense-2") == f"{expected} 2 --epochs 1"
    assert command("dense-1") == f"{expected} 1 --epochs 1"
    assert command("dense-2") is None  # its seed is 1, and a comparison begins with 0
    assert command("dense-1", "fast-1") is None  # `fast` has a recipe of its own, and did not take it


@pytest.mark.long
@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cache": False}, " --no-cache "),
        ({"keep_leaks": True}, " --keep-leaks "),
        ({"columns": {"label": "the breed", "split": "none"}}, " '--label-column=the breed' --split-column=none "),
        ({"fit": "pad"}, " --resize pad "),
        ({"channels": 3}, " --channels=3 "),
        ({"validation": 0.2}, None),  # of Python alone
        ({"seed": 7}, None),
    ],
)
def test_the_command_says_how_the_data_were_loaded(data: dict[str, Any], said: str | None, directory: Path) -> None:
    run = cl.Run(directory / "dense-1")
    run.info["data"] |= data
    command = command_for(cl.Comparison((run,)))
    assert command is None if said is None else said in f"{command} "


@pytest.mark.long
def test_of_a_network_that_its_user_built_no_command_is_said(directory: Path) -> None:
    run = cl.Run(directory / "dense-1")
    run.info["own_network"] = True
    assert command_for(cl.Comparison((run,))) is None


@pytest.mark.long
def test_the_command_pasted_into_a_shell_makes_these_runs(tmp_path: Path, small: cl.Dataset) -> None:
    folder = tmp_path / 'it\'s "a" [b] $HOME #1 %41 `x`\n*'
    for name in ("-a", "b"):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(small.train.images[small.train.labels == len(name)][:30]):
            Image.fromarray(image[..., 0]).save(folder / name / f"{number}.png")
    (tmp_path / "elsewhere").mkdir()
    dataset = cl.load_dataset(folder, image_size=28, resize="pad")
    recipe = replace(default_recipe_for("dense", dataset), epochs=0.1234567, batch_size=16)
    cl.train("dense", dataset, recipe, directory=tmp_path / "runs", deterministic=True)
    command = command_for(cl.Comparison((cl.Run(tmp_path / "runs" / "dense-1"),)))
    assert command is not None
    pasted = f"{shlex.quote(sys.executable)} -m {command} --runs {shlex.quote(str(tmp_path / 'runs'))}"
    finished = subprocess.run(
        ["bash", "-c", pasted], cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert "1 of 1 runs are there already" in finished.stderr  # so it is the same data, recipe and seed
    assert list((tmp_path / "elsewhere").iterdir()) == []
    other = cl.load_dataset(folder, image_size=28, resize="pad", validation=0.2)  # which compare has no option for
    cl.train("dense", other, recipe, directory=tmp_path / "runs")
    assert command_for(cl.Comparison((cl.Run(tmp_path / "runs" / "dense-2"),))) is None


@pytest.mark.long
def test_without_its_data_it_has_no_pictures_and_says_so(directory: Path, tmp_path: Path, browser: Browser) -> None:
    run = shutil.copytree(directory / "dense-1", tmp_path / "dense-1")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"data": info["data"] | {"source": str(tmp_path / "gone.npz")}}))
    visit = Visit(browser, cl.write_report([run], tmp_path / "report.html"))
    assert "This report has no pictures" in visit.page.locator("main").inner_text()
    assert visit.page.locator("img").count() == 0
    assert visit.page.locator("td button").count() == 0
    assert visit.page.locator(".matrix").is_visible()
    visit.close()


@pytest.mark.long
def test_hostile_names_are_text_and_the_audit_is_told(tmp_path: Path, mnist: cl.Dataset, browser: Browser) -> None:
    folder = tmp_path / HOSTILE.replace("/", "∕")
    for name, label in ((HOSTILE.replace("/", "∕"), 0), ("one & 'two' \"three\"", 1)):
        (folder / name).mkdir(parents=True)
        for number, image in enumerate(mnist.test.images[mnist.test.labels == label][:40]):
            Image.fromarray(image[..., 0]).save(folder / name / f"{number}.png")
    (folder / name / "<img src=x onerror=alert(2)>.png").write_bytes(b"")
    dataset = cl.load_dataset(folder, cache=False)
    run = cl.train("dense", dataset, replace(cl.DEFAULT, epochs=1), directory=tmp_path / "runs")
    info = json.loads((run.path / "run.json").read_text())
    visit = Visit(browser, cl.write_report([run], tmp_path / "report.html"))
    assert visit.page.locator("script").count() == 4  # the report's own
    assert visit.page.locator("img[onerror]").count() == 0
    said = visit.page.locator("main").inner_text()
    assert info["class_names"][0] in said
    assert "1 left out" in said
    assert visit.page.locator("caption", has_text="What the audit of the files found").is_visible()
    visit.page.locator("button[data-cell]").first.click()
    assert visit.shown()
    visit.close()


def test_pictures_have_a_limit_and_every_cell_comes_before_a_second_image() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 20, 20, 3), dtype=np.uint8)
    probabilities = rng.dirichlet(np.ones(5), 300).astype(np.float32)
    cells = sort_into_cells(probabilities, rng.integers(0, 5, 300))
    gallery = Gallery(images, left=40_000)
    (shown,) = fill(gallery, [cells])
    assert sum(map(len, gallery.shown.values())) < 40_000 + max(map(len, gallery.shown.values()))
    counts = [len(shown.get(cell, [])) for cell in cells if cell[0] != cell[1]]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="holds no finished run"):
        cl.write_report([tmp_path])
    assert list(tmp_path.iterdir()) == []
