"""What the page is told: thinned maps, examples and accounts, beside scikit-learn and plain loops."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import convladder as cl
from convladder.runs.catalogue import Stage, account_for, find_examples, list_stages, thin_maps
from convladder.runs.examples import choose_examples, read_examples


def test_maps_are_thinned_to_parts_of_their_peak() -> None:
    maps = np.random.default_rng(0).normal(size=(1, 130, 70, 40)).astype(np.float32)
    stage = Stage("stage1", 130, 70, 40, step=3, rows=44, columns=24, channels=32, strip=False)
    values, peak = thin_maps(maps, stage)
    assert values.shape == (32, 44, 24)
    kept = [abs(maps[0, row, column, :32]).max() for row in range(0, 130, 3) for column in range(0, 70, 3)]
    assert peak == pytest.approx(max(kept))
    for channel, row, column in ((0, 0, 0), (31, 43, 23), (7, 20, 11)):
        assert values[channel, row, column] == round(float(maps[0, 3 * row, 3 * column, channel]) * 127 / peak)
    blank, none = thin_maps(np.zeros_like(maps), stage)
    assert none == 0
    assert not blank.any()


def test_stages_are_told_as_they_are_sent(run: cl.Run) -> None:
    classifier = run.classifier()
    maps = classifier.feature_maps(np.zeros((1, 28, 28, 1), np.uint8))
    for stage in list_stages(classifier):
        values, _ = thin_maps(maps[stage.name], stage)
        assert values.shape == (stage.channels, stage.rows, stage.columns)
        assert maps[stage.name].shape[1:] == ((stage.width,) if stage.strip else (stage.height, stage.width, stage.of))


def test_an_account_names_the_most_frequent_confusions(run: cl.Run) -> None:
    account = account_for(run.classifier())
    truths, answers = run.predictions["labels"], run.predictions["probabilities"].argmax(axis=1)
    matrix = confusion_matrix(truths, answers)
    np.fill_diagonal(matrix, 0)
    counts = [confusion["count"] for confusion in account["confusions"]]
    assert counts == sorted(matrix.ravel().tolist())[::-1][: len(counts)]
    assert all(matrix[each["truth"], each["answer"]] == each["count"] for each in account["confusions"])
    assert account["test_accuracy"] == run.metrics["test"]["accuracy"]


def test_a_run_keeps_examples_of_every_class_and_of_its_mistakes(run: cl.Run, small: cl.Dataset) -> None:
    examples = read_examples(run.path / "examples.npz")
    assert len(examples.images) == 72
    assert set(examples.labels[:16]) == set(range(10))
    assert examples.misjudged[3]
    assert not examples.misjudged[:3].any()
    truths = {image.tobytes(): label for image, label in zip(small.test.images, small.test.labels, strict=True)}
    assert [truths[image.tobytes()] for image in examples.images] == examples.labels.tolist()
    answers = run.classifier().predict_probabilities(examples.images).argmax(axis=1)
    assert ((answers != examples.labels) == examples.misjudged).all()
    found = find_examples(run.classifier())
    assert found is not None
    np.testing.assert_array_equal(found.images, examples.images)


def test_few_images_and_faultless_answers_are_enough() -> None:
    images = np.zeros((3, 500, 500, 3), np.uint8)
    labels = np.array([1, 1, 0])
    chosen = choose_examples(images, labels, labels)
    assert chosen.labels.tolist() == [0, 1, 1]
    assert not chosen.misjudged.any()


@pytest.mark.long
def test_a_data_set_that_its_user_calls_mnist_is_not_shown_as_the_embedded_one(
    small: cl.Dataset, tmp_path: Path
) -> None:
    """It is as large, and has the same classes; without its run folder the file alone speaks for it."""
    theirs = tmp_path / "mnist.npz"
    named = replace(small, name="mnist", source={"source": str(theirs), "image_size": None})
    mine = cl.train("dense", named, replace(cl.DEFAULT, epochs=0.2), directory=tmp_path)
    (mine.path / "examples.npz").unlink()
    alone = tmp_path / "alone.onnx"
    shutil.copy(mine.path / "model.onnx", alone)
    for classifier in (mine.classifier(), cl.Classifier(alone)):
        account = account_for(classifier)
        assert (account["dataset"], account["embedded"]) == ("mnist", None)
        assert find_examples(classifier) is None
    embedded = cl.train(
        "dense",
        replace(small, source={"source": "mnist", "image_size": None}),
        replace(cl.DEFAULT, epochs=0.2),
        directory=tmp_path,
    )
    shutil.copy(embedded.path / "model.onnx", alone)
    assert account_for(cl.Classifier(alone))["embedded"] == "mnist"
    assert find_examples(cl.Classifier(alone)) is not None
