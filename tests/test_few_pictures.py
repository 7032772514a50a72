"""Twenty pictures and fewer: trained on all, tested by cross-validation, and nothing said that so few cannot tell."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convladder as cl
from convladder import cli
from convladder.comparing.comparison import Comparison
from convladder.data.dataset import Split
from convladder.data.features import compute_features, pool_features
from convladder.data.loading import locate
from convladder.evaluating.few import caution
from convladder.evaluating.metrics import share_interval
from convladder.evaluating.significance import accuracy_difference
from convladder.reporting import tables
from convladder.reporting.report import write_report
from convladder.runs.catalogue import account_for, find_examples
from convladder.training.head import judge_by_folds, solve, split_folds
from convladder.training.label_errors import find_label_errors
from convladder.training.learning_curve import measure_learning_curve

SOURCE = locate("clothes") / "train"
CLASSES = ("dress", "hat", "pants", "shoes", "t-shirt")
SIDE = 64
FOLDERS = {"two of ten": (10, 10), "five of four": (4,) * 5, "ten and one": (10, 1), "two of two": (2, 2)}


def make_folder(folder: Path, *counts: int, start: int = 1) -> Path:
    """Photographs of clothes, so many of each class."""
    for name, count in zip(CLASSES, counts, strict=False):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(start, start + count):
            shutil.copy(SOURCE / name / f"{name}-{number:02}.jpg", folder / name)
    return folder


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], cl.Run]:
    """The run of one of FOLDERS, trained once."""
    made: dict[str, cl.Run] = {}
    folder = tmp_path_factory.mktemp("few")

    def find(name: str) -> cl.Run:
        if name not in made:
            data = cl.load_dataset(make_folder(folder / name, *FOLDERS[name]), image_size=SIDE)
            made[name] = cl.train("transfer", data, directory=folder / "runs")
        return made[name]

    return find


def printed(run: cl.Run) -> str:
    """What `evaluate` prints of a run."""
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as captured:
        for part in tables.of_evaluation(cl.evaluate(run)):
            console.print(part, soft_wrap=isinstance(part, str))
    return captured.get()


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "tested", "folds"), [("two of ten", 20, 5), ("five of four", 20, 4), ("two of two", 4, 2)]
)
def test_all_pictures_are_trained_on_and_tested(
    run_of: Callable[[str], cl.Run], name: str, tested: int, folds: int
) -> None:
    run = run_of(name)
    assert run.info["tested_by"] == f"{folds}-fold cross-validation"
    assert run.info["images"] == {"train": tested, "validation": 0, "test": tested}
    assert run.info["head"]["images"] == len(run.predictions["labels"]) == tested
    test = run.metrics["test"]
    interval = share_interval(round(test["accuracy"] * tested), tested)
    assert (test["images"], test["low"], test["high"]) == (tested, *interval)


@pytest.mark.long
def test_answers_that_are_tested_are_not_those_of_the_shipped_head(run_of: Callable[[str], cl.Run]) -> None:
    run = run_of("five of four")
    images = run.load_dataset().test.images
    shipped = run.classifier().predict_probabilities(images)
    assert np.abs(shipped - run.predictions["probabilities"]).max() > 0.1
    assert (shipped.argmax(axis=1) == run.predictions["labels"]).mean() == 1  # it has seen them


@pytest.mark.long
def test_labels_of_chance_are_recognized_by_chance(run_of: Callable[[str], cl.Run]) -> None:
    """Else something of a picture has reached the head that judges it."""
    pool = cl.load_dataset("clothes", image_size=SIDE)
    (features,) = compute_features([pool.train.images[:60]])
    labels = np.random.default_rng(0).permutation(np.arange(60) % 5)
    answers, folds = judge_by_folds(features, labels, 5, 2)
    assert folds == 5
    assert (answers.argmax(axis=1) == labels).mean() < 0.4


@pytest.mark.long
def test_by_cross_validation_too_it_is_said_that_nothing_was_learned(tmp_path: Path) -> None:
    """Here of labels that chance gave."""
    pictures = sorted(SOURCE.glob("*/*.jpg"))[::2]
    order = np.random.default_rng(0).permutation(len(pictures))
    for place, number in enumerate(order[:60]):
        (tmp_path / "data" / CLASSES[place % 5]).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures[number], tmp_path / "data" / CLASSES[place % 5])
    data = cl.load_dataset(tmp_path / "data", image_size=SIDE)
    run = cl.train("transfer", data, directory=tmp_path / "runs")
    assert "tested_by" in run.info
    assert run.info["learned_nothing"]
    assert run.no_better.startswith("Learned nothing: always answering")
    assert "labels" in run.no_better
    assert "Learned nothing" in printed(run)
    found = Comparison((run,)).recommendation
    assert (found["take"], found["words"].partition(".")[0]) == (None, "Recommended: none")


@pytest.mark.long
def test_a_class_of_one_picture_is_learned_and_named_and_not_tested(run_of: Callable[[str], cl.Run]) -> None:
    run = run_of("ten and one")
    data = run.load_dataset()
    assert run.info["images"] == {"train": 11, "validation": 0, "test": 10}
    assert any("without test pictures: hat." in line for line in data.account.lines())  # type: ignore[union-attr]
    assert run.metrics["test"]["per_class"][1]["recall"] is None
    answers = run.classifier().predict_probabilities(data.train.images[data.train.labels == 1])
    assert answers.argmax(axis=1).tolist() == [1]
    assert "Always answering dress would be at least as accurate." in printed(run)


def test_of_equal_pictures_one_counts(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", 4, 4)
    for number in (1, 2, 3):
        shutil.copy(folder / "dress" / f"dress-0{number}.jpg", folder / "dress" / f"copy-{number}.jpg")
    data = cl.load_dataset(folder, image_size=SIDE).pooled()
    assert (len(data.train), len(data.test)) == (8, 8)
    assert data.account is not None
    assert len(data.account.paths) == 16
    assert len({path.rpartition("/")[2].replace("copy-", "dress-0") for path in data.account.paths}) == 8
    same = make_folder(tmp_path / "same", 1, 1)
    for name in ("dress", "hat"):
        shutil.copy(same / name / f"{name}-01.jpg", same / name / "copy.jpg")
    with pytest.raises(cl.ConvladderError, match="has two different pictures"):
        cl.train("transfer", cl.load_dataset(same, image_size=SIDE), directory=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_what_is_learned_from_and_tested_counts_once_where_pictures_judge_one_another(
    run_of: Callable[[str], cl.Run],
) -> None:
    """Else its copy would teach a head the label of a picture, and nothing would ever seem wrong."""
    data = run_of("two of ten").load_dataset()
    assert (len(data.train), len(data.test)) == (20, 20)
    features, labels = pool_features(data)
    assert (features.shape[1], len(labels)) == (20, 20)
    assert measure_learning_curve(data, features, labels).pictures == 20


@pytest.mark.parametrize("counts", [(2, 2), (3, 2), (1, 1), (1, 4, 2), (7, 1)])
def test_every_fold_leaves_each_class_something_to_learn_from(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_folds(labels)
    judged = sorted(row for _, fold in parts for row in fold)
    assert judged == [row for row, label in enumerate(labels) if counts[label] > 1]
    for rest, fold in parts:
        assert set(labels[rest]) == set(labels)
        assert sorted([*rest, *fold]) == list(range(len(labels)))


def test_one_picture_a_class_is_fitted_to_without_a_choice() -> None:
    features = np.random.default_rng(0).normal(size=(2, 2, 1280)).astype(np.float32)
    solution = solve(features, np.array([0, 1]), features[:, :0], np.array([], np.int64), 2, 2)
    assert (solution.strength, len(solution.labels)) == (1.0, 0)
    assert "no class has two pictures" in solution.method


@pytest.mark.long
def test_a_comparison_tests_all_rungs_on_what_was_held_out(run_of: Callable[[str], cl.Run], tmp_path: Path) -> None:
    data = run_of("two of two").load_dataset()
    loaded = cl.load_dataset(data.source["source"], image_size=SIDE)  # type: ignore[index]
    run = cl.train("transfer", loaded, directory=tmp_path, by_folds=False)
    assert "tested_by" not in run.info
    assert run.info["images"] == {"train": 2, "validation": 0, "test": 2}
    assert "validation" not in run.metrics  # one picture a class: nothing could be judged
    with pytest.raises(cl.ConvladderError, match="all by cross-validation"):
        cl.Comparison((run, run_of("two of two")))
    assert "2 test images tell little" in " ".join(cl.Comparison((run,)).sentences)


@pytest.mark.long
def test_a_test_folder_of_two_is_used(tmp_path: Path) -> None:
    make_folder(tmp_path / "pictures" / "train", 6, 6)
    make_folder(tmp_path / "pictures" / "test", 1, 1, start=7)
    run = cl.train("transfer", cl.load_dataset(tmp_path / "pictures", image_size=SIDE), directory=tmp_path / "runs")
    assert "tested_by" not in run.info
    assert run.metrics["test"]["images"] == 2
    said = caution(run.metrics["test"], run.info)
    assert said.startswith("2 test images tell little")
    assert "where no folder names test images" in said


@pytest.mark.long
@pytest.mark.parametrize("name", list(FOLDERS))
def test_no_more_is_said_than_so_few_tell(run_of: Callable[[str], cl.Run], name: str, tmp_path: Path) -> None:
    run = run_of(name)
    assert (run.info["temperature"], run.info["threshold"]) == (1, 0)
    page = write_report([run], tmp_path / "report.html").read_text(encoding="utf-8")
    answer = page[page.index('id="answer"') : page.index("<nav")]
    assert "test images tell little" in answer
    assert run.info["tested_by"] in answer
    assert "in a thousand" not in answer
    assert ">Robustness<" not in page
    for text in (printed(run), answer):
        assert "tell little" in text
        assert "nan" not in text
        assert ".0000" not in text
        assert "Calibration error" not in text


@pytest.mark.long
def test_train_says_what_it_takes_and_with_evaluate_and_json_how_it_was_tested(
    run_of: Callable[[str], cl.Run], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = run_of("two of ten").info["data"]["source"]

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["convladder", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (int(ended.value.code or 0), *capfd.readouterr())

    status, out, err = call("train", "--data", source, "--image-size", SIDE, "--runs", tmp_path)
    assert status == 0
    assert "for 20 images, by 5-fold cross-validation)" in out
    side = cl.load_dataset(source).native_side
    assert err.splitlines() == [
        "20 files: 20 pictures.",
        "Classes with fewer than 10 training pictures: dress 7, hat 7.",
        "2 classes: dress (10), hat (10). 14 pictures for training, 2 for validation, 4 for testing.",
        f"The rung is transfer, because these are photographs, {side} pixels at their shorter side; "
        "--model takes another.",
        "transfer  fitted; scoring, exporting and testing the export",
        caution(run_of("two of ten").metrics["test"]),
    ]
    status, out, err = call("evaluate", tmp_path / "transfer-1")
    assert ", by 5-fold cross-validation: accuracy" in out
    assert json.loads(call("evaluate", tmp_path / "transfer-1", "--json")[1])["tested_by"] == "5-fold cross-validation"
    for refused, words in (("--robustness", "trained on all of its pictures"), ("--split=validation", "held out no")):
        status, _, err = call("evaluate", tmp_path / "transfer-1", refused)
        assert (status, err.count("\n")) == (2, 1)
        assert words in err


@pytest.mark.long
def test_the_page_says_how_it_was_tested(run_of: Callable[[str], cl.Run], tmp_path: Path) -> None:
    run = run_of("two of ten")
    account = account_for(run.classifier())
    assert (account["test_images"], account["tested_by"]) == (20, "5-fold cross-validation")
    alone = cl.Classifier(shutil.copy(run.path / "model.onnx", tmp_path / "alone.onnx"))
    for key in ("test_accuracy", "test_images", "interval", "tested_by"):
        assert account_for(alone)[key] == account[key]
    examples = find_examples(run.classifier())
    assert examples is not None
    assert not examples.misjudged.any()  # by the model that answers there, which has seen them


@pytest.mark.long
def test_likely_label_errors_are_judged_by_the_run_s_own_folds(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", 26, 26)  # of which chance would hold out 8; of 9 each no head is sure
    (folder / "dress" / "dress-01.jpg").rename(folder / "hat" / "moved.jpg")
    run = cl.train("transfer", cl.load_dataset(folder, image_size=SIDE), directory=tmp_path / "runs")
    assert "tested_by" in run.info
    found = find_label_errors(folder, run)
    assert [Path(group[0]).name for group in found.groups] == ["moved.jpg"]


@pytest.mark.long
def test_arrays_and_other_rungs_are_tested_on_what_was_held_out(tmp_path: Path) -> None:
    data = cl.load_dataset(make_folder(tmp_path / "pictures", 4, 4), image_size=32)
    run = cl.train("pool", data, replace(cl.DEFAULT, epochs=1), directory=tmp_path)
    assert "tested_by" not in run.info
    assert run.info["images"]["test"] == 2
    assert run.info["temperature"] == 1
    assert run.info["temperature_reason"].startswith("1, since 30 validation images")
    built = cl.Dataset(
        "built", data.class_names, data.train, Split(data.train.images[:0], data.train.labels[:0]), data.test
    )
    assert not built.held_out  # somebody chose what to test on


def test_a_difference_of_accuracies_is_at_most_a_hundred_points() -> None:
    _, low, high = accuracy_difference(np.ones((1, 4), bool), np.array([[True, False, False, False]]))
    assert -1 <= low < 0
    assert high == 1
