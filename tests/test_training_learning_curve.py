"""The learning curve: what few and many pictures give, what is told of twice as many, and what cannot be told."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convladder as cl
from convladder.data.features import pool_features
from convladder.reporting.learning_curve import render_learning_curve
from convladder.training.learning_curve import LearningCurve, PowerLaw, _expect, measure_learning_curve

pytestmark = pytest.mark.xdist_group("transfer")


@pytest.fixture(scope="module")
def clothes() -> cl.Dataset:
    return cl.load_dataset("clothes", image_size=96)


@pytest.fixture(scope="module")
def curve(clothes: cl.Dataset) -> LearningCurve:
    return measure_learning_curve(clothes, *pool_features(clothes))


def test_more_pictures_are_more_accurate_and_every_picture_is_tested(curve: LearningCurve) -> None:
    assert [point.most for point in curve.points] == [2, 5, 10, 20, 32]
    assert curve.tested == curve.pictures == 200
    accuracies = [point.accuracy for point in curve.points]
    assert accuracies[-1] > accuracies[0] + 0.05
    assert all(point.low < point.accuracy < point.high for point in curve.points)


def test_the_last_point_is_cross_validation_by_scikit_learn(clothes: cl.Dataset, curve: LearningCurve) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    features, labels = pool_features(clothes)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    head = LogisticRegression(C=0.02, max_iter=1000)  # on the pictures alone: half as many rows, each counting twice
    taken = cross_val_predict(head, features.mean(axis=0), labels, cv=folds)
    assert abs((taken == labels).mean() - curve.points[-1].accuracy) < 0.03


def test_a_class_is_named_by_the_errors_that_involve_it(curve: LearningCurve) -> None:
    assert curve.worst.recall == min(one.recall for one in curve.classes)
    assert sum(one.involved for one in curve.classes) == pytest.approx(2)  # an error involves two classes
    assert curve.most_involved.name in curve.lines()[2]
    assert curve.most_involved.confused_with in curve.lines()[2]


def answers_of(law: PowerLaw, numbers: list[float], pictures: int) -> list[np.ndarray]:
    """Right and wrong answers, whose errors follow a law: pictures differ in how hard they are."""
    hardness = np.random.default_rng(0).permutation(np.linspace(0, 1, pictures))
    return [np.tile(hardness > law(number), (3, 1)) for number in numbers]


def test_what_doubling_buys_is_what_the_law_says() -> None:
    law = PowerLaw(0.05, 0.6, 0.5)
    numbers = [2.0, 5.0, 10.0, 20.0, 50.0, 100.0]
    doubling, reason = _expect(numbers, answers_of(law, numbers, 2000), 125.0)
    assert doubling is not None, reason
    assert doubling.gain == pytest.approx(law(125) - law(250), abs=0.003)
    assert doubling.low <= law(125) - law(250) <= doubling.high
    assert doubling.accuracy == pytest.approx(1 - law(250), abs=0.003)


@pytest.mark.long
@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ([0.3, 0.2, 0.15], "at least 4 sizes"),
        ([0.4, 0.3, 0.25, 0.0], "no error"),
        ([0.4, 0.3, 0.25, 0.02], "does not follow a power law"),
        ([0.4, 0.3, 0.25, 0.22, 0.02], "does not follow a power law"),
    ],
)
def test_what_cannot_be_told_is_not(errors: list[float], reason: str) -> None:
    numbers = [2.0, 5.0, 10.0, 20.0, 40.0][: len(errors)]
    hardness = np.random.default_rng(0).permutation(np.linspace(0, 1, 2000))
    doubling, said = _expect(numbers, [np.tile(hardness >= error, (2, 1)) for error in errors], 50.0)
    assert doubling is None
    assert reason in said


def test_few_tested_pictures_tell_nothing_of_more() -> None:
    numbers = [2.0, 5.0, 10.0, 20.0]
    doubling, reason = _expect(numbers, answers_of(PowerLaw(0.0, 0.7, 0.4), numbers, 12), 25.0)
    assert doubling is None
    assert "12 test pictures are too few" in reason


def part(data: cl.Dataset, counts: list[int]) -> tuple[cl.Dataset, np.ndarray, np.ndarray]:
    features, labels = pool_features(data)
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)])
    return data, features[:, rows], labels[rows]


@pytest.mark.long
def test_classes_of_few_pictures_are_left_out_and_named(clothes: cl.Dataset) -> None:
    curve = measure_learning_curve(*part(clothes, [40, 4, 3, 1, 30]))
    assert curve.left_out == ("pants", "shoes")
    assert [one.name for one in curve.classes] == ["dress", "hat", "t-shirt"]
    assert "pants, shoes" in curve.lines()[-1]
    assert curve.points[-1].pictures_a_class < curve.points[-1].most  # unequal classes: as many as there are


def test_fewer_than_two_classes_with_four_pictures_are_refused(clothes: cl.Dataset) -> None:
    with pytest.raises(cl.ConvladderError, match=r"1 classes with at least 4 pictures\. Expected at least 2"):
        measure_learning_curve(*part(clothes, [20, 3, 3, 3, 3]))


def test_the_section_has_numbers_and_escapes_names(curve: LearningCurve) -> None:
    classes = tuple(replace(one, name=f"<b>{one.name}") for one in curve.classes)
    section = render_learning_curve(replace(curve, classes=classes))
    assert "<b>" not in section
    assert section.count("<svg") == 1
    assert f"{curve.points[0].accuracy:.3f}" in section


@pytest.mark.long
def test_the_command_needs_no_tensorflow(tmp_path: Path) -> None:
    source = cl.load_dataset("clothes", image_size=32).account
    assert source is not None
    for path in source.paths:
        name = Path(path).parent.name
        folder = tmp_path / "few" / name
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.iterdir())) < 6:
            (folder / Path(path).name).write_bytes(Path(path).read_bytes())
    code = (
        "import sys\nfrom convladder import cli\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "assert not {'tensorflow', 'keras', 'cleanlab'} & set(sys.modules)\n"
    )
    options = ["audit", tmp_path / "few", "--labels", "--learning-curve", "--json", "--html", tmp_path / "page.html"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, options)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["learning_curve"]["doubling"] is None
    assert "power law" in content["learning_curve"]["reason"]
    assert {"points", "classes", "worst_class", "most_helped_by", "left_out"} <= set(content["learning_curve"])
    assert "fewer than 8 pictures" in content["notes"][0]
    assert [finding for finding in content["findings"] if finding["check"] in ("likely label errors", "outliers")] == []
    assert "Would more pictures help?" in (tmp_path / "page.html").read_text()


def test_arrays_are_refused_in_one_line(convladder: Any, small_npz: Path) -> None:
    done = convladder("audit", small_npz, "--learning-curve")
    assert done.status == 2
    assert len(done.err.strip().splitlines()) == 1
