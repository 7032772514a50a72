"""Resizing: what becomes of a picture whose proportions are not those of a network's input.

Python and the command line call it `resize`. Files call it `fit`, as everything did at first: run.json, the metadata of
.onnx files, what compares runs, and the page's models.json keep that key, so that old files are read, and are equal.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from convladder.errors import ConvladderError

RESIZINGS = ("crop", "pad", "stretch")

P = ParamSpec("P")
R = TypeVar("R")


def accept_fit(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function that takes `resize` take it as `fit` too: from old programs, and from run.json."""

    @functools.wraps(function)
    def accepting(*arguments: P.args, **settings: P.kwargs) -> R:
        if "fit" in settings:
            if "resize" in settings:
                raise ConvladderError("resize and fit are two names of one setting. Expected resize alone.")
            settings["resize"] = settings.pop("fit")
        return function(*arguments, **settings)

    return accepting
