"""`finetune`: all layers trained on from the solved head, and never worse for it on validation pictures."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.data.dataset import Split
from convladder.evaluating.metrics import predict_probabilities
from convladder.models.ladder import build_model
from convladder.training.finetuning import resizable, sides_of
from convladder.training.recipes import Recipe, default_recipe, default_recipe_for


@pytest.fixture(scope="module")
def clothes() -> cl.Dataset:
    """64 pixels; 40 pictures to train on, and 40 to choose with, so that their accuracy tells something."""
    data = cl.load_dataset("clothes", image_size=64)
    few, many = np.arange(len(data.train)) % 3 == 0, np.arange(len(data.train)) % 3 == 1
    return replace(
        data,
        train=Split(data.train.images[few], data.train.labels[few]),
        validation=Split(data.train.images[many], data.train.labels[many]),
    )


@pytest.fixture(scope="module")
def brief(clothes: cl.Dataset) -> Recipe:
    return replace(default_recipe_for("finetune", clothes), epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def tuned(clothes: cl.Dataset, brief: Recipe, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    return cl.train("finetune", clothes, brief, seed=3, directory=tmp_path_factory.mktemp("runs"), deterministic=True)


def weights_of(model: keras.Model) -> list[npt.NDArray[np.float32]]:
    """Of the network itself, without the views around it."""
    return list(model.get_weights())


@pytest.mark.long
def test_the_solved_head_is_the_first_candidate_and_nothing_worse_is_taken(clothes: cl.Dataset, tuned: cl.Run) -> None:
    accuracies = [float(row["validation_accuracy"]) for row in tuned.history]
    (best,) = tuned.info["best_epochs"]
    assert accuracies[best - 1] == max(accuracies)
    assert tuned.info["head"]["images"] == len(clothes.train)  # the validation pictures choose, so none is fitted to
    transferred = build_model("transfer", clothes.input_shape, clothes.num_classes)
    assert accuracies[0] > 0.5 > (predict_probabilities(transferred, clothes.validation.images) > 0.5).mean()


@pytest.mark.long
def test_a_ruinous_rate_leaves_the_solved_head(clothes: cl.Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = cl.train("finetune", clothes, replace(brief, learning_rate=30.0, epochs=1), directory=tmp_path)
    assert run.info["best_epochs"] == [1]
    assert run.metrics["test"]["accuracy"] > 0.5
    pretrained = build_model("finetune", clothes.input_shape, clothes.num_classes).get_weights()
    for kept, given in zip(weights_of(run.load_model())[:-2], pretrained[:-2], strict=True):
        np.testing.assert_array_equal(kept, given)


@pytest.mark.long
def test_the_account_tells_what_it_was_tuned_on_and_the_precision(clothes: cl.Dataset, tuned: cl.Run) -> None:
    tuning = tuned.info["tuning"]
    assert tuning["sides"] == [64, 64, 96]  # smaller pictures are enlarged to 96 pixels, so growing ends there
    assert tuning["pictures"] == pytest.approx(4 * len(clothes.train), abs=32)
    assert tuned.info["share_of_tuned"] in (0.25, 0.5, 0.75, 1.0)
    assert tuned.info["precision"] == "float32"
    assert [int(row["epoch"]) for row in tuned.history] == list(range(1, len(tuned.history) + 1))


@pytest.mark.long
def test_all_layers_are_trained(clothes: cl.Dataset, brief: Recipe, tmp_path: Path) -> None:
    changes: list[float] = []

    class Watch(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            self.before = {v.path: v.numpy() for v in self.model.variables}

        def on_train_end(self, logs: Any = None) -> None:
            changes.extend(np.abs(v.numpy() - self.before[v.path]).max() for v in self.model.variables)

    cl.train("finetune", clothes, replace(brief, epochs=1), directory=tmp_path, callbacks=[Watch()])
    assert len(changes) == len(build_model("finetune", clothes.input_shape, clothes.num_classes).weights)
    assert min(changes) > 0


@pytest.mark.long
def test_the_copy_that_takes_any_size_answers_as_the_network_does(clothes: cl.Dataset) -> None:
    model = build_model("finetune", (96, 96, 3), 5)
    images = cl.load_dataset("clothes", image_size=96).test.images[:4]
    twin = resizable(model, "float32")
    np.testing.assert_allclose(twin(images).numpy(), predict_probabilities(model, images), atol=1e-5)
    assert twin(images[:, :64, :80]).shape == (4, 5)


@pytest.mark.long
def test_one_seed_gives_the_same_weights(clothes: cl.Dataset, brief: Recipe, tuned: cl.Run, tmp_path: Path) -> None:
    again = cl.train("finetune", clothes, brief, seed=3, directory=tmp_path, deterministic=True)
    for first, second in zip(weights_of(tuned.load_model()), weights_of(again.load_model()), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.long
def test_the_exported_file_answers_as_the_run_was_scored(clothes: cl.Dataset, tuned: cl.Run) -> None:
    stored = tuned.predictions["probabilities"]
    np.testing.assert_allclose(tuned.classifier().predict_probabilities(clothes.test.images), stored, atol=1e-4)
    assert tuned.classifier().input_shape == (64, 64, 3)


class _Interrupts(keras.callbacks.Callback):  # type: ignore[misc]
    """Presses Ctrl-C after the first step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.long
def test_ctrl_c_keeps_the_best_weights(clothes: cl.Dataset, brief: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="holds the best weights so far"):
        cl.train("finetune", clothes, replace(brief, epochs=1), directory=tmp_path, callbacks=[_Interrupts()])
    run = cl.Run(tmp_path / "finetune-1")
    assert run.info["status"] == "interrupted"
    assert len(run.history) == 1  # the solved head
    answers = predict_probabilities(run.load_model(), clothes.test.images)
    assert (answers.argmax(axis=1) == clothes.test.labels).mean() > 0.5


@pytest.mark.long
def test_minutes_that_are_over_leave_the_solved_head(clothes: cl.Dataset, brief: Recipe, tmp_path: Path) -> None:
    run = cl.train("finetune", clothes, replace(brief, minutes=0.05), directory=tmp_path)
    assert "tuning" not in run.info
    assert run.info["best_epochs"] == [1]


@pytest.mark.long
def test_minutes_are_kept(clothes: cl.Dataset, brief: Recipe, tmp_path: Path) -> None:
    began = time.monotonic()
    run = cl.train("finetune", clothes, replace(brief, minutes=1.5), directory=tmp_path)
    assert 90 - 30 < time.monotonic() - began < 90 + 30  # of the whole run, scores and export among them
    assert run.info["fit_seconds"] < 90
    assert run.info["tuning"]["pictures"] > 0


@pytest.mark.long
def test_gray_arrays_are_tuned_too(small: cl.Dataset, tmp_path: Path) -> None:
    few = replace(
        small,
        train=Split(small.train.images[:64], small.train.labels[:64]),
        validation=Split(small.validation.images[:32], small.validation.labels[:32]),
        test=Split(small.test.images[:32], small.test.labels[:32]),
    )
    run = cl.train("finetune", few, replace(default_recipe_for("finetune", few), epochs=1), directory=tmp_path)
    assert run.info["recipe"]["augment"] == "none"  # a mirrored digit is none
    assert run.info["input_shape"] == [28, 28, 1]
    assert run.info["tuning"]["pictures"] == 64


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((224, 224, 3), [128, 160, 192]),
        ((32, 32, 3), [64, 64, 96]),
        ((28, 28, 1), [64, 64, 96]),
        ((64, 64, 3), [64, 64, 96]),
    ],
)
def test_sides_grow_towards_those_of_the_backbone(shape: tuple[int, int, int], expected: Sequence[int]) -> None:
    assert [height for height, _ in sides_of(shape)] == expected


@pytest.mark.parametrize(("images", "epochs"), [(100, 12), (3068, 4.9), (50_000, 3)])
def test_the_default_length_is_so_many_pictures(images: int, epochs: float) -> None:
    assert default_recipe("finetune", 3, images, photographs=True).epochs == epochs
