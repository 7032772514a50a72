"""TensorFlow, imported quietly."""

import os
import sys

from convladder.signals import defer_signals


@defer_signals()  # an exception within an import of C++ may end as anything, or abort
def import_engine() -> None:
    """Import TensorFlow without the lines it writes before any setting of its own can silence them."""
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
