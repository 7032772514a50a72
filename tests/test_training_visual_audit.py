"""The visual audit: what is planted among the photographs is found, and nothing where there is nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import convladder as cl
from convladder.data.audit import ADVICE, Audit, audit
from convladder.data.features import pool_features
from convladder.data.overlap import overlap
from convladder.training.visual_audit import FEWEST, audit_visually, judge_labels

pytestmark = pytest.mark.xdist_group("transfer")

SIDE = 128


def look(folder: Path) -> dict[str, list[list[str]]]:
    """By check, the groups of what was found; of files the names alone."""
    data = cl.load_dataset(folder, image_size=SIDE)
    result = audit_visually(audit(folder), data, *pool_features(data))
    assert all(finding.check in ADVICE for finding in result.findings)
    return {
        finding.check: [[Path(group[0]).name, *(Path(name).name for name in group[1:])] for group in finding.groups]
        for finding in result.findings
    }


def clean(folder: Path) -> list[Path]:
    account = cl.load_dataset("clothes", image_size=32).account
    assert account is not None
    copied = []
    for path in sorted(map(Path, account.paths), key=lambda path: path.name):  # forty of each class
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        copied.append(Path(shutil.copy(path, target)))
    return copied


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    folder = tmp_path_factory.mktemp("planted")
    paths = clean(folder)
    for number in range(8):  # labels exchanged
        path = paths[40 * (number % 5) + 30 + number]
        other = paths[(40 * (number % 5 + 1)) % 200].parent
        path.rename(other / f"wrong-{number}.jpg")
    for number in range(6):
        with Image.open(paths[40 * (number % 5) + 1 + number]) as picture:
            width, height = picture.size
            left, top = (0.3 * width * (number % 2), 0.3 * height * (number % 3) / 2)
            crop = picture.crop((int(left), int(top), int(left + 0.7 * width), int(top + 0.7 * height)))
            crop.save(paths[40 * (number % 5)].parent / f"crop-{number}.jpg", quality=90)
        with Image.open(paths[40 * (number % 5) + 10 + number]) as picture:
            light = ImageEnhance.Contrast(ImageEnhance.Brightness(picture).enhance((0.6, 1.4)[number % 2])).enhance(0.7)
            light.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
                paths[40 * (number % 5)].parent / f"light-{number}.jpg", quality=90
            )
    with Image.open(paths[40]) as picture:
        picture.resize((150, 200)).save(paths[40].parent / "smaller.jpg", quality=80)
    digits = cl.load_dataset("mnist").train.images
    for number in range(5):
        digit = Image.fromarray(digits[number, ..., 0]).resize((200, 200))
        digit.convert("RGB").save(paths[40 * number].parent / f"digit-{number}.png")
    return look(folder)


def names(groups: list[list[str]], beginning: str) -> set[str]:
    return {name for group in groups for name in group if name.startswith(beginning)}


@pytest.mark.long
def test_wrong_labels_are_found_and_named(planted: dict[str, list[list[str]]]) -> None:
    groups = planted["likely label errors"]
    assert len(names(groups, "wrong-")) >= 7
    assert len(groups) <= 10
    (said,) = [group[1] for group in groups if group[0] == "wrong-0.jpg"]
    assert said.startswith("labelled hat, looks like dress (")
    assert said.endswith(("in train", "in validation", "in test"))


@pytest.mark.long
def test_crops_and_other_light_are_found(planted: dict[str, list[list[str]]]) -> None:
    groups = [group for check in planted if check.startswith("altered copies") for group in planted[check]]
    assert len(names(groups, "crop-")) >= 5
    assert len(names(groups, "light-")) >= 5
    assert not names(groups, "smaller")  # a hash has found it, and it is not said twice
    assert planted["near copies"] == [["hat-01.jpg", "smaller.jpg"]]
    assert all(names([group], "crop-") | names([group], "light-") for group in groups)
    assert "altered copies across splits" in planted  # what is held out for testing is among them


@pytest.mark.long
def test_pictures_of_another_set_are_outliers(planted: dict[str, list[list[str]]]) -> None:
    groups = planted["outliers"]
    # One that looks more like another class has been named for that, and is named once.
    assert len(names(groups, "digit-")) + len(names(planted["likely label errors"], "digit-")) == 5
    assert len(groups) <= 7
    assert all(group[1].startswith("unlike ") for group in groups)


@pytest.mark.long
def test_a_set_chosen_by_eye_gives_few_false_alarms(tmp_path: Path) -> None:
    clean(tmp_path)
    assert sum(map(len, look(tmp_path).values())) <= 2


@pytest.mark.long
def test_labels_at_random_accuse_nobody() -> None:
    data = cl.load_dataset("clothes", image_size=96)
    features, labels = pool_features(data)
    shuffled = np.random.default_rng(0).permutation(labels)
    assert len(judge_labels(data, features, shuffled).groups) <= 2


@pytest.mark.long
def test_of_few_pictures_nothing_is_said_but_that(tmp_path: Path) -> None:
    data = cl.load_dataset("clothes", image_size=96)
    features, labels = pool_features(data)
    rows = np.concatenate([np.flatnonzero(labels == label)[: FEWEST - 1] for label in range(5)])
    wrong = labels[rows].copy()
    wrong[::7] = (wrong[::7] + 1) % 5
    assert judge_labels(data, features[:, rows], wrong).groups == []
    for path in clean(tmp_path):
        if int(path.stem[-2:]) >= FEWEST:
            path.unlink()
    small = cl.load_dataset(tmp_path, image_size=96)
    result: Audit = audit_visually(audit(tmp_path), small, *pool_features(small))
    assert "dress (7)" in result.notes[0]
    assert {finding.check for finding in result.findings} <= {"few pictures"}


@pytest.mark.parametrize("size", [(3, 3), (400, 6), (40, 40)])
def test_a_picture_that_shows_nothing_overlaps_with_none(size: tuple[int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.new("RGB", size, "gray").save(tmp_path / "plain.png")
    Image.fromarray(rng.integers(0, 256, (90, 60, 3), np.uint8)).save(tmp_path / "noise.png")
    (tmp_path / "broken.png").write_text("no picture")
    plain, noise, broken = (str(tmp_path / f"{name}.png") for name in ("plain", "noise", "broken"))
    assert overlap((plain, noise)) < 0.5
    assert overlap((noise, plain)) < 0.5
    assert overlap((noise, noise)) > 0.99
    assert overlap((broken, noise)) == 0


@pytest.mark.long
def test_a_run_of_a_pretrained_rung_is_judged_by_features(tmp_path: Path) -> None:
    """Its head was fitted to validation pictures too, so that it is sure of their labels, right or wrong."""
    from convladder.training.label_errors import find_label_errors as by_run

    paths = clean(tmp_path / "data")
    for name in ("dress", "pants"):
        shutil.rmtree(tmp_path / "data" / name)
    for number in range(4):  # hats among the shoes
        paths[40 + number].rename(paths[120].parent / f"wrong-{number}.jpg")
    run = cl.train("transfer", cl.load_dataset(tmp_path / "data", image_size=96), directory=tmp_path / "runs")
    finding = by_run(tmp_path / "data", run)
    assert len(names([[Path(path).name] for path, _ in finding.groups], "wrong-")) >= 3
    assert len(finding.groups) <= 6


@pytest.mark.parametrize("share", [0.9, 0.75, 0.6])
def test_a_crop_of_any_size_overlaps_with_its_picture(share: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((320, 240), Image.Resampling.BICUBIC)
    noise.save(tmp_path / "whole.png")
    noise.crop((20, 10, 20 + round(share * 300), 10 + round(share * 225))).save(tmp_path / "crop.png")
    paths = str(tmp_path / "whole.png"), str(tmp_path / "crop.png")
    assert min(overlap(paths), overlap(paths[::-1])) > 0.75  # all of it is fine detail: harder than photographs
