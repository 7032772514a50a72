"""Memory grows neither with the images times something, nor with the square of the classes."""

import json
import sys

import numpy as np
import pytest
from sklearn.metrics import log_loss

import convladder as cl
from convladder.evaluating import calibration, robustness
from convladder.evaluating.calibration import fit_temperature
from convladder.evaluating.metrics import describe_predictions, score
from convladder.evaluating.robustness import measure_robustness
from measuring import memory_taken

NETWORK = """
import numpy as np
def answer(images):
    right = images[:, ::8, ::8].mean(axis=(1, 2, 3)) > 127
    return np.stack([~right, right], axis=1).astype(np.float32)
"""


@pytest.mark.long
def test_robustness_takes_a_few_slices_however_large_the_images_are() -> None:
    prepare = f"""{NETWORK}
from convladder.evaluating import robustness
robustness.VALUES_A_SLICE = 1 << 18  # nine images
images = np.random.default_rng(0).integers(0, 256, (120, 96, 96, 3), np.uint8)
labels = np.arange(120) % 2
robustness.measure_robustness(answer, images[:4], labels[:4])
"""
    measured = "robustness.measure_robustness(answer, images, labels)"
    assert memory_taken(prepare, measured) < 20e6  # all at once, 35 times the images' 3.3 MB


def test_robustness_in_slices_has_the_figures_of_all_images_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (203, 12, 20, 3), np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, 203)

    def answer(pixels: np.ndarray) -> np.ndarray:
        thirds = np.stack([pixels[:, rows::3].mean(axis=(1, 2, 3)) for rows in range(3)], axis=1)
        return np.asarray(thirds / thirds.sum(axis=1, keepdims=True), np.float32)

    whole = measure_robustness(answer, images, labels)
    monkeypatch.setattr(robustness, "VALUES_A_SLICE", 5 * 12 * 20 * 3)  # fours, and three at the end
    assert measure_robustness(answer, images, labels) == whole
    assert len({point["accuracy"] for curve in whole["curves"] for point in curve["points"]}) > 5


@pytest.mark.long
def test_metrics_of_many_classes_take_a_few_slices() -> None:
    prepare = """
import json
import numpy as np
from convladder.evaluating.metrics import describe_predictions as describe
from convladder.evaluating.calibration import fit_temperature
rng = np.random.default_rng(0)
probabilities = rng.random((500, 9001), np.float32)  # 18 MB
probabilities /= probabilities.sum(axis=1, keepdims=True)
labels = rng.integers(0, 9001, 500)
names = [str(number) for number in range(9001)]
few = probabilities[:20, :4] / probabilities[:20, :4].sum(axis=1, keepdims=True)
describe(few, labels[:20] % 4, names[:4]), fit_temperature(few, labels[:20] % 4)
"""
    measured = "json.dumps(describe(probabilities, labels, names), indent=2), fit_temperature(probabilities, labels)"
    assert memory_taken(prepare, measured) < 90e6  # the confusion matrix alone took 1.8 GB


def test_metrics_in_slices_are_those_of_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((203, 40), np.float32) ** 4
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    labels = rng.integers(0, 40, 203)
    names = [str(number) for number in range(40)]
    whole = describe_predictions(probabilities, labels, names), fit_temperature(probabilities, labels)
    monkeypatch.setattr(calibration, "VALUES_A_SLICE", 7 * 40)
    assert (describe_predictions(probabilities, labels, names), fit_temperature(probabilities, labels)) == whole
    exact = probabilities.astype(np.float64)
    expected = log_loss(labels, exact / exact.sum(axis=1, keepdims=True), labels=range(40))
    assert score(probabilities, labels)["loss"] == expected


def test_of_many_classes_the_wrong_pairs_are_kept_and_no_matrix() -> None:
    count = 501
    answers = np.arange(count)
    labels = answers.copy()
    answers[:3] = [5, 5, 7]
    labels[:3] = [2, 2, 0]
    described = describe_predictions(
        np.eye(count, dtype=np.float32)[answers], labels, [str(number) for number in range(count)]
    )
    assert described["confusion"] is None
    assert described["confusions"] == [[2, 5, 2], [0, 7, 1]]
    assert len(json.dumps(described)) < 100_000
    fewer = describe_predictions(np.eye(4, dtype=np.float32)[[0, 1, 1, 3]], np.array([0, 1, 2, 3]), list("abcd"))
    assert fewer["confusions"] == [[2, 1, 1]]
    assert fewer["confusion"][2] == [0, 1, 0, 0]


def test_a_network_that_answers_with_nan_is_refused() -> None:
    probabilities = np.full((5, 3), 1 / 3, np.float32)
    probabilities[2] = np.nan
    with pytest.raises(cl.ConvladderError, match="answers with NaN"):
        score(probabilities, np.zeros(5, np.int64))


@pytest.mark.long
def test_labels_become_one_hot_batch_by_batch() -> None:
    prepare = """
import numpy as np
from convladder.engine import import_engine
import_engine()
import convladder as cl
from convladder.training.fitting import training_batches
def first(count):
    split = cl.Split(np.zeros((count, 1, 1, 1), np.uint8), np.arange(count) % 5000)
    return next(iter(training_batches(split, 5000, cl.ARTICLE, 3, seed=0)))[1].numpy()
first(5000)
"""
    assert memory_taken(prepare, "assert first(50_000).sum() == 128") < 200e6  # all at once, 1 GB


def test_a_comparison_keeps_the_answers_of_its_runs_and_not_the_probabilities(run: cl.Run) -> None:
    fresh = cl.Run(run.path)
    assert cl.Comparison((fresh,)).rows[0]["test_accuracy"] == fresh.info["test_accuracy"]
    assert "predictions" not in vars(fresh)
    assert sys.getsizeof(fresh.answers[0]) < 10_000
