"""Summaries: the arithmetic is checked by evaluating it, the counts by hand."""

import re
from math import floor
from typing import Any

import pytest

from convladder.describing import count_macs, summarize
from convladder.models import MODELS, build_model


def value(arithmetic: str) -> int:
    """What the left-hand side of `(28 + 2·1 − 3)/1 + 1 = 28` comes to."""
    match = re.fullmatch(r"(⌊?)\((\d+) \+ (?:(\d)·)?(\d+) − (\d+)\)/(\d+)(⌋?) \+ 1 = \d+", arithmetic)
    assert match, arithmetic
    opened, before, factor, padding, kernel, stride, closed = match.groups()
    quotient = (int(before) + int(factor or 1) * int(padding) - int(kernel)) / int(stride)
    assert bool(opened) == bool(closed) == (quotient != floor(quotient))
    return floor(quotient) + 1


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


def test_the_article_s_opening_argument() -> None:
    rows = {row.name: row for row in summarize(build_model("dense", (256, 256, 3), 10, hidden=1024))}
    assert rows["flatten"].output_shape == (196_608,)
    assert rows["hidden1"].parameters == 196_608 * 1024 + 1024
