"""Summaries: the arithmetic is checked by evaluating it, the counts by hand."""

import re
from collections.abc import Callable
from math import floor
from typing import Any

import keras
import pytest
from keras import layers

from convladder.models.ladder import MODELS, build_model
from convladder.models.summary import count_macs, summarize


def value(arithmetic: str) -> int:
    """What the left-hand side of `(28 + 2·1 − 3)/1 + 1 = 28` comes to."""
    match = re.fullmatch(r"(⌊?)\((\d+) \+ (?:(\d)·)?(\d+) − (\d+)\)/(\d+)(⌋?) \+ 1 = \d+", arithmetic)
    assert match, arithmetic
    opened, before, factor, padding, kernel, stride, closed = match.groups()
    quotient = (int(before) + int(factor or 1) * int(padding) - int(kernel)) / int(stride)
    assert bool(opened) == bool(closed) == (quotient != floor(quotient))
    return floor(quotient) + 1


@pytest.mark.long
@pytest.mark.parametrize("rung", MODELS)
@pytest.mark.parametrize("side", [28, 31])
def test_the_arithmetic_gives_the_output_size(rung: str, side: int) -> None:
    for layer in summarize(build_model(rung, (side, side, 1), 10)):
        if layer.arithmetic and layer.kind != "Flatten":
            assert value(layer.arithmetic) == layer.output_shape[0] == int(layer.arithmetic.split(" = ")[1])


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ({}, "(28 + 2·1 − 3)/1 + 1 = 28"),
        ({"kernel_size": 5, "padding": "valid"}, "(28 + 2·0 − 5)/1 + 1 = 24"),
        ({"stride": 2}, "(28 + 1 − 3)/2 + 1 = 14"),
        ({"stride": 3, "padding": "valid"}, "⌊(28 + 2·0 − 3)/3⌋ + 1 = 9"),
    ],
)
def test_the_arithmetic_reads_as_in_a_textbook(choices: dict[str, Any], expected: str) -> None:
    rows = {row.name: row for row in summarize(build_model("conv", (28, 28, 1), 10, **choices))}
    assert rows["stage1_conv"].arithmetic == expected


def test_multiply_accumulates_by_hand() -> None:
    first = 28 * 28 * 3 * 3 * 1 * 64
    second = 14 * 14 * 3 * 3 * 64 * 32
    head = 7 * 7 * 32 * 32 + 32 * 32 + 32 * 10
    assert count_macs(build_model("pool", (28, 28, 1), 10)) == first + second + head


@pytest.mark.long
def test_the_article_s_opening_argument() -> None:
    rows = {row.name: row for row in summarize(build_model("dense", (256, 256, 3), 10, hidden=1024))}
    assert rows["flatten"].output_shape == (196_608,)
    assert rows["hidden1"].parameters == 196_608 * 1024 + 1024


def network(body: Callable[[Any], Any], shape: tuple[int, ...] = (8, 8, 3)) -> keras.Model:
    image = keras.Input(shape)
    return keras.Model(image, body(image))


def called_twice(x: Any) -> Any:
    layer = layers.Conv2D(3, 3, padding="same")
    return layer(layer(x))


def inner(shape: tuple[int | None, ...] = (8, 8, 3)) -> keras.Model:
    return network(layers.Conv2D(4, 3, padding="same"), shape)  # type: ignore[arg-type]


PLACES = 8 * 8


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), PLACES * 9 * 3 * 2),
        (layers.DepthwiseConv2D(3, strides=2), 3 * 3 * 9 * 3),
        (layers.SeparableConv2D(4, 3, padding="same"), PLACES * (9 * 3 + 3 * 4)),
        (layers.Conv2D(6, 3, padding="same", groups=3), PLACES * 9 * 1 * 6),
        (layers.Conv2D(4, 3, padding="same", dilation_rate=2), PLACES * 9 * 3 * 4),
        (layers.Conv2DTranspose(4, 3, strides=2), PLACES * 9 * 3 * 4),
        (layers.SpectralNormalization(layers.Conv2D(4, 3, padding="same")), PLACES * 9 * 3 * 4),
        (layers.TimeDistributed(layers.Conv1D(4, 3, padding="same")), PLACES * 3 * 3 * 4),
        (layers.EinsumDense("abcd,de->abce", (None, 8, 5)), PLACES * 3 * 5),
        (layers.Dense(5), PLACES * 3 * 5),
        (lambda x: layers.Conv1D(4, 3, padding="same")(layers.Reshape((64, 3))(x)), 64 * 3 * 3 * 4),
        (lambda x: layers.SeparableConv1D(4, 3, padding="same")(layers.Reshape((64, 3))(x)), 64 * (3 * 3 + 3 * 4)),
        (lambda x: layers.Conv3D(4, 3, padding="same")(layers.Reshape((8, 8, 3, 1))(x)), 192 * 27 * 4),
        (lambda x: layers.LSTM(5)(layers.Reshape((64, 3))(x)), 64 * (3 * 20 + 5 * 20)),
        (called_twice, 2 * PLACES * 9 * 3 * 3),
        (inner(), PLACES * 9 * 3 * 4),
        (inner((None, None, 3)), PLACES * 9 * 3 * 4),
        (keras.Sequential([inner(), layers.Conv2D(1, 1)]), PLACES * (9 * 3 * 4 + 4)),
        (lambda x: inner()(x) + inner()(x) * 2.0, 2 * PLACES * 9 * 3 * 4),
        (layers.BatchNormalization(), 0),
        (layers.PReLU(), 0),
        (lambda x: layers.Embedding(7, 2)(layers.Flatten()(x)), 0),
    ],
)
def test_multiply_accumulates_of_every_kind_of_layer(body: Callable[[Any], Any], expected: int) -> None:
    model = network(body)
    assert count_macs(model) == expected
    assert sum(row.macs for row in summarize(model)) == expected
    within = network(model)
    assert count_macs(within) == expected


def test_multiply_accumulates_where_channels_come_first() -> None:
    """Such a layer cannot run on a processor, and can be described."""
    x = keras.Input((3, 8, 8))
    layer = layers.Conv2D(4, 3, padding="same", data_format="channels_first")
    assert count_macs(keras.Model(x, layer(x))) == PLACES * 9 * 3 * 4
