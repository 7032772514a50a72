"""Train, compare, explain and ship convolutional image classifiers on an ordinary machine.

Names are imported when they are first used, so importing the package is cheap, and a Classifier needs neither Keras
nor TensorFlow.
"""

from convladder.startup import leave_current_directory, switch_off_telemetry

leave_current_directory()  # before the next import
switch_off_telemetry()

from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from convladder.markup import draw_with  # noqa: E402

if TYPE_CHECKING:
    from convladder.comparing.compare import compare as compare
    from convladder.comparing.comparison import Comparison as Comparison
    from convladder.data.dataset import Dataset as Dataset
    from convladder.data.dataset import Split as Split
    from convladder.data.loading import load_dataset as load_dataset
    from convladder.errors import ConvladderError as ConvladderError
    from convladder.evaluating.explaining import explain as explain
    from convladder.evaluating.explaining import grad_cam as grad_cam
    from convladder.inference.classifier import Classifier as Classifier
    from convladder.inference.classifier import Prediction as Prediction
    from convladder.inference.occlusion import occlude as occlude
    from convladder.models.ladder import MODELS as MODELS
    from convladder.models.ladder import build_model as build_model
    from convladder.predicting.predict import predict_on_cluster as predict_on_cluster
    from convladder.reporting.report import write_report as write_report
    from convladder.runs.evaluating import evaluate as evaluate
    from convladder.runs.run import Run as Run
    from convladder.training.recipes import ARTICLE as ARTICLE
    from convladder.training.recipes import DEFAULT as DEFAULT
    from convladder.training.recipes import Recipe as Recipe
    from convladder.training.train import train as train
    from convladder.tuning.tune import tune as tune

__version__ = "0.1.0"

_HOMES = {
    "ARTICLE": "training.recipes",
    "Classifier": "inference.classifier",
    "Comparison": "comparing.comparison",
    "ConvladderError": "errors",
    "DEFAULT": "training.recipes",
    "Dataset": "data.dataset",
    "MODELS": "models.ladder",
    "Prediction": "inference.classifier",
    "Recipe": "training.recipes",
    "Run": "runs.run",
    "Split": "data.dataset",
    "build_model": "models.ladder",
    "evaluate": "runs.evaluating",
    "explain": "evaluating.explaining",
    "grad_cam": "evaluating.explaining",
    "compare": "comparing.compare",
    "load_dataset": "data.loading",
    "occlude": "inference.occlusion",
    "predict_on_cluster": "predicting.predict",
    "train": "training.train",
    "tune": "tuning.tune",
    "write_report": "reporting.report",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 (a literal list would say the names a third time)


_ON_KERAS = ("comparing", "models", "reporting", "training", "tuning")  # import it when they are imported


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convladder' has no attribute {name!r}")
    if name != "ConvladderError":
        import_module("convladder.errors").check_system()
        import_module("convladder.processors").limit_threads()
    try:
        if _HOMES[name].partition(".")[0] in _ON_KERAS:
            import_module("convladder.engine").choose_backend()
        return getattr(import_module(f"convladder.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        from convladder.errors import name_extra

        raise ModuleNotFoundError(name_extra(error), name=error.name, path=error.path) from error


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


def _draw(shown: Any) -> str:
    drawn: str = import_module("convladder.reporting.notebooks").draw(shown)
    return drawn


draw_with(_draw)
