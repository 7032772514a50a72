"""Test pictures that are unlike the training pictures: `evaluate` counts them, the report shows the strangest."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convladder as cl
from browsing import open_browser
from convladder.evaluating.familiarity import count_unlike
from convladder.files import write_arrays
from convladder.training.recipes import default_recipe_for

SOUND, STRANGE = 280, 20  # test pictures


@pytest.fixture(scope="module")
def strange(small: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    """A run whose last test pictures are white where they should be black."""
    folder = tmp_path_factory.mktemp("strange")
    test = small.test.images[: SOUND + STRANGE].copy()
    test[SOUND:] = 255 - test[SOUND:]
    np.savez(
        folder / "digits.npz",
        x_train=small.train.images[..., 0],
        y_train=small.train.labels,
        x_test=test[..., 0],
        y_test=small.test.labels[: SOUND + STRANGE],
    )
    data = cl.load_dataset(folder / "digits.npz")
    return cl.train("fast", data, replace(default_recipe_for("fast", data), epochs=2), directory=folder / "runs")


def copy(run: cl.Run, folder: Path, *without: str, **info: Any) -> cl.Run:
    """The run with other facts, and without some arrays of its predictions."""
    shutil.copytree(run.path, folder)
    kept = {name: values for name, values in run.predictions.items() if name not in without}
    write_arrays(folder / "predictions.npz", **kept)
    (folder / "run.json").write_text(json.dumps(run.info | info))
    return cl.Run(folder)


@pytest.mark.long
def test_strange_test_pictures_are_counted_and_shown(strange: cl.Run, tmp_path: Path) -> None:
    told = cl.evaluate(strange)["unlike_training"]
    assert told["images"] == SOUND + STRANGE
    assert STRANGE <= told["unlike"] <= STRANGE + 15
    assert told["low"] > told["threshold"] == 0.01
    assert told["accuracy"] < told["accuracy_of_others"]
    report = cl.write_report([strange], tmp_path / "report.html")
    with open_browser() as browser:
        page = browser.new_page()
        page.goto(report.as_uri())
        said = page.locator("h3", has_text="Unlike the training images").locator("xpath=following-sibling::p[1]")
        text = said.inner_text()
        assert f"{100 * told['share']:.1f}\u202f% of 300 test images ({told['unlike']})" in text
        assert "That is more than the 1 in 100 to expect" in text
        pictures = said.locator("xpath=following-sibling::ul[1]").locator("img")
        assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth > 0)")
        numbers = [int(str(one.get_attribute("alt")).split()[2].strip(":")) for one in pictures.all()]
        assert len(numbers) == 8
        assert min(numbers) >= SOUND


@pytest.mark.long
def test_the_shipped_file_counts_as_the_run_does(strange: cl.Run, run: cl.Run, small: cl.Dataset) -> None:
    for one, data in ((strange, strange.load_dataset()), (run, small)):
        stored, again = (cl.evaluate(one, *more)["unlike_training"] for more in ((), ("test", data)))
        assert stored["images"] == again["images"]
        assert abs(stored["unlike"] - again["unlike"]) <= 2  # features by Keras and by ONNX Runtime
    other = replace(small, test=cl.Split(255 - small.test.images[:100], small.test.labels[:100]))
    assert cl.evaluate(run, "test", other)["unlike_training"]["share"] > 0.9


@pytest.mark.long
def test_where_it_is_not_known_the_reason_is_said(strange: cl.Run, convladder: Any, tmp_path: Path) -> None:
    before = copy(strange, tmp_path / "before", "familiarity", "strangeness", "familiarity_rows")
    folded = copy(strange, tmp_path / "folded", tested_by="5-fold cross-validation")
    for other, reason in ((before, "trained by an earlier version"), (folded, "trained on all of its images")):
        result = json.loads(convladder("evaluate", other.path, "--json").out)
        assert result["unlike_training"] is None
        assert reason in result["unlike_training_reason"]
        assert reason in convladder("evaluate", other.path).out
        assert reason in cl.write_report([other], tmp_path / "report.html").read_text()
    assert "unlike the training images, more than the 1 in 100" in convladder("evaluate", strange.path).out
    validation = json.loads(convladder("evaluate", strange.path, "--split", "validation", "--json").out)
    assert "validation images set the bound" in validation["unlike_training_reason"]


def test_pictures_unlike_the_training_are_counted_with_their_answers() -> None:
    familiarity = np.array([0, 0.009, 0.01, 0.5, 1], np.float32)
    told = count_unlike(familiarity, np.array([True, False, True, True, False]), 0.01)
    assert (told["unlike"], told["images"], told["share"]) == (2, 5, 0.4)
    assert (told["accuracy"], told["accuracy_of_others"]) == (0.5, pytest.approx(2 / 3))
    assert told["low"] < 0.4 < told["high"]
    none = count_unlike(familiarity, np.ones(5, bool), 0)
    assert (none["unlike"], none["low"], none["accuracy"], none["accuracy_of_others"]) == (0, 0, None, 1)
