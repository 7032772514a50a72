"""The same command, seed and data give the same numbers: in other processes and folders, with and without caches."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.data.loading import locate

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("repeatability")]

HOW = ["--seed", "3", "--deterministic"]
DIGITS = ["--data", "few.npz", "--epochs", "1.5", *HOW]
PHOTOS = ["--data", "photos", "--image-size", "64", *HOW]
TRAININGS = {
    "small": ["--model", "regularized", *DIGITS],
    "augmented": ["--model", "strong", "--data", "few.npz", "--epochs", "0.5", *HOW],
    "ensemble": ["--model", "dense", "--ensemble", "2", *DIGITS],
    "transfer": ["--model", "transfer", *PHOTOS],
    "finetune": ["--model", "finetune", "--epochs", "1", *PHOTOS],
}
ANSWERS = {
    "evaluate": ["evaluate", "small/regularized-1", "--robustness"],
    "evaluate other data": ["evaluate", "transfer/transfer-1", "--data", "photos/test"],
    "compare": ["compare", "--data", "few.npz", "--models", "dense,fast", "--epochs", "0.5", "--seeds", "2", HOW[-1]],
    "audit": ["audit", "photos", "--labels", "--learning-curve"],
    "audit with a run": ["audit", "photos", "--run", "transfer/transfer-1"],
}
# What is measured with a clock, and sentences with it; the folder of the data.
# What may differ, by the ends of the keys. The bytes of model.onnx do: tf2onnx takes any of several equal constants.
TIMES = ("seconds", "source", "started", "images_per_second", "words", "seconds_ratio", "pareto", "bytes")

Call = Callable[..., list[str]]


def copy_reversed(source: Path, target: Path) -> None:
    """The same files, made in the other order, and with other times."""
    for file in sorted((file for file in source.rglob("*") if file.is_file()), reverse=True):
        copied = target / file.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copied)


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory, mnist: cl.Dataset) -> Call:
    """Calls a command in two folders, one after the other, with other hashes of text; gives what it printed there."""
    folders = [tmp_path_factory.mktemp("once"), tmp_path_factory.mktemp("again")]
    photos = tmp_path_factory.mktemp("source")
    for split, count in (("train", 8), ("test", 4)):
        for name in ("dress", "hat", "shoes"):
            (photos / split / name).mkdir(parents=True)
            for file in sorted((locate("clothes") / split / name).iterdir())[:count]:
                shutil.copyfile(file, photos / split / name / file.name)
    shutil.copytree(photos, folders[0] / "photos")
    copy_reversed(photos, folders[1] / "photos")
    arrays: dict[str, Any] = {"x_train": mnist.train.images[:900, ..., 0], "y_train": mnist.train.labels[:900]}
    arrays |= {"x_test": mnist.test.images[:300, ..., 0], "y_test": mnist.test.labels[:300]}
    for folder in folders:
        np.savez(folder / "few.npz", **arrays)

    def in_both(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "convladder", *arguments]
        return [
            subprocess.run(
                command,
                cwd=folder,
                env=os.environ | {"PYTHONHASHSEED": str(number), "XDG_CACHE_HOME": str(folder / "cache")},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for number, folder in enumerate(folders, 1)
        ]

    in_both.folders = folders  # type: ignore[attr-defined]
    return in_both


def without_times(content: Any) -> Any:
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if not key.endswith(TIMES)}
        return {key: without_times(value) for key, value in kept.items()}
    return [without_times(one) for one in content] if isinstance(content, list) else content


def arrays_of(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a run folder: weights, answers, examples, familiarity. The moments of a film follow the clock."""
    found: dict[str, npt.NDArray[Any]] = {}
    for path in sorted(set(folder.glob("*.npz")) - {folder / "film.npz"}):
        with np.load(path) as archive:
            found |= {f"{path.name}/{name}": array for name, array in archive.items()}
    weights = cl.Run(folder).load_model().get_weights()
    return found | {f"weights/{number}": array for number, array in enumerate(weights)}


@pytest.fixture(scope="module")
def train(call: Call) -> Callable[[str], list[Path]]:
    """Trains one of TRAININGS in both folders, once."""
    made: dict[str, list[Path]] = {}

    def find(name: str) -> list[Path]:
        if name not in made:
            call("train", "--runs", name, *TRAININGS[name])
            made[name] = [next((folder / name).iterdir()) for folder in call.folders]  # type: ignore[attr-defined]
        return made[name]

    return find


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_gives_the_same_numbers_bit_for_bit(train: Callable[[str], list[Path]], name: str) -> None:
    once, again = train(name)
    for file in ("run.json", "metrics.json"):
        first, second = (without_times(json.loads((run / file).read_text())) for run in (once, again))
        assert first == second, file
    expected, found = arrays_of(once), arrays_of(again)
    unlike = [
        key
        for key in expected.keys() | found.keys()
        if key not in found or key not in expected or expected[key].tobytes() != found[key].tobytes()
    ]
    assert not unlike, unlike
    with zipfile.ZipFile(once / "model.keras") as first_file, zipfile.ZipFile(again / "model.keras") as second_file:
        # Keras names what occurs twice by its address.
        described = [
            re.sub(rb'"shared_object_id": \d+', b"", file.read("config.json")) for file in (first_file, second_file)
        ]
    assert described[0] == described[1]
    # The file may name its constants in another way: tf2onnx takes any of several equal ones.
    images = np.load(once / "examples.npz")["images"]
    first, second = (cl.Run(run).classifier().predict_probabilities(images).tobytes() for run in (once, again))
    assert first == second


@pytest.mark.parametrize("name", ANSWERS)
def test_a_command_prints_the_same_numbers(call: Call, train: Callable[[str], list[Path]], name: str) -> None:
    if "evaluate" in name or "run" in name:
        train("small" if name == "evaluate" else "transfer")
    once, again = (without_times(json.loads(said)) for said in call(*ANSWERS[name], "--json"))
    assert once == again
    cached, _ = (without_times(json.loads(said)) for said in call(*ANSWERS[name], "--json"))  # with what was kept
    assert cached == once
