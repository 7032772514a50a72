"""The photographs that come with the package: what they are, and that their name is theirs wherever it is used."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
import hostile
from convladder.data import loading
from convladder.data.audit import audit
from convladder.reporting.repeating import command_for
from convladder.runs.catalogue import find_examples
from convladder.runs.evaluating import load_like
from convladder.training.recipes import default_recipe_for

CLASSES = ("dress", "hat", "pants", "shoes", "t-shirt")
FOLDER = Path(loading.__file__).with_name("clothes")


def train_quickly(data: cl.Dataset, directory: Path) -> cl.Run:
    return cl.train("dense", data, replace(default_recipe_for("dense", data), epochs=1), directory=directory)


@pytest.fixture(scope="module")
def clothes() -> cl.Dataset:
    return cl.load_dataset("clothes", image_size=32)


@pytest.fixture(scope="module")
def clothes_run(clothes: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    return train_quickly(clothes, tmp_path_factory.mktemp("runs"))


def own_folder(folder: Path) -> Path:
    """A user's own pictures, all different."""
    for number in range(40):
        path = folder / ("mine", "yours")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        hostile.picture(number).save(path)
    return folder


def test_they_are_five_classes_of_28_and_12(clothes: cl.Dataset) -> None:
    assert clothes.name == "clothes"
    assert clothes.class_names == CLASSES
    for split, count in ((clothes.train, 26), (clothes.validation, 2), (clothes.test, 12)):
        assert Counter(split.labels.tolist()) == dict.fromkeys(range(5), count)
    whole = clothes.without_validation()
    assert (len(whole.train), len(whole.test)) == (140, 60)
    assert clothes.account is not None
    assert clothes.account.lines() == ["200 files: 200 pictures."]


def test_they_are_small_plain_jpeg_files_without_metadata() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert len(files) == 200
    assert sum(path.stat().st_size for path in files) < 4e6
    expected = {f"{name}/{name}-{number:02}.jpg" for name in CLASSES for number in range(1, 41)}
    assert {path.relative_to(path.parents[1]).as_posix() for path in files} == expected
    for path in files:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, max(picture.size)) == ("JPEG", "RGB", 256)
            assert not {"exif", "icc_profile", "comment", "xmp", "photoshop"} & picture.info.keys()


@pytest.mark.long
def test_the_audit_finds_no_copies_and_nothing_else() -> None:
    result = audit("clothes")
    assert (result.pictures, result.classes) == (200, dict.fromkeys(CLASSES, 40))
    assert result.findings == []


@pytest.mark.long
def test_another_installation_has_the_same_fingerprint(
    clothes: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(FOLDER, tmp_path / "clothes")
    monkeypatch.setattr(loading, "files", lambda _: tmp_path)
    assert cl.load_dataset("clothes", image_size=32).fingerprint == clothes.fingerprint


@pytest.mark.parametrize("change", ["missing", "other pixels", "moved to train"])
def test_photographs_that_are_not_what_they_were_are_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = shutil.copytree(FOLDER, tmp_path / "clothes") / "test" / "hat" / "hat-40.jpg"
    if change == "moved to train":
        picture.rename(tmp_path / "clothes" / "train" / "hat" / picture.name)
    elif change == "other pixels":
        picture.write_bytes((picture.parent / "hat-39.jpg").read_bytes())
    else:
        picture.unlink()
    monkeypatch.setattr(loading, "files", lambda _: tmp_path)
    for load in (cl.load_dataset, audit):
        with pytest.raises(cl.ConvladderError, match="clothes, are damaged"):
            load("clothes")


def test_a_run_finds_them_again_from_any_directory(
    clothes_run: cl.Run, clothes: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clothes_run.info["data"]["source"] == "clothes"
    assert str(FOLDER.parent) not in (clothes_run.path / "run.json").read_text()
    own_folder(tmp_path / "clothes")
    monkeypatch.chdir(tmp_path)
    assert cl.Run(clothes_run.path).load_dataset().fingerprint == clothes.fingerprint


@pytest.mark.long
def test_a_folder_of_that_name_is_reached_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_folder(Path("clothes"))
    for path in ("./clothes", "clothes/", Path("clothes"), tmp_path / "clothes"):
        data = cl.load_dataset(path)
        assert data.class_names == ("mine", "yours")
        assert data.source is not None
        assert data.source["source"] == str(tmp_path / "clothes")
        assert list(audit(path).classes) == ["mine", "yours"]
    assert cl.load_dataset("clothes").class_names == CLASSES
    assert list(audit("clothes").classes) == list(CLASSES)


@pytest.mark.long
@pytest.mark.parametrize("name", ["clothes", "mnist"])
def test_commands_say_which_of_two_they_took(convladder: Any, name: str, clothes_run: cl.Run) -> None:
    own_folder(Path(name))
    Path("taken").touch()
    said = f"{name} is the data set that comes with convladder. For your own file or folder, write ./{name}."
    calls: list[list[object]] = [
        ["train", "--data", name, "--model", "dense", "--runs", "taken"],  # a file, where no run can be made
        ["evaluate", clothes_run.path, "--data", name],
        ["audit", name],
    ]
    for call in calls:
        assert said in convladder(*call).err, call
    result = convladder("audit", f"./{name}", "--json")
    assert said not in result.err
    assert json.loads(result.out)["classes"] == {"mine": 20, "yours": 20}


def test_a_run_is_evaluated_on_them_at_its_own_size(
    clothes_run: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_folder(tmp_path / "mnist")
    own_folder(tmp_path / "clothes")
    monkeypatch.chdir(tmp_path)
    assert load_like(clothes_run, "clothes").input_shape == (32, 32, 3)
    assert load_like(clothes_run, "mnist").name == "mnist"  # and not what is called so here
    assert cl.evaluate(clothes_run, "test", "clothes")["accuracy"] == clothes_run.metrics["test"]["accuracy"]


def test_mnist_has_no_files_to_audit(convladder: Any) -> None:
    result = convladder("audit", "mnist")
    assert result.status == 2
    assert result.err.splitlines() == [
        "Error: mnist holds arrays, not files. Expected clothes, or a folder or .csv file of pictures."
    ]


def test_a_mistyped_name_is_told_both(convladder: Any) -> None:
    result = convladder("train", "--data", "cloths")
    assert result.status == 2
    assert "Expected mnist, clothes, a folder" in result.err


@pytest.mark.long
def test_a_report_s_command_means_the_same_data(clothes_run: cl.Run, tmp_path: Path) -> None:
    assert "--data clothes " in str(command_for(cl.Comparison((clothes_run,))))
    own = train_quickly(cl.load_dataset(own_folder(tmp_path / "clothes")), tmp_path / "runs")
    assert f"--data {tmp_path / 'clothes'} " in str(command_for(cl.Comparison((own,))))


@pytest.mark.long
def test_pictures_of_a_folder_called_mnist_are_not_taken_for_digits(tmp_path: Path) -> None:
    data = cl.load_dataset(own_folder(tmp_path / "mnist"))
    run = train_quickly(data, tmp_path / "runs")
    alone = tmp_path / "alone.onnx"
    shutil.copy(run.path / "model.onnx", alone)
    assert data.name == "mnist"
    assert find_examples(cl.Classifier(alone)) is None


@pytest.mark.long
def test_a_report_on_a_file_called_mnist_does_not_speak_of_the_embedded_one(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 12, 12), np.uint8)
    labels = np.arange(60) % 2
    np.savez(tmp_path / "mnist.npz", x_train=pixels, y_train=labels, x_test=255 - pixels, y_test=labels)
    run = train_quickly(cl.load_dataset(tmp_path / "mnist.npz"), tmp_path / "runs")
    page = cl.write_report([run], tmp_path / "report.html").read_text()
    assert "there is nothing to audit" in page
    assert "checksums" not in page
