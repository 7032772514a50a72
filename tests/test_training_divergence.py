"""Divergence: what is no finite number ends a training at once, which says where, why and what to do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import convladder as cl
from convladder.training.keeping import BestWeights
from convladder.training.recipes import default_recipe
from convladder.training.solving import solve_head
from sharing import take_first

WILD = replace(cl.DEFAULT, epochs=50, learning_rate=1e25, one_cycle=False, precision="float32", batch_size=32)


def failed_run(directory: Path) -> dict[str, Any]:
    (folder,) = directory.iterdir()
    assert not (folder / "model.onnx").exists()
    assert not (folder / "metrics.json").exists()
    info: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "failed"
    return info


@pytest.mark.long
@pytest.mark.parametrize(
    "changes", [{}, {"validate": False}, {"one_cycle": True}, {"minutes": 1.0}, {"until": 0.99}], ids=str
)
def test_a_loss_that_is_no_number_ends_the_training_at_once(
    changes: dict[str, Any], small: cl.Dataset, tmp_path: Path
) -> None:
    with pytest.raises(cl.ConvladderError, match=r"in epoch 1, by step \d+|after epoch 1") as caught:
        cl.train("dense", small, replace(WILD, **changes), directory=tmp_path)
    said = str(caught.value)
    assert "learning rate that is too high for this network, 1e+25" in said
    assert "Expected a lower one: try --learning-rate 1e+24" in said
    assert caught.value.exit_status == 1
    assert failed_run(tmp_path)["error"] == said


@pytest.mark.long
def test_an_ensemble_whose_second_member_diverges_fails_as_a_whole(
    small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is good; a real second one is made to start with weights that overflow."""
    build, built = cl.build_model, list[keras.Model]()

    def build_model(*arguments: Any, **settings: Any) -> keras.Model:
        model = build(*arguments, **settings)
        built.append(model)
        if len(built) == 2:
            model.set_weights([weight * 1e38 for weight in model.get_weights()])
        return model

    monkeypatch.setattr("convladder.training.train.build_model", build_model)
    with pytest.raises(cl.ConvladderError, match="diverged") as caught:
        cl.train("dense", small, replace(cl.DEFAULT, epochs=0.5), ensemble=2, directory=tmp_path)
    assert caught.value.exit_status == 1
    failed_run(tmp_path)


def best_weights(small: cl.Dataset) -> tuple[BestWeights, keras.Model]:
    model = cl.build_model("dense", (28, 28, 1), 10)
    keeper = BestWeights(small.validation, cl.DEFAULT)
    keeper.set_model(model)
    keeper.set_params({"epochs": 2, "steps": 100})
    keeper.on_epoch_begin(1)
    return keeper, model


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_infinite_is_none_either(loss: float, small: cl.Dataset) -> None:
    keeper, _ = best_weights(small)
    keeper.on_train_batch_end(31, {"loss": 1e30})
    with pytest.raises(cl.ConvladderError, match="in epoch 2, by step 64"):
        keeper.on_train_batch_end(63, {"loss": loss})


def test_weights_that_the_last_step_spoilt_are_seen_while_the_loss_is_finite(small: cl.Dataset) -> None:
    keeper, model = best_weights(small)
    weights = model.get_weights()
    weights[2][0, 0] = np.inf
    model.set_weights(weights)
    with pytest.raises(cl.ConvladderError, match="1 of 6 arrays of weights hold NaN or infinity after epoch 2"):
        keeper.on_epoch_end(1, {"loss": 0.3, "accuracy": 0.9})


def test_answers_that_are_no_numbers_on_some_validation_images_alone_are_seen(small: cl.Dataset) -> None:
    keeper, model = best_weights(small)
    weights = model.get_weights()
    # Both are finite and their sums are for dark images; of bright ones they overflow, and infinities cancel out.
    weights[0][:, :16], weights[0][:, 16:], weights[2][:] = 3e36, 3e36, 1.0
    weights[2][16:] = -1.0
    model.set_weights(weights)
    with pytest.raises(cl.ConvladderError, match=r"answers with NaN for \d+ of 500 validation images after epoch 2"):
        keeper.on_epoch_end(1, {"loss": 0.3, "accuracy": 0.9})


def test_features_that_are_no_numbers_are_refused_before_a_head_is_solved(small: cl.Dataset) -> None:
    """As weights of a damaged file give them."""
    image = keras.Input((28, 28, 1))
    x = keras.layers.Dense(4, name="features", bias_initializer=keras.initializers.Constant(np.nan))(
        keras.layers.Flatten()(image)
    )
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax", name="logits")(x))
    with pytest.raises(cl.ConvladderError, match="features from damaged") as caught:
        solve_head(model, small, default_recipe("transfer"), backbone="damaged")
    assert caught.value.exit_status == 1


@pytest.mark.long
def test_in_a_comparison_it_is_one_failed_trial(small: cl.Dataset, tmp_path: Path) -> None:
    def recipe_for(rung: str, dataset: cl.Dataset) -> cl.Recipe:
        return WILD if rung == "dense" else replace(cl.DEFAULT, epochs=10)

    comparison = cl.compare(take_first(small, 400, 100, 100), ["dense", "fast"], recipe_for, directory=tmp_path)
    assert [run.info["rung"] for run in comparison.runs] == ["fast"]
    (gone,) = comparison.not_run
    assert (gone["name"], gone["failed"]) == ("dense", True)
    assert "diverged" in gone["reason"]
    assert comparison.recommendation["take"] == "fast"


@pytest.mark.long
def test_the_command_exits_with_status_1_and_one_line(
    convladder: Any,
    small_npz: Path,
    tmp_path: Path,
) -> None:
    given = ["--data", small_npz, "--model", "dense", "--learning-rate", "1e25", "--precision", "float32"]
    ended = convladder("train", *given)
    assert ended.status == 1, ended.err
    assert ended.out == ""
    (said,) = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert "--learning-rate 1e+24" in said
    failed_run(tmp_path / "runs")
