"""Train, compare, look inside and ship convolutional image classifiers on an ordinary machine.

Names are looked up when they are first used, so that importing the package stays cheap and a Classifier needs
neither Keras nor TensorFlow.
"""

from convladder.startup import leave_current_directory, switch_off_telemetry

leave_current_directory()  # before the next import
switch_off_telemetry()

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from convladder.inference.classifier import Classifier as Classifier
    from convladder.inference.classifier import Prediction as Prediction
    from convladder.comparing.comparison import Comparison as Comparison
    from convladder.comparing.comparison import compare as compare
    from convladder.data import Dataset as Dataset
    from convladder.data import Split as Split
    from convladder.data import load_dataset as load_dataset
    from convladder.errors import ConvladderError as ConvladderError
    from convladder.runs.evaluating import evaluate as evaluate
    from convladder.evaluating.explaining import explain as explain
    from convladder.evaluating.explaining import grad_cam as grad_cam
    from convladder.models.ladder import MODELS as MODELS
    from convladder.models.ladder import build_model as build_model
    from convladder.inference.occlusion import occlude as occlude
    from convladder.training.recipes import ARTICLE as ARTICLE
    from convladder.training.recipes import DEFAULT as DEFAULT
    from convladder.training.recipes import Recipe as Recipe
    from convladder.reporting import write_report as write_report
    from convladder.runs.run import Run as Run
    from convladder.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "ARTICLE": "recipes",
    "Classifier": "classifier",
    "Comparison": "comparing",
    "ConvladderError": "errors",
    "DEFAULT": "recipes",
    "Dataset": "data",
    "MODELS": "models",
    "Prediction": "classifier",
    "Recipe": "recipes",
    "Run": "runs",
    "Split": "data",
    "build_model": "models",
    "evaluate": "evaluating",
    "explain": "explaining",
    "grad_cam": "explaining",
    "compare": "comparing",
    "load_dataset": "data",
    "occlude": "occlusion",
    "train": "training",
    "write_report": "report",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (a literal list would say the names a third time)


_ON_KERAS = ("comparing", "models", "report", "training")  # import it when they are imported


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convladder' has no attribute {name!r}")
    if name != "ConvladderError":
        import_module("convladder.errors").check_system()
        import_module("convladder.processors").limit_threads()
    try:
        if _HOMES[name] in _ON_KERAS:
            import_module("convladder.engine").choose_backend()
        return getattr(import_module(f"convladder.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from convladder.errors import name_extra

        raise ModuleNotFoundError(name_extra(error), name=error.name, path=error.path) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
