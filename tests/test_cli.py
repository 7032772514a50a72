"""The command line as a user meets it: real processes where it matters, one line for each bad input."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import convladder as cl
from convladder import cli
from convladder.models.ladder import MODELS, rung_choices
from convladder.training.recipes import TUNED


def test_the_options_for_choices_are_the_choices_of_the_rungs() -> None:
    offered: dict[str, set[type]] = {}
    for rung in MODELS:
        for name, default in rung_choices(rung).items():
            offered.setdefault(name, set()).add(type(default))
    assert {name: {kind} for name, (kind, _) in cli.CHOICES.items()} == offered


def test_without_a_command_the_help_is_shown(convladder: Any) -> None:
    result = convladder()
    assert "Usage" in result.out + result.err
    assert "Error" not in result.err


@pytest.mark.long
def test_models_as_json(convladder: Any) -> None:
    rows = json.loads(convladder("models", "--json").out)
    assert [row["name"] for row in rows] == list(MODELS)
    assert {tuple(row) for row in rows} == {("name", "idea", "parameters", "macs", "tuned")}
    assert {row["name"] for row in rows if row["tuned"]} == set(TUNED)
    counts = {row["name"]: row["parameters"] for row in rows}
    assert (counts["dense"], counts["conv"], counts["pool"]) == (26_506, 823_338, 70_698)


@pytest.mark.long
def test_models_as_a_table_marks_a_network_and_a_recipe_tuned_together(convladder: Any) -> None:
    table = convladder("models").out
    for rung in MODELS:
        assert f" {rung}{'†' if rung in TUNED else ''} " in table
    assert "† fast, tiny, strong, transfer and finetune: network and recipe were tuned together" in table


@pytest.mark.long
def test_summary_shows_the_arithmetic(convladder: Any) -> None:
    assert "(28 + 2·1 − 3)/1 + 1 = 28" in convladder("summary", "pool").out
    assert "(28 + 2·0 − 5)/1 + 1 = 24" in convladder("summary", "conv", "--kernel-size", 5, "--padding", "valid").out
    table = convladder("summary", "dense", "--input", "256x256x3", "--hidden", 1024).out
    assert "196,608" in table
    assert "201,327,616" in table


def test_summary_as_json(convladder: Any) -> None:
    content = json.loads(convladder("summary", "pool", "--json").out)
    assert content["parameters"] == sum(layer["parameters"] for layer in content["layers"]) == 70_698


@pytest.mark.long
def test_train_then_predict(convladder: Any, small_npz: Path, small: cl.Dataset, tmp_path: Path) -> None:
    from PIL import Image

    trained = json.loads(convladder("train", "--model", "fast", "--data", small_npz, "--epochs", 1, "--json").out)
    assert trained["run"] == "runs/fast-1"
    assert {"test_accuracy", "validation_accuracy", "fit_seconds"} <= set(trained)
    for number in range(3):
        Image.fromarray(small.test.images[number, ..., 0]).save(tmp_path / f"{number}.png")
    lines = convladder("predict", "runs/fast-1", "0.png", "1.png", "2.png", "--json").out.splitlines()
    expected = cl.Run(tmp_path / "runs/fast-1").predictions["probabilities"]
    for number, line in enumerate(lines):
        answer = json.loads(line)
        assert answer["source"] == f"{number}.png"
        assert answer["label"] == str(expected[number].argmax())
        assert answer["probability"] == pytest.approx(expected[number].max(), abs=1e-5)


def test_predict_goes_on_after_a_bad_picture(convladder: Any, run: cl.Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no picture")
    result = convladder("predict", run.path, "bad.png", "missing.png", "--json")
    assert result.status == 2
    assert ["error" in json.loads(line) for line in result.out.splitlines()] == [True, True]


def test_predict_says_what_it_passes_over_in_a_folder_or_pattern(
    convladder: Any, run: cl.Run, small: cl.Dataset, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "photos/more").mkdir(parents=True)
    Image.fromarray(small.test.images[0][..., 0]).save(tmp_path / "photos/scan.0001", "PNG")
    (tmp_path / "photos/notes.txt").touch()
    (tmp_path / "photos/up").symlink_to(tmp_path, target_is_directory=True)
    result = convladder("predict", run.path, "photos")
    assert result.status == 0
    assert result.out.startswith("photos/scan.0001\t")
    assert "photos: 1 a link to a folder, 1 no picture by name and content, skipped." in result.err
    (tmp_path / "photos/gone.jpg").symlink_to("nowhere")
    result = convladder("predict", run.path, "photos", "--json")
    assert result.status == 2
    assert ["error" in json.loads(line) for line in result.out.splitlines()] == [True, False]
    assert "photos/*: 2 folders, skipped." in convladder("predict", run.path, "photos/*").err


@pytest.mark.long
def test_columns_of_a_table_can_be_named_wherever_data_are_taken(convladder: Any, tmp_path: Path) -> None:
    import hostile

    lines = ["file_name,width,breed,fold"]
    for number in range(24):
        hostile.picture(number).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,32,{'ab'[number % 2]},{number % 3}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    named = ["--label-column", "breed", "--split-column", "none"]
    for command in (["train", "--data"], ["compare", "--data"], ["audit"]):
        refused = convladder(*command, "t.csv")
        assert refused.status == 2
        assert refused.out == ""
        assert "t.csv has " in refused.err or "fold of t.csv" in refused.err
    trained = convladder("train", "--data", "t.csv", *named, "--model", "dense", "--epochs", 1, "--batch-size", 8)
    assert trained.status == 0
    assert "2 classes: a (12), b (12). 18 pictures for training, 2 for validation, 4 for testing." in trained.err
    assert json.loads(Path("runs/dense-1/run.json").read_text())["data"]["columns"] == {
        "label": "breed",
        "split": "none",
    }
    assert convladder("evaluate", "runs/dense-1", "--data", "t.csv", *named, "--path-column", 1).status == 0
    assert json.loads(convladder("audit", "t.csv", *named, "--json").out)["classes"] == {"a": 12, "b": 12}
    refused = convladder("compare", "--data", "t.csv", "--label-column", "race", "--split-column", "none")
    assert "'race' is not one of them" in refused.err


def test_predict_takes_folders_patterns_and_standard_input(
    convladder: Any, run: cl.Run, small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import csv
    import io

    from PIL import Image

    for name, image in zip(("a/1.png", "a/b/2.png", "3.png"), small.test.images, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(tmp_path / name)
    (tmp_path / "a/notes.txt").touch()
    (tmp_path / "a/elsewhere").symlink_to(tmp_path, target_is_directory=True)
    labels = [str(p.argmax()) for p in run.predictions["probabilities"][:3]]
    lines = [line.split("\t") for line in convladder("predict", run.path, "a", "*.png").out.splitlines()]
    assert [(source, label) for source, label, _ in lines] == list(
        zip(("a/1.png", "a/b/2.png", "3.png"), labels, strict=True)
    )
    (tmp_path / "list").write_text("3.png\nmissing.png\n\na/1.png\n")
    with (tmp_path / "list").open() as listed:
        monkeypatch.setattr("sys.stdin", listed)
        result = convladder("predict", run.path, "-", "--csv", "--top", 2)
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert result.status == 2
    assert [(row["source"], row["label"]) for row in rows] == [
        ("3.png", labels[2]),
        ("missing.png", ""),
        ("a/1.png", labels[0]),
    ]
    assert "Could not read missing.png" in rows[1]["error"]
    assert float(rows[0]["probability"]) > float(rows[0]["probability_2"])
    (answer,) = [
        json.loads(line) for line in convladder("predict", run.path, "3.png", "--json", "--top", 3).out.splitlines()
    ]
    assert len(answer["top"]) == 3
    assert answer["abstained"] is False


def test_export_writes_a_file_and_says_how_near_it_is(convladder: Any, stored: cl.Run) -> None:
    result = convladder("export", stored.path, "--output", "shipped.onnx", "--json")
    account = json.loads(result.out)
    assert (result.status, account["path"], account["images"]) == (0, "shipped.onnx", 1000)
    assert cl.Classifier("shipped.onnx").class_names == tuple("0123456789")


@pytest.mark.long
def test_compare_climbs(convladder: Any, small_npz: Path) -> None:
    result = convladder("compare", "--models", "dense", "--data", small_npz, "--epochs", 0.5, "--seeds", 2, "--json")
    assert "about" in result.err  # how long it will take, before it starts
    rows = json.loads(result.out)["models"]
    assert [(row["name"], row["seeds"]) for row in rows] == [("dense", 2)]
    assert rows[0]["runs"] == ["runs/dense-1", "runs/dense-2"]


@pytest.mark.long
def test_a_terminal_shows_the_table_and_the_bar_while_it_climbs(small_npz: Path, tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "convladder", "compare", "--models", "dense,fast", "--data", str(small_npz)]
    process = subprocess.Popen(
        [*command, "--epochs", "8", "--runs", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "150"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait() == 0
    assert b"images/s" in shown
    assert b"test accuracy" in shown
    assert b"\x1b[?25h" in shown.split(b"\x1b[?25l")[-1]  # the cursor is back


BAD = {
    "unknown rung": (["train", "--model", "pol"], "Did you mean pool?"),
    "unknown rung to summarize": (["summary", "dens"], "Did you mean dense?"),
    "unknown rung to compare": (["compare", "--models", "dense,pol"], "Did you mean pool?"),
    "unknown pooling": (["train", "--pooling", "maximum"], "Expected one of: max, average, min"),
    "no such choice": (["train", "--model", "dense", "--stride", "2"], "dense has no choice stride"),
    "kernel too large": (
        ["train", "--model", "conv", "--kernel-size", "29", "--padding", "valid"],
        "29×29 does not fit into 28×28",
    ),
    "zero epochs": (["train", "--epochs", "0"], "epochs 0 is out of range"),
    "no number": (["train", "--epochs", "many"], "--epochs"),
    "negative dropout": (
        ["train", "--model", "regularized", "--dropout", "-0.5"],
        "dropout -0.5 is out of range",
    ),
    "negative seed": (["train", "--seed", "-1"], "--seed"),
    "no batch": (["train", "--batch-size", "0"], "batch size"),
    "no such data": (["train", "--data", "nowhere.npz"], "nowhere.npz cannot be read"),
    "an empty directory as data": (["train", "--data", "."], "Expected <class>/*.jpg"),
    "unknown resize": (["train", "--resize", "padd"], "Did you mean pad?"),
    "unknown fit, as resize was called": (["train", "--fit", "padd"], "Did you mean pad?"),
    "no resize": (["train", "--resize", ""], "Expected one of: crop, pad, stretch"),
    "resize by both names": (["train", "--resize", "pad", "--fit", "pad"], "Expected --resize alone"),
    "no such channels": (["train", "--channels", "2"], "Expected 1 (gray) or 3 (colour)"),
    "a size for arrays": (["compare", "--image-size", "32"], "taken as they are"),
    "unknown recipe": (["train", "--recipe", "articel"], "Did you mean article?"),
    "no size": (["summary", "pool", "--input", "28x28"], "Expected HEIGHTxWIDTHxCHANNELS"),
    "too small": (["summary", "pool", "--input", "4x4x1"], "at least 8"),
    "unknown option": (["train", "--epoch-count", "3"], "--epoch-count"),
    "unknown command": (["trian"], "trian"),
    "an empty folder": (["predict", "model.onnx", "."], "Could not load model.onnx"),
    "unknown format": (["export", "runs/pool-1", "--format", "onx"], "not a finished run"),
    "no such run": (["predict", "runs/pool-1", "digit.png"], "runs/pool-1"),
    "missing argument": (["predict"], "Missing argument 'model'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_exit_2_and_leaves_nothing(convladder: Any, tmp_path: Path, case: str) -> None:
    arguments, message = BAD[case]
    result = convladder(*arguments)
    assert result.status == 2
    assert len(result.err.strip().splitlines()) == 1
    assert message in result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(convladder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["convladder", "--debug", "summary", "pol"])
    with pytest.raises(cl.ConvladderError):
        cli.main()


def test_a_missing_extra_is_a_hint(convladder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    result = convladder("models")
    assert result.status == 1
    assert "pip install 'convladder[train]'" in result.err
