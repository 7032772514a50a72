"""The one exception that convladder raises on purpose.

    ValueError
      └─ ConvladderError    bad input, or a gate that refused

Its message is for the person who typed the input: what was received, what was expected, what to do.
"""

import math
import platform
from collections.abc import Iterable
from difflib import get_close_matches

# The extra of each optional module. Other modules come with the base install, or convladder does not import them.
EXTRAS = {
    "ai_edge_litert": "litert",
    "alembic": "mlflow",
    "cleanlab": "train",
    "fsspec": "s3",
    "jinja2": "train",
    "keras": "train",
    "matplotlib": "train",
    "mlflow": "mlflow",
    "onnx": "train",
    "openvino": "openvino",
    "optuna": "tune",
    "pyarrow": "ray",
    "ray": "ray",
    "s3fs": "s3",
    "scipy": "train",
    "sklearn": "train",
    "sqlalchemy": "mlflow",
    "tensorboard": "tensorboard",
    "tensorflow": "train",
    "tf2onnx": "train",
    "threadpoolctl": "train",
}


class ConvladderError(ValueError):
    """The input cannot be used, or a gate refused.

    Args:
        message: One line: what was received, what was expected, what to do.
        exit_status: Exit status of the command line: 1 failure while running, 2 bad input, 3 refused by a gate.
    """

    def __init__(self, message: str, *, exit_status: int = 2) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def check_system() -> None:
    """Raise a ConvladderError on Windows, which lacks the file locks and processes used here."""
    if platform.system() == "Windows":
        raise ConvladderError(
            "convladder does not run on Windows. Expected Linux or macOS: on Windows, install it in WSL, the Windows "
            "Subsystem for Linux."
        )


def check_choice(what: str, received: str, choices: Iterable[str]) -> None:
    """Raise a ConvladderError unless `received` is one of `choices`. It suggests a similar choice."""
    names = list(dict.fromkeys(choices))
    if received not in names:
        by_lower = {name.lower(): name for name in names}
        close = get_close_matches(str(received).lower(), by_lower, n=1)
        hint = f" Did you mean {by_lower[close[0]]}?" if close else ""
        raise ConvladderError(f"{received!r} is not a {what}. Expected one of: {', '.join(names)}.{hint}")


def check_range(what: str, received: float, low: float, high: float = math.inf) -> None:
    """Raise a ConvladderError unless low ≤ `received` ≤ high. Infinity and NaN are always out of range."""
    if not (low <= received <= high and received < math.inf):
        expected = f"at least {low:,.10g}" if high == math.inf else f"from {low:,.10g} to {high:,.10g}"
        shown = f"{received:g}" if isinstance(received, float) or abs(received) < 1e300 else "with so many digits"
        raise ConvladderError(f"{what} {shown} is out of range. Expected a number {expected}.")


def name_extra(error: ModuleNotFoundError) -> str:
    """One line that says how to install a missing module."""
    name = (error.name or "").partition(".")[0]
    if name in EXTRAS:
        return f"{error.name} is not installed. Run: pip install 'convladder[{EXTRAS[name]}]'"
    return f"{error.name} is not installed, and no extra of convladder has it. Install {name} or what needs it."
