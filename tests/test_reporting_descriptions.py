"""What a report says of each rung: the numbers that its network really has on the data at hand."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

import convladder as cl
from convladder.models.ladder import MODELS
from convladder.reporting.descriptions import DESCRIBED, describe_gain, describe_network

SHAPE, CLASSES = (42, 31, 3), 7  # no side is a power of two, and none is MNIST's


def described(rung: str, **choices: Any) -> tuple[str, Any]:
    """The sentence, without separators of thousands, and the network."""
    model = cl.build_model(rung, SHAPE, CLASSES, **choices)
    info = {
        "rung": rung,
        "choices": choices,
        "input_shape": list(SHAPE),
        "class_names": [str(number) for number in range(CLASSES)],
        "parameters": model.count_params(),
        "images": {"train": 4321},
    }
    return describe_network(SimpleNamespace(info=info)).replace(",", ""), model  # type: ignore[arg-type]


def test_every_rung_is_described() -> None:
    assert list(DESCRIBED) == list(MODELS)


@pytest.mark.parametrize("rung", MODELS)
def test_a_description_is_about_these_data_alone(rung: str) -> None:
    said, model = described(rung)
    assert said.endswith(".")
    assert not re.search(r"MNIST|digit|28|99 %", said)
    for number in re.findall(r"\d{5,}", said):  # large numbers are parameters or values of a layer
        sizes = [model.count_params(), *(int(layer.output.shape[-1]) for layer in model.layers)]
        before = int(cl.build_model("conv", SHAPE, CLASSES).get_layer("flatten").output.shape[-1])
        assert int(number) in [*sizes, before]


@pytest.mark.parametrize(
    ("rung", "choices"), [("dense", {}), ("pool", {}), ("pool", {"pool_size": 3}), ("linear_head", {})]
)
def test_the_values_that_it_counts_are_those_of_its_flattened_layer(rung: str, choices: dict[str, Any]) -> None:
    said, model = described(rung, **choices)
    assert str(model.get_layer("flatten").output.shape[-1]) in re.findall(r"\d+", said)


@pytest.mark.parametrize("choices", [{}, {"depth": 9}, {"depth": 8}])
def test_the_depth_is_the_number_of_convolutions(choices: dict[str, Any]) -> None:
    said, model = described("deep", **choices)
    convolutions = [layer for layer in model.layers if "conv" in layer.name and hasattr(layer, "kernel")]
    assert said.startswith(f"{len(convolutions)} convolutions")
    height, width = convolutions[-1].output.shape[1:3]
    assert f"{height}×{width}" in said


@pytest.mark.parametrize(
    ("rung", "choices", "words"),
    [
        ("pool", {"pooling": "min"}, "Min pooling"),
        (
            "regularized",
            {"dropout": 0.4, "l1": 0.001, "l2": 0.0},
            "dropout of 0.4 and a penalty on weights (L1 of 0.001)",
        ),
        ("batchnorm", {"batch_norm": False}, "switched off"),
        ("residual", {"residual": False}, "connection switched off around"),
        ("inception", {"module": "naive"}, "in place of one size."),
        ("conv", {"kernel_size": 5}, "filters of 5×5"),
    ],
)
def test_a_choice_is_in_the_description(rung: str, choices: dict[str, Any], words: str) -> None:
    assert words in described(rung, **choices)[0]


def test_what_a_rung_bought_is_counted_in_test_images() -> None:
    row = {"test_accuracy": 0.95, "test_images": 1000}
    pair = {"lower": "dense", "difference": 0.02, "verdict": "more accurate", "seconds_ratio": 3.14}
    assert describe_gain(row, None, 0.11) == (
        "950 of 1,000 test images are right; always answering the most frequent class gives 110."
    )
    assert describe_gain(row, pair, 0.11) == (
        "950 of 1,000 test images are right, 20 more than with `dense`: 2.00 points more, for 3.1× the seconds of "
        "training."
    )
    alike = pair | {"difference": -0.001, "verdict": "cannot be told apart"}
    assert "1 fewer than with `dense`, which may be chance. Training takes 3.1× the seconds." in describe_gain(
        row, alike, 0.11
    )
