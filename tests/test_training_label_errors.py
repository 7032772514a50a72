"""Likely label errors: the wrong ones are found, whether a run held them out or was trained on them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder import cli
from convladder.data.audit import LABEL_ERRORS
from convladder.data.cache import cache_folder
from convladder.training.label_errors import find_label_errors

HELD_OUT = {f"wrong {number}.png" for number in range(5)}
TRAINED_ON = {f"wrong {number}.png" for number in range(5, 10)}


@pytest.fixture(scope="module")
def folder(mnist: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zeros and ones; in the test folder and in the training folder five zeros each are labelled one."""
    folder = tmp_path_factory.mktemp("digits")
    for label in (0, 1):
        images = mnist.train.images[mnist.train.labels == label, ..., 0]
        for split, chosen in (("train", images[:200]), ("val", images[200:230]), ("test", images[230:270])):
            (folder / split / str(label)).mkdir(parents=True)
            for number, image in enumerate(chosen):
                Image.fromarray(image).save(folder / split / str(label) / f"{number}.png")
    zeros = mnist.train.images[mnist.train.labels == 0, ..., 0][300:]
    for split, names in (("test", HELD_OUT), ("train", TRAINED_ON)):
        for name in sorted(names):
            Image.fromarray(zeros[int(name[6])]).save(folder / split / "1" / name)
    return folder


@pytest.fixture(scope="module")
def digits_run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    recipe = replace(cl.DEFAULT, epochs=6, batch_size=32)
    return cl.train("fast", cl.load_dataset(folder), recipe, directory=tmp_path_factory.mktemp("runs"))


@pytest.mark.long
@pytest.mark.parametrize(("folds", "wrong"), [(0, HELD_OUT), (2, HELD_OUT | TRAINED_ON)])
def test_wrong_labels_are_found(folder: Path, digits_run: cl.Run, folds: int, wrong: set[str]) -> None:
    finding = find_label_errors(folder, digits_run, folds=folds)
    found = {Path(path).name for path, _ in finding.groups}
    assert found >= wrong
    assert len(found - wrong) <= 3
    assert all("labelled 1, looks like 0" in text for path, text in finding.groups if Path(path).name in wrong)


@pytest.mark.long
def test_the_paths_are_in_the_order_of_the_pictures(folder: Path) -> None:
    data = cl.load_dataset(folder)
    assert data.account is not None
    images = np.concatenate([part.images for part in (data.train, data.validation, data.test)])
    assert len(data.account.paths) == len(images)
    for row in (0, 404, 405, 464, 465, len(images) - 1):
        np.testing.assert_array_equal(np.asarray(Image.open(data.account.paths[row])), images[row, ..., 0])


@pytest.mark.long
def test_a_run_of_other_pictures_is_refused(folder: Path, digits_run: cl.Run, tmp_path: Path) -> None:
    for label in (0, 1):
        (tmp_path / str(label)).mkdir()
        for number in range(8):
            path = tmp_path / str(label) / f"{number}.png"
            path.write_bytes((folder / "train" / str(label) / f"{number}.png").read_bytes())
    with pytest.raises(cl.ConvladderError, match="not trained on the data in"):
        find_label_errors(tmp_path, digits_run)


@pytest.mark.long
def test_the_audit_adds_them(
    folder: Path, digits_run: cl.Run, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--run", str(digits_run.path), "--folds", "0", "--json"]
    monkeypatch.setattr("sys.argv", ["convladder", "audit", str(folder), *options])
    with pytest.raises(SystemExit):
        cli.main()
    last = json.loads(capfd.readouterr().out)["findings"][-1]
    assert last["check"] == "likely label errors"
    assert last["count"] >= 5


@pytest.mark.long
def test_a_network_that_its_user_built_is_not_taken_for_the_rung_of_its_name(folder: Path, tmp_path: Path) -> None:
    data = cl.load_dataset(folder)
    own = cl.build_model("dense", data.input_shape, 2)
    run = cl.train(own, data, replace(cl.DEFAULT, epochs=1), directory=tmp_path)
    with pytest.raises(cl.ConvladderError, match="--folds 0"):
        find_label_errors(folder, run)
    assert find_label_errors(folder, run, folds=0).check == LABEL_ERRORS


@pytest.mark.long
def test_the_data_are_split_as_the_run_s_were(folder: Path, tmp_path: Path) -> None:
    """With another share and another seed of what is held out, and nothing kept in the cache."""
    whole = tmp_path / "whole"
    for label in (0, 1):
        (whole / str(label)).mkdir(parents=True)
        for number in range(40):
            path = folder / "train" / str(label) / f"{number}.png"
            (whole / str(label) / path.name).write_bytes(path.read_bytes())
    data = cl.load_dataset(whole, validation=0.3, seed=5, cache=False)
    run = cl.train("fast", data, replace(cl.DEFAULT, epochs=3, batch_size=16), directory=tmp_path / "runs")
    root = cache_folder()
    assert root is not None
    kept = set(root.glob("*"))
    assert find_label_errors(whole, run, folds=0).check == LABEL_ERRORS
    assert set(root.glob("*")) == kept
