"""Leaks: copies of a picture in training and test are found before training, left out, said and counted."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder import cli
from convladder.data import leaks
from convladder.data.dataset import digest_images
from convladder.data.similarity import group_similar, hash_thumbnails
from convladder.reporting.report import write_report
from convladder.training.recipes import ARTICLE

CLOTHES = Path(str(files("convladder.data") / "clothes"))
CLASSES = ("dress", "hat")


def make_splits(folder: Path, trained: int = 12, tested: int = 6) -> Path:
    """Photographs for training and testing in two classes, all different."""
    for split, count in (("train", trained), ("test", tested)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for path in sorted((CLOTHES / split / name).iterdir())[:count]:
                shutil.copy(path, folder / split / name)
    return folder


def first(folder: Path, split: str, name: str) -> Path:
    return sorted((folder / split / name).iterdir())[0]


def resave(path: Path, to: Path) -> None:
    """The same picture, compressed again."""
    with Image.open(path) as picture:
        picture.save(to, quality=60)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls a command that succeeds, and gives back what it printed."""

    def main(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["convladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        return "".join(capfd.readouterr())

    return main


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Two of six pictures of each class for testing stand in training: one as it is, one saved again."""
    folder = make_splits(tmp_path / "photos")
    for name in CLASSES:
        same, again = sorted((folder / "test" / name).iterdir())[:2]
        shutil.copy(same, folder / "train" / name / "same.jpg")
        resave(again, folder / "train" / name / "again.jpg")
    return folder


def test_copies_and_near_copies_of_test_pictures_are_left_out_of_training_and_said(leaking: Path) -> None:
    clean = cl.load_dataset(make_splits(leaking.parent / "clean"), validation=0)
    data = cl.load_dataset(leaking, validation=0)
    assert (len(data.train), len(data.test), data.leaks_left_out) == (24, 12, 4)
    assert data.content == clean.content
    assert data.account is not None
    text = "\n".join(data.account.lines())
    assert "40 files: 36 pictures, 4 left out" in text
    assert "4 pictures are left out of training" in text
    assert "of dress is " in text
    assert "--keep-leaks keeps them" in text
    assert {Path(path).name for path, _ in data.account.left_out} == {"same.jpg", "again.jpg"}


def test_the_same_are_left_out_at_every_size(leaking: Path) -> None:
    small, large = (cl.load_dataset(leaking, image_size=side) for side in (16, 64))
    assert small.account is not None
    assert large.account is not None
    assert small.account.paths == large.account.paths
    assert small.content == large.content


def test_validation_pictures_count_neither_in_training_nor_if_they_are_tested(tmp_path: Path) -> None:
    folder = make_splits(tmp_path / "photos")
    (folder / "validation" / "dress").mkdir(parents=True)
    for number, path in enumerate((first(folder, "train", "dress"), first(folder, "test", "dress"))):
        resave(path, folder / "validation" / "dress" / f"{number}.jpg")
    data = cl.load_dataset(folder)
    assert (len(data.train), len(data.validation), len(data.test)) == (23, 1, 12)


def test_a_copy_with_another_label_is_left_out_as_well(tmp_path: Path) -> None:
    folder = make_splits(tmp_path / "photos")
    shutil.copy(first(folder, "test", "dress"), folder / "train" / "hat" / "wrong.jpg")
    assert cl.load_dataset(folder).leaks_left_out == 1


def test_copies_stay_together_where_chance_makes_the_splits(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for path in sorted((CLOTHES / "train" / name).iterdir())[:20]:
            shutil.copy(path, folder / name)
            resave(path, folder / name / f"{path.stem}-again.jpg")
    for seed in range(3):
        data = cl.load_dataset(folder, seed=seed)
        assert (len(data.train) + len(data.validation) + len(data.test), data.leaks_left_out) == (80, 0)
        assert not len(leaks.leaked(data))
    assert len(leaks.leaked(cl.load_dataset(folder, keep_leaks=True)))
    pooled = cl.load_dataset(folder).pooled()
    assert (len(pooled.train), len(leaks.leaked(pooled))) == (40, 0)
    kept = cl.load_dataset(folder, keep_leaks=True).pooled()
    assert (len(kept.train), len(leaks.leaked(kept))) == (80, 80)


def test_arrays_lose_their_copies_too(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 255, (60, 8, 8), np.uint8), np.arange(60) % 2
    images[3], images[4], images[50] = images[51], images[52], 7
    images[5] = 7  # of one colour: no picture that could be a copy
    np.savez(tmp_path / "data.npz", x_train=images[:50], y_train=labels[:50], x_test=images[50:], y_test=labels[50:])
    data = cl.load_dataset(tmp_path / "data.npz")
    assert (len(data.train) + len(data.validation), len(data.test), data.leaks_left_out) == (48, 10, 2)
    assert any("x_train[3] of 1 is x_test[1] of 1, test" in line for line in data.lines())
    kept = cl.load_dataset(tmp_path / "data.npz", keep_leaks=True)
    assert leaks.leaked(kept).tolist() == [1, 2]
    images[:50] = images[51]
    np.savez(tmp_path / "all.npz", x_train=images[:50], y_train=labels[:50], x_test=images[50:], y_test=labels[50:])
    with pytest.raises(cl.ConvladderError, match=r"has only copies for training.*--keep-leaks"):
        cl.load_dataset(tmp_path / "all.npz")


def test_no_image_of_mnist_is_a_copy_of_another() -> None:
    mnist = cl.load_dataset("mnist")
    assert len(np.unique(mnist.digests)) == 70_000
    assert not len(leaks.leaked(mnist))


def test_drawings_that_are_alike_are_no_copies_of_one_another() -> None:
    """Digits as large as photographs: of 1,500 the hash alone takes hundreds for copies."""
    digits = cl.load_dataset("mnist").test.images[:1500, ..., 0]
    small = np.stack(
        [np.asarray(Image.fromarray(digit).resize((32, 32), Image.Resampling.BILINEAR)) for digit in digits]
    )
    hashes, halves = hash_thumbnails(np.repeat(small[..., np.newaxis], 3, axis=3))
    assert group_similar(hashes, halves, np.zeros(len(digits), np.bool_)) == []
    assert len(np.unique(hashes)) < len(hashes)


@pytest.mark.long
def test_with_keep_leaks_the_accuracy_without_them_is_told_everywhere(
    leaking: Path, tmp_path: Path, call: Callable[..., str]
) -> None:
    runs = tmp_path / "runs"
    options = ["--data", leaking, "--model", "dense", "--epochs", "1", "--image-size", "16", "--runs", runs]
    assert "4 of the 12 images are copies of training images" in call("train", *options, "--keep-leaks")
    kept = cl.Run(runs / "dense-1")
    others = kept.metrics["test"]["without_leaks"]
    assert others["images"] == 8
    right = kept.predictions["probabilities"].argmax(axis=1) == kept.predictions["labels"]
    account = kept.load_dataset().account
    assert account is not None
    copied = [path.name for name in CLASSES for path in sorted((leaking / "test" / name).iterdir())[:2]]
    assert others["accuracy"] == right[[Path(path).name not in copied for path in account.paths[-12:]]].mean()
    assert "4 of the 12 images are copies" in call("evaluate", kept.path)
    assert "4 of the 12 images are copies" in write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8")

    call("train", *options)
    run = cl.Run(runs / "dense-2")
    assert (run.info["leaks_left_out"], "without_leaks" in run.metrics["test"]) == (4, False)
    assert run.info["fingerprint"] != kept.info["fingerprint"]
    assert run.load_dataset().leaks_left_out == 4
    assert "4 copies of validation or test pictures" in call("evaluate", run.path)
    with pytest.raises(cl.ConvladderError, match="different images"):
        write_report(runs, tmp_path / "report.html")


@pytest.mark.long
def test_other_data_that_were_learned_from_are_told(leaking: Path, tmp_path: Path, call: Callable[..., str]) -> None:
    data = cl.load_dataset(leaking, image_size=16)
    run = cl.train("dense", data, replace(ARTICLE, epochs=1), directory=tmp_path / "runs")
    assert np.isin(digest_images(data.train.images), run.learned).all()
    assert not np.isin(digest_images(data.test.images), run.learned).any()
    other = tmp_path / "other"
    for name in CLASSES:
        shutil.copytree(leaking / "test" / name, other / "test" / name)
        shutil.copytree(leaking / "test" / name, other / "train" / name)
        shutil.copy(leaking / "train" / name / f"{name}-01.jpg", other / "test" / name / "learned.jpg")
    text = call("evaluate", run.path, "--data", other, "--split", "test", "--json")
    result = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert (result["images"], result["without_leaks"]["images"]) == (14, 12)
