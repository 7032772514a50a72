"""TensorFlow, imported quietly."""

import os
import sys

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
            f"Keras is to run on {chosen!r} (KERAS_BACKEND or ~/.keras/keras.json), and convladder trains with "
            "TensorFlow. Expected KERAS_BACKEND=tensorflow, or none, before Keras is imported."
        )


@defer_signals()  # an exception within an import of C++ may end as anything, or abort
def import_engine() -> None:
    """Import TensorFlow without the lines it writes before any setting of its own can silence them."""
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
    tensorflow.get_logger().setLevel("ERROR")  # else it warns that a second model is traced as well
