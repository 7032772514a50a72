"""Metrics against scikit-learn and their definitions; temperature and threshold against a search by hand."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.special import softmax
from scipy.stats import binom
from sklearn import metrics
from sklearn.calibration import calibration_curve

import convladder as cl
from convladder.data.dataset import Split
from convladder.evaluating.calibration import (
    abstention,
    choose_temperature,
    choose_threshold,
    fit_temperature,
    fit_threshold,
    reliability,
    temper,
)
from convladder.evaluating.few import leaks_in_words
from convladder.evaluating.metrics import describe_predictions, predict_probabilities, score
from convladder.evaluating.robustness import CHANGES, add_noise, blur, fade, rotate, shift
from convladder.reporting import tables

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture(scope="module")
def probabilities() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4))
    logits[np.arange(500), labels_of(500)] += 2  # mostly right
    return np.asarray(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), np.float32)


def labels_of(count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 4, count)


@pytest.fixture(scope="module")
def labels() -> npt.NDArray[np.int64]:
    return labels_of(500)


def cross_entropy(probabilities: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


def test_score(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    scores = score(probabilities, labels)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    assert scores["accuracy"] == accuracy
    assert scores["loss"] == pytest.approx(cross_entropy(probabilities, labels), rel=1e-4)
    # The accuracies whose mid-P test this one just passes: what is further away, and half of it, are 2.5 % likely.
    right = round(accuracy * 500)
    for bound, tail in (
        (scores["low"], binom.sf(right, 500, scores["low"])),
        (scores["high"], binom.cdf(right - 1, 500, scores["high"])),
    ):
        assert tail + binom.pmf(right, 500, bound) / 2 == pytest.approx(0.025, rel=1e-4)


def test_describe_agrees_with_scikit_learn(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
) -> None:
    described = describe_predictions(probabilities, labels, NAMES)
    answers = probabilities.argmax(axis=1)
    assert [row["name"] for row in described["per_class"]] == list(NAMES)
    by_class = metrics.classification_report(labels, answers, target_names=NAMES, output_dict=True)
    for row in described["per_class"]:
        expected = by_class[row["name"]]
        assert row["precision"] == pytest.approx(expected["precision"])
        assert row["recall"] == pytest.approx(expected["recall"])
        assert row["f1"] == pytest.approx(expected["f1-score"])
        assert row["support"] == expected["support"]
    assert described["confusion"] == metrics.confusion_matrix(labels, answers).tolist()
    for row in described["top_k"]:
        assert row["accuracy"] == metrics.top_k_accuracy_score(labels, probabilities, k=row["k"])
    assert [row["k"] for row in described["top_k"]] == [1, 2, 3]
    confidence = probabilities.max(axis=1)
    accuracies, confidences = calibration_curve(answers == labels, confidence, n_bins=15)
    bins = described["calibration"]["bins"]
    np.testing.assert_allclose([one["accuracy"] for one in bins], accuracies)
    np.testing.assert_allclose([one["confidence"] for one in bins], confidences, rtol=1e-6)
    # The definition of Guo et al. 2017, bin by bin.
    gaps = [
        abs((answers == labels)[part].sum() - confidence[part].sum())
        for part in ((low / 15 < confidence) & (confidence <= (low + 1) / 15) for low in range(15))
    ]
    assert described["calibration"]["ece"] == pytest.approx(sum(gaps) / 500, abs=1e-6)
    assert sum(one["images"] for one in bins) == 500


def test_two_classes_and_one_without_images(probabilities: npt.NDArray[np.float32]) -> None:
    two = probabilities[:50, :2] / probabilities[:50, :2].sum(axis=1, keepdims=True)
    two[:, 0] += 1
    described = describe_predictions(two / 2, np.zeros(50, np.int64), NAMES[:2])
    assert [row["k"] for row in described["top_k"]] == [1]
    absent = described["per_class"][1]
    assert (absent["precision"], absent["recall"], absent["f1"], absent["support"]) == (None, None, None, 0)
    assert described["confusion"] == [[50, 0], [0, 0]]


@pytest.mark.parametrize("wrong_by", [0.4, 1.0, 2.5])
def test_the_temperature_is_the_best_of_many(
    probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], wrong_by: float
) -> None:
    skewed = temper(probabilities, 1 / wrong_by).astype(np.float32)
    found = fit_temperature(skewed, labels)
    tried = np.exp(np.linspace(-2, 2, 801))
    losses = [cross_entropy(temper(skewed, temperature), labels) for temperature in tried]
    assert found == pytest.approx(tried[int(np.argmin(losses))], rel=0.03)
    assert reliability(temper(skewed, found).astype(np.float32), labels)["ece"] < 0.05


def test_a_few_images_that_are_all_right_do_not_make_a_network_certain() -> None:
    said = np.full((27, 4), 0.05, np.float32)
    said[:, 2] = 0.85
    labels = np.full(27, 2)
    sure = temper(said, fit_temperature(said, labels))[0, 2]
    assert 0.9 < sure < 0.99


def say(count: int, sureness: float, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Probabilities of five classes and what came true; too sure where `sureness` is above 1, rightly so at 1."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(count, 5))
    true, said = (softmax(scale * logits, axis=1) for scale in (1, sureness))
    return said.astype(np.float32), (true.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)


def test_no_temperature_is_taken_unless_cross_validation_shows_that_it_helps() -> None:
    """On 60 images of networks that need none, the best of these 60 makes others worse."""
    others = say(4000, 1.0, 99)
    fitted = [fit_temperature(*say(60, 1.0, seed)) for seed in range(10)]
    assert np.mean([reliability(temper(others[0], one).astype(np.float32), others[1])["ece"] for one in fitted]) > 0.02
    assert reliability(*others)["ece"] < 0.02
    for seed in range(10):
        temperature, reason = choose_temperature(*say(60, 1.0, seed))
        assert temperature == 1
        assert reason == "1, since by cross-validation on 60 validation images no other helps beyond chance"
    few = choose_temperature(*say(29, 3.0, 0))
    assert few == (1, "1, since 30 validation images are needed to fit one, and there are 29")
    too_sure = say(300, 2.0, 0)
    assert choose_temperature(*too_sure) == (fit_temperature(*too_sure), "fitted on 300 validation images")


def test_no_threshold_is_taken_unless_cross_validation_shows_that_it_helps() -> None:
    informative = say(1000, 1.0, 0)
    threshold, reason = choose_threshold(*informative)
    assert threshold == fit_threshold(*informative) > 0
    assert reason == "fitted on 1,000 validation images"
    taken = 0
    for seed in range(10):  # how sure it is says nothing of whether it is right
        said, _ = say(120, 1.0, seed)
        wrong = np.random.default_rng(seed).random(120) < 0.1
        labels = np.where(wrong, (said.argmax(axis=1) + 1) % 5, said.argmax(axis=1))
        taken += choose_threshold(said, labels)[0] > 0
    assert taken == 0


def test_the_threshold_halves_the_errors(probabilities: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> None:
    threshold = fit_threshold(probabilities, labels)
    correct = probabilities.argmax(axis=1) == labels
    target = 1 - (1 - correct.mean()) / 2
    kept = abstention(probabilities, labels, threshold)
    answered = probabilities.max(axis=1) >= threshold
    assert kept["coverage"] == answered.mean()
    assert kept["accuracy"] == correct[answered].mean() >= target
    for smaller in np.unique(probabilities.max(axis=1)):
        if smaller < threshold:
            assert (
                correct[probabilities.max(axis=1) >= smaller].mean() < target
                or answered.sum() == (probabilities.max(axis=1) >= smaller).sum()
            )
    assert fit_threshold(probabilities[correct], labels[correct]) == 0
    assert fit_threshold(np.full((9, 4), 0.25, np.float32), np.arange(9) % 4) == 0  # no threshold parts equals
    assert abstention(probabilities, labels, 1.1)["accuracy"] is None


def test_a_run_is_calibrated_on_its_validation_images(run: cl.Run, small: cl.Dataset) -> None:
    info, validation, test = run.info, run.metrics["validation"], run.metrics["test"]
    assert info["temperature"] < 0.9  # label smoothing makes it less sure than it may be
    assert info["temperature_reason"] == "fitted on 500 validation images"
    assert validation["calibration"]["ece"] < validation["ece_before_temperature"]
    assert info["threshold"] == validation["abstention"]["threshold"] == test["abstention"]["threshold"] > 0
    assert validation["abstention"]["accuracy"] >= 1 - (1 - validation["accuracy"]) / 2
    assert test["abstention"]["accuracy"] > test["accuracy"]
    # What is stored, what Keras answers and what was measured are one.
    stored = run.predictions["validation_probabilities"]
    np.testing.assert_array_equal(run.predictions["validation_labels"], small.validation.labels)
    np.testing.assert_allclose(stored, predict_probabilities(run.load_model(), small.validation.images), atol=1e-6)
    assert fit_temperature(stored, small.validation.labels) == pytest.approx(1, abs=0.01)


@pytest.mark.long
def test_an_ensemble_shares_a_temperature_that_changes_no_answer(small: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(cl.DEFAULT, epochs=0.5, precision="float32")
    run = cl.train("dense", small, recipe, ensemble=2, directory=tmp_path)
    assert run.info["temperature"] != 1
    model = run.load_model()
    members = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    mean = np.mean([predict_probabilities(member, small.test.images) for member in members], axis=0)
    probabilities = run.predictions["probabilities"]
    np.testing.assert_array_equal(mean.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(probabilities, temper(mean, run.info["temperature"]), atol=1e-5)
    shipped = run.classifier().predict_probabilities(small.test.images)
    np.testing.assert_allclose(shipped, probabilities, atol=1e-5)


def test_a_network_that_goes_on_behind_its_logits_is_left_as_it_is(small: cl.Dataset, tmp_path: Path) -> None:
    layers = keras.layers
    misled = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
            layers.Dense(10, "softmax"),
        ]
    )
    run = cl.train(misled, small, replace(cl.DEFAULT, epochs=0.2, precision="float32"), directory=tmp_path)
    assert run.info["temperature"] == 1
    assert "called logits" in run.info["temperature_reason"]


def test_evaluate_takes_what_is_stored_and_agrees_with_the_shipped_model(run: cl.Run, small: cl.Dataset) -> None:
    stored, again = cl.evaluate(run), cl.evaluate(run, "test", small)
    assert stored["accuracy"] == again["accuracy"] == stored["test_accuracy"]
    assert stored["confusion"] == again["confusion"] == run.metrics["test"]["confusion"]
    assert stored["calibration"]["ece"] == pytest.approx(again["calibration"]["ece"], abs=1e-4)
    for key in ("temperature", "temperature_reason", "threshold_reason"):
        assert stored[key] == run.info[key]
    validation = cl.evaluate(run, "validation")
    assert (validation["images"], validation["accuracy"]) == (500, run.info["validation_accuracy"])
    every = cl.evaluate(run, data=small)
    assert (every["split"], every["images"]) == ("all", 3500)


def test_evaluate_takes_other_images_by_the_names_of_their_classes(
    run: cl.Run, small: cl.Dataset, tmp_path: Path
) -> None:
    rows = [row for row in range(400) if small.test.labels[row] in (3, 8)]
    for row in rows:
        path = tmp_path / "data" / str(small.test.labels[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small.test.images[row, ..., 0]).save(path)
    result = cl.evaluate(run, data=tmp_path / "data")
    right = run.predictions["probabilities"][rows].argmax(axis=1) == small.test.labels[rows]
    assert (result["images"], result["accuracy"]) == (len(rows), right.mean())
    assert [row["support"] > 0 for row in result["per_class"]] == [name in "38" for name in small.class_names]
    (tmp_path / "data" / "8").rename(tmp_path / "data" / "eight")
    with pytest.raises(cl.ConvladderError, match="does not know: eight"):
        cl.evaluate(run, data=tmp_path / "data")
    with pytest.raises(cl.ConvladderError, match="Expected 28×28×1"):
        cl.evaluate(run, data=replace(small, train=cl.Split(small.train.images[:, :20], small.train.labels)))
    with pytest.raises(cl.ConvladderError, match="has seen most"):
        cl.evaluate(run, "all")


def test_the_changes_are_what_they_say(small: cl.Dataset) -> None:
    images = small.test.images[:4].astype(np.float32)
    same = {change.name: change.apply(images, 0) for change in CHANGES}
    for name, unchanged in same.items():
        np.testing.assert_allclose(unchanged, images, atol=1e-3, err_msg=name)
    moved = shift(images, 2 / 28)
    np.testing.assert_allclose(moved[0, :, :-2], images[0, :, 2:], atol=1e-3)
    np.testing.assert_allclose(moved[3, 2:], images[3, :-2], atol=1e-3)
    turned = rotate(images, 90)
    np.testing.assert_allclose(turned[0], np.rot90(images[0], 1), atol=1e-2)
    np.testing.assert_allclose(turned[1], np.rot90(images[1], -1), atol=1e-2)
    assert np.std(add_noise(images, 0.1) - images) == pytest.approx(25.5, rel=0.05)
    np.testing.assert_array_equal(add_noise(images, 0.1), add_noise(images, 0.1))
    assert fade(images, 0.5).std(axis=(1, 2, 3)) == pytest.approx(images.std(axis=(1, 2, 3)) / 2, rel=1e-4)
    blurred = blur(images, 0.05)
    assert blurred.mean() == pytest.approx(images.mean(), rel=0.01)
    assert np.abs(np.diff(blurred, axis=1)).max() < np.abs(np.diff(images, axis=1)).max() / 2


@pytest.mark.long
def test_robustness_is_kept_with_the_run(small: cl.Dataset, tmp_path: Path) -> None:
    (x_train, y_train), (x_test, y_test) = small.train, small.test
    np.savez(tmp_path / "data.npz", x_train=x_train, y_train=y_train, x_test=x_test[:300], y_test=y_test[:300])
    data = cl.load_dataset(tmp_path / "data.npz")
    run = cl.train("dense", data, replace(cl.DEFAULT, precision="float32"), directory=tmp_path)
    assert "robustness" not in cl.evaluate(run)
    measured = cl.evaluate(run, robustness=True)["robustness"]
    assert cl.evaluate(cl.Run(run.path))["robustness"] == measured == run.metrics["robustness"]
    assert measured["images"] == 300
    for curve in measured["curves"]:
        first, *_, last = (point["accuracy"] for point in curve["points"])
        assert first == run.info["test_accuracy"]
        assert last < first
    assert run.metrics["parity"]["label_flips"] == 0  # what was there stays
    table = "\n".join(map(str, tables.of_evaluation(cl.evaluate(run))))
    assert "Abstaining below" in table


def test_evaluate_on_the_command_line(convladder: Any, run: cl.Run) -> None:
    result = json.loads(convladder("evaluate", run.path, "--json").out)
    assert result["run"] == str(run.path)
    assert {"test_accuracy", "validation_accuracy", "fit_seconds", "top_k", "per_class", "confusion"} <= set(result)
    shown = convladder("evaluate", run.path, "--split", "validation").out
    assert "on 500 validation images of small" in shown
    assert "predicted" in shown
    refused = convladder("evaluate", run.path, "--split", "train")
    assert (refused.status, "Expected one of: test, validation, all" in refused.err) == (2, True)
    assert "does not say where its data came from" in convladder("evaluate", run.path, "--robustness").err


def test_many_classes_show_their_commonest_confusions() -> None:
    confusion = (np.eye(20, dtype=int) * 5).tolist()
    confusion[3][7] = 4
    table = tables.of_confusion(confusion, [f"class {number}" for number in range(20)])
    assert [[str(cell) for cell in column.cells] for column in table.columns] == [["class 3"], ["class 7"], ["4"]]


def test_what_a_run_cannot_be_evaluated_on_is_refused(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.path, tmp_path / "fast-1"))

    def changed(**changes: object) -> Path:
        (folder / "run.json").write_text(json.dumps(run.info | changes), encoding="utf-8")
        return folder

    for status in ("failed", "running"):
        with pytest.raises(cl.ConvladderError, match=f"fast-1 is {status}. Expected a run that is finished"):
            cl.evaluate(changed(status=status))
    with pytest.raises(cl.ConvladderError, match=r"held out no validation images\. Expected --split test"):
        cl.evaluate(changed(images=run.info["images"] | {"validation": 0}), "validation")
    empty = Split(small.validation.images[:0], small.validation.labels[:0])
    with pytest.raises(cl.ConvladderError, match=r"small has no validation images\. Expected another split"):
        cl.evaluate(run, "validation", replace(small, validation=empty))


def test_a_run_of_before_does_not_know_what_it_learned(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    told = cl.evaluate(run, "all", small)["without_leaks"]
    assert told["images"] <= len(small.test)
    folder = Path(shutil.copytree(run.path, tmp_path / "fast-1"))
    (folder / "learned.npz").unlink()
    assert "without_leaks" not in cl.evaluate(folder, "all", small)


def test_copies_are_told_in_a_line() -> None:
    test = {"images": 20, "without_leaks": {"images": 19, "accuracy": 0.5, "low": 0.25, "high": 0.75}}
    one = "1 of the 20 images is a copy of training images, so the accuracy is too high"
    assert leaks_in_words(test) == f"{one}: 0.50 (0.25 to 0.75) for the 19 others."
    few = {"images": 3, "without_leaks": {"images": 0, "accuracy": None, "low": None, "high": None}}
    all_three = "3 of the 3 images are copies of training images, so the accuracy is too high"
    assert leaks_in_words(few) == f"{all_three}: no other images are left."
    assert leaks_in_words({"images": 3}) == ""
