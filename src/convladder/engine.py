"""TensorFlow, imported quietly and late."""

import os
import sys
from importlib import import_module
from typing import Any

from convladder.errors import ConvladderError
from convladder.processors import limit_threads
from convladder.signals import defer_signals
from convladder.startup import replace_missing_home


def choose_backend() -> None:
    """Let Keras run on TensorFlow, whatever ~/.keras/keras.json names.

    Raises:
        ConvladderError: KERAS_BACKEND names another, or Keras was imported with another.
    """
    chosen = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if keras := sys.modules.get("keras"):
        chosen = keras.config.backend()
    if chosen != "tensorflow":
        raise ConvladderError(
            f"Keras is set to run on {chosen!r} (KERAS_BACKEND or ~/.keras/keras.json), but convladder trains with "
            "TensorFlow. Set KERAS_BACKEND=tensorflow, or unset it, before Keras is imported."
        )


@defer_signals()  # an exception during an import of C++ code may turn into anything, or abort
def import_engine() -> None:
    """Import TensorFlow without the lines that it prints before its own settings can silence them."""
    choose_backend()
    replace_missing_home()
    limit_threads()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    tensorflow.get_logger().setLevel("ERROR")  # otherwise it warns when a second model is traced


class Later:
    """A module that is imported when it is first used: naming rungs needs no Keras, whose engine takes seconds."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
