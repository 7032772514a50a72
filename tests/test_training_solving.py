"""`transfer`: a head solved on a pretrained network's features, and a run like any other that comes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convladder as cl
from convladder.data.dataset import Split
from convladder.data.features import compute_features
from convladder.data.loading import at_size
from convladder.evaluating.few import FEW_TO_VALIDATE
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting import int8
from convladder.training.head import cross_validate, solve
from convladder.training.recipes import default_recipe_for, rung_side

pytestmark = pytest.mark.xdist_group("transfer")  # in one process, so that its run is made once


@pytest.fixture(scope="module")
def clothes() -> cl.Dataset:
    return cl.load_dataset("clothes", image_size=96)


@pytest.fixture(scope="module")
def features(clothes: cl.Dataset) -> list[np.ndarray]:
    return compute_features([clothes.train.images, clothes.validation.images, clothes.test.images])


@pytest.fixture(scope="module")
def transferred(clothes: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    return cl.train("transfer", clothes, directory=tmp_path_factory.mktemp("runs"))


def test_photographs_are_told_apart(transferred: cl.Run) -> None:
    assert transferred.metrics["test"]["accuracy"] > 0.8  # from scratch: 0.18
    assert transferred.info["head"]["images"] == 140  # ten validation pictures are too few to be kept apart
    assert transferred.info["status"] == "finished"
    assert transferred.metrics["validation"]["images"] == 140


def test_the_head_is_scikit_learn_s(clothes: cl.Dataset, features: list[np.ndarray], transferred: cl.Run) -> None:
    from sklearn.linear_model import LogisticRegression

    pictures = np.concatenate(features[:2], axis=1)
    labels = np.concatenate([clothes.train.labels, clothes.validation.labels])
    oracle = LogisticRegression(C=transferred.info["head"]["strength"], max_iter=10_000, tol=1e-6)
    oracle.fit(np.concatenate(pictures), np.tile(labels, 2))
    expected = np.mean([oracle.predict_proba(view) for view in features[2]], axis=0)
    # The stored answers have a temperature, which leaves the order.
    answered = transferred.predictions["probabilities"]
    assert (answered.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.98


@pytest.mark.long
def test_what_was_scored_is_what_the_kept_models_answer(clothes: cl.Dataset, transferred: cl.Run) -> None:
    stored = transferred.predictions["probabilities"]
    by_keras = predict_probabilities(transferred.load_model(), clothes.test.images)
    np.testing.assert_allclose(by_keras, stored, atol=1e-4)
    np.testing.assert_allclose(transferred.classifier().predict_probabilities(clothes.test.images), stored, atol=1e-4)


def test_features_are_found_again_whatever_the_order(clothes: cl.Dataset, features: list[np.ndarray]) -> None:
    order = np.random.default_rng(0).permutation(len(clothes.test))
    images = [clothes.validation.images, clothes.test.images[order], clothes.train.images]
    again = compute_features(images)
    np.testing.assert_array_equal(again[1], features[2][:, order])
    np.testing.assert_array_equal(again[2], features[0])


@pytest.mark.long
def test_features_and_head_are_the_same_every_time(clothes: cl.Dataset, features: list[np.ndarray]) -> None:
    again = compute_features([clothes.test.images], cache=False)
    np.testing.assert_array_equal(again[0], features[2])
    nothing = features[1][:, :0], clothes.validation.labels[:0]
    first, second = (solve(features[0], clothes.train.labels, *nothing, 5, 2) for _ in range(2))
    np.testing.assert_array_equal(first.head.kernel, second.head.kernel)
    assert first.strength == second.strength


def test_mirror_images_of_a_picture_are_never_in_another_fold(clothes: cl.Dataset, features: list[np.ndarray]) -> None:
    """Else its own mirror image would teach a head the label of a picture that it is to be judged by."""
    labels = np.random.default_rng(0).integers(0, 5, len(clothes.train))
    for answers in cross_validate(features[0], labels, 5, 2):
        assert (answers.argmax(axis=1) == labels).mean() < 0.45


def test_many_validation_pictures_choose_the_strength(clothes: cl.Dataset, features: list[np.ndarray]) -> None:
    rows = np.arange(len(clothes.train))
    train, validation = rows[rows % 5 > 0], np.tile(rows[rows % 5 == 0], 5)[:FEW_TO_VALIDATE]
    labels = clothes.train.labels
    solution = solve(features[0][:, train], labels[train], features[0][:, validation], labels[validation], 5, 2)
    assert solution.seen == len(train)
    assert len(solution.labels) == FEW_TO_VALIDATE
    assert "validation" in solution.method


@pytest.mark.parametrize("counts", [(1, 5), (1, 1, 4), (2, 2), (5, 0, 5)])
def test_a_class_of_one_picture_or_none_ends_nothing(counts: tuple[int, ...], features: list[np.ndarray]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    pictures, nothing = features[0][:, : len(labels)], features[0][:, :0]
    solution = solve(pictures, labels, nothing, labels[:0], len(counts), 2)
    assert np.isfinite(solution.head.kernel).all()
    assert np.isfinite(solution.probabilities).all()
    np.testing.assert_allclose(solution.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.long
def test_gray_arrays_work_too(small: cl.Dataset, tmp_path: Path) -> None:
    few = replace(
        small,
        train=Split(small.train.images[:200], small.train.labels[:200]),
        validation=Split(small.validation.images[:0], small.validation.labels[:0]),
        test=Split(small.test.images[:100], small.test.labels[:100]),
    )
    run = cl.train("transfer", few, directory=tmp_path)
    assert run.info["input_shape"] == [28, 28, 1]
    assert run.metrics["test"]["accuracy"] > 0.8


@pytest.mark.long
def test_pictures_are_taken_at_the_size_that_a_rung_wants(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "pictures" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (300, 280, 3), np.uint8)).save(folder / f"{number}.png")
    data = cl.load_dataset(tmp_path / "pictures")
    assert data.photographs
    larger = at_size(data, 224)
    assert larger.input_shape == (224, 224, 3)
    assert larger.content == data.content
    assert larger.fingerprint != data.fingerprint
    np.testing.assert_array_equal(larger.test.labels, data.test.labels)
    run = cl.train("transfer", data, directory=tmp_path / "runs")
    assert run.info["input_shape"] == [224, 224, 3]
    assert run.load_dataset().fingerprint == run.info["fingerprint"]
    named = cl.load_dataset(tmp_path / "pictures", image_size=64)
    assert (rung_side("transfer", named), rung_side("transfer", data), rung_side("pool", data)) == (64, 224, 48)


def test_a_folder_that_changes_while_it_is_worked_on_is_refused(tmp_path: Path) -> None:
    for number in range(8):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (80, 80), (number, 0, 0)).save(folder / f"{number}.png")
    data = cl.load_dataset(tmp_path)
    Image.new("RGB", (80, 80), (0, 255, 0)).save(tmp_path / "a" / "0.png")
    with pytest.raises(cl.ConvladderError, match="has changed while"):
        at_size(data, 224)


@pytest.mark.parametrize("change", [{"minutes": 1.0}, {"augment": "photos"}, {"until": 0.9}])
def test_options_that_change_nothing_of_a_solved_head_are_refused(
    clothes: cl.Dataset, change: dict[str, object], tmp_path: Path
) -> None:
    recipe = replace(default_recipe_for("transfer", clothes), **change)  # type: ignore[arg-type]
    with pytest.raises(cl.ConvladderError, match="solved, not trained"):
        cl.train("transfer", clothes, recipe, directory=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_command_ships_eight_bits_that_answer_as_the_float_network_does(
    clothes: cl.Dataset,
    transferred: cl.Run,
    convladder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8, "SECONDS_A_ROUND", 0.002)
    monkeypatch.setattr(int8, "CALIBRATION_IMAGES", 40)
    monkeypatch.setattr(int8, "ROUNDS_TO_WIN", 0)  # whether it is faster depends on the processor
    monkeypatch.setattr(int8, "LARGEST_DROP", 0.02)  # of so small pictures it loses more
    exported = convladder("export", transferred.path, "--int8", "--output", "small.onnx", "--json")
    assert exported.status == 0, exported.err
    account = json.loads(exported.out)
    assert account["judged_by"] == "probabilities of the float network"  # ten validation pictures tell nothing
    assert account["images"] == 200
    images = clothes.test.images
    small = cl.Classifier(tmp_path / "small.onnx").predict_probabilities(images)
    assert np.abs(small - transferred.classifier().predict_probabilities(images)).mean() < 0.02
    assert (tmp_path / "small.onnx").stat().st_size < 0.35 * (transferred.path / "model.onnx").stat().st_size

    monkeypatch.setattr(int8, "LARGEST_DROP", -1.0)  # whatever is lost is too much
    refused = convladder("export", transferred.path, "--int8", "--output", "refused.onnx")
    assert (refused.status, refused.out) == (3, "")
    (line,) = refused.err.splitlines()
    assert "by probabilities of the float network" in line
    assert not (tmp_path / "refused.onnx").exists()
