"""Familiarity: strange pictures are told from held-out ones, by the shipped file as by NumPy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from PIL import Image

import convladder as cl
from convladder.evaluating.familiarity import (
    CENTRES,
    PROJECTED_WIDTH,
    Features,
    _find_directions,
    learn_familiarity,
    read_familiarity,
    write_familiarity,
)
from convladder.evaluating.metrics import predict_probabilities
from convladder.exporting.onnx_file import export_onnx
from convladder.inference.classifier import UNLIKE
from convladder.models.ladder import build_model
from convladder.runs.run import FAMILIARITY_FILE
from convladder.training.assembling import assemble
from convladder.training.familiarizing import describe, familiarize

METADATA: dict[str, Any] = {"class_names": [str(label) for label in range(10)], "input_shape": (28, 28, 1)}


def measured(run: cl.Run, images: np.ndarray) -> np.ndarray:
    familiarity = run.classifier().answer(images).familiarity
    assert familiarity is not None
    return familiarity


def test_strange_pictures_are_unlike_the_training(run: cl.Run, small: cl.Dataset) -> None:
    digits = small.test.images[:500]
    noise = np.random.default_rng(0).integers(0, 256, digits.shape).astype(np.uint8)
    for strange in (255 - digits, noise, np.full_like(digits[:1], 128)):
        assert (measured(run, strange) < UNLIKE).mean() > 0.9
    assert (measured(run, digits) < UNLIKE).mean() < 0.04  # one in a hundred of the 500 held-out pictures


def test_familiarity_is_a_share_of_held_out_pictures(run: cl.Run, small: cl.Dataset) -> None:
    shares = measured(run, small.validation.images)
    assert abs(np.mean(shares) - 0.5) < 0.02
    assert abs(np.mean(shares < 0.1) - 0.1) < 0.02


@pytest.mark.long
@pytest.mark.parametrize(
    ("rung", "views", "count"),
    [("dense", "none", 1), ("tiny", "digits", 1), ("linear_head", "none", 2), ("residual", "photos", 1)],
)
def test_the_file_measures_as_numpy_does(rung: str, views: str, count: int, small: cl.Dataset, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    networks = [build_model(rung, (28, 28, 1), 10) for _ in range(count)]
    model = assemble(networks, views)
    images = np.concatenate([small.test.images[:50], 255 - small.test.images[:50]])
    familiarity = familiarize(model, small, None)
    assert familiarity is not None
    write_familiarity(tmp_path / FAMILIARITY_FILE, familiarity)
    kept = read_familiarity(tmp_path / FAMILIARITY_FILE)
    assert kept is not None
    export_onnx(model, tmp_path / "model.onnx", METADATA, images, predict_probabilities(model, images), kept)
    told = cl.Classifier(tmp_path / "model.onnx").answer(images).familiarity
    assert told is not None
    np.testing.assert_allclose(told, familiarity.measure(describe(networks[0], images)), atol=0.005)


def test_no_held_out_pictures_and_few_of_them_still_tell() -> None:
    rng = np.random.default_rng(0)

    def draw(count: int, mean: float) -> list[Features]:
        return [rng.normal(mean, 0.1, (count, 16)).astype(np.float32) + np.eye(16, dtype=np.float32)[0]]

    for train, held_out, frozen in ((300, 0, False), (300, 20, False), (20, 3, True), (12, 0, True)):
        learned = learn_familiarity(draw(train, 0), draw(held_out, 0), frozen=frozen)
        assert learned is not None
        assert len(learned.places[0].bias) <= CENTRES
        assert (learned.measure(draw(100, 0)) < UNLIKE).mean() <= 0.15, (train, held_out)
        assert (learned.measure([-draw(100, 0)[0]]) < UNLIKE).mean() > 0.9, (train, held_out)
    assert learn_familiarity(draw(5, 0), draw(4, 0), frozen=True) is None


def test_of_few_pictures_the_longest_directions_are_those_of_the_whole_matrix() -> None:
    rows = np.random.default_rng(0).normal(size=(140, 300)).astype(np.float32) * np.linspace(0.1, 2, 300)
    for count in (20, 140):  # fewer than there are directions, and more
        few = np.asarray(rows[:count], np.float32)
        found = _find_directions(few)
        np.testing.assert_allclose(found.T @ found, np.eye(PROJECTED_WIDTH), atol=1e-5)
        longest = np.linalg.eigvalsh(few.astype(np.float64).T @ few)[-PROJECTED_WIDTH:]
        assert ((few @ found) ** 2).sum() == pytest.approx(longest.sum(), rel=1e-4)


def test_the_table_in_the_guide_is_what_was_measured() -> None:
    docs = Path(__file__).parent.parent / "docs"
    guide = (docs / "evaluate.md").read_text(encoding="utf-8")
    for row in json.loads((docs / "benchmarks/unlikeness.json").read_text(encoding="utf-8"))["rows"]:
        for kind, told in row["strange"].items():
            assert f"| `{row['rung']}` | {kind} | {told['auroc']:.3f} | {told['auroc_of_probability']:.3f} |" in guide


def test_the_command_and_its_table_say_it(
    run: cl.Run,
    convladder: Any,
    small: cl.Dataset,
    tmp_path: Path,
) -> None:
    for name, pixels in (("digit", small.test.images[0]), ("strange", 255 - small.test.images[0])):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{name}.png")
    said = convladder("predict", run.path, "digit.png", "strange.png", "--json")
    digit, strange = map(json.loads, said.out.splitlines())
    assert (digit["unlike_training"], strange["unlike_training"]) == (False, True)
    assert 0 <= strange["familiarity"] < UNLIKE <= digit["familiarity"] <= 1
    lines = convladder("predict", run.path, "digit.png", "strange.png").out.splitlines()
    assert [line.endswith("\tunlike its training pictures") for line in lines] == [False, True]
    header, *rows = convladder("predict", run.path, "strange.png", "--csv").out.splitlines()
    assert dict(zip(header.split(","), rows[0].split(","), strict=True))["unlike_training"] == "true"


@pytest.mark.long
def test_a_file_of_before_predicts_and_does_not_tell(run: cl.Run, small: cl.Dataset, tmp_path: Path) -> None:
    images = small.test.images[:3]
    model = run.load_model()
    export_onnx(model, tmp_path / "old.onnx", METADATA, images, predict_probabilities(model, images))
    assert "familiarity" not in [output.name for output in onnx.load(tmp_path / "old.onnx").graph.output]
    answers = cl.Classifier(tmp_path / "old.onnx").answer(images)
    assert answers.familiarity is None
    np.testing.assert_allclose(answers.probabilities, run.classifier().predict_probabilities(images), atol=1e-5)


@pytest.mark.long
def test_any_number_of_threads_learns_the_same_bit_for_bit() -> None:
    script = (
        "import hashlib, numpy as np\n"
        "from convladder.evaluating.familiarity import learn_familiarity\n"
        "random = np.random.default_rng(0)\n"
        "train, held_out = (random.normal(size=(n, 16)).astype(np.float32) for n in (6000, 200))\n"
        "for _ in range(2):\n"
        "    learned = learn_familiarity([train], [held_out], frozen=False)\n"
        "    print(hashlib.sha256(learned.places[0].bias.tobytes() + learned.held_out.tobytes()).hexdigest())\n"
    )
    command = [sys.executable, "-c", script]
    six = os.environ | {"OMP_NUM_THREADS": "6"}  # more than there are cores, so that they end in any order
    first, second = subprocess.run(command, env=six, capture_output=True, text=True, check=True).stdout.split()
    assert first == second
