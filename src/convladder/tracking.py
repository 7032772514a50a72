"""Tracking: what other tools read of a run. TensorBoard's event files, and runs in MLflow."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convladder.errors import ConvladderError
from convladder.runs import Run
from convladder.startup import replace_missing_home

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient

EXPERIMENT = "convladder"


def check_tensorboard() -> None:
    """Import TensorBoard before anything is trained, so that it is then that it is missing."""
    import tensorboard  # noqa: F401


def with_tensorboard(
    callbacks: "Sequence[keras.callbacks.Callback]",
) -> "Callable[[Path], Sequence[keras.callbacks.Callback]]":
    """From a run's folder to these callbacks and one that writes `tensorboard/` there, an event an epoch."""
    import keras

    check_tensorboard()

    def make(folder: Path) -> "Sequence[keras.callbacks.Callback]":
        # Neither graph nor profile: both would trace the training a second time.
        return [
            *callbacks,
            keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False, profile_batch=0),
        ]

    return make


def check_mlflow(uri: str) -> None:
    """Ask whether MLflow is installed and answers, before anything is trained.

    Raises:
        ConvladderError: It does not; exit status 1.
    """
    with _connect(uri) as client:
        client.search_experiments(max_results=1)


def log_to_mlflow(run: Run, uri: str) -> str:
    """Log a finished run, unless it has been: its parameters, its metrics epoch by epoch, and model.onnx.

    Args:
        run: A finished run.
        uri: Of an MLflow server, or of a database.

    Returns:
        MLflow's name of the run.

    Raises:
        ConvladderError: MLflow does not answer; exit status 1.
    """
    with _connect(uri) as client:
        return _log(run, client)


def _log(run: Run, client: "MlflowClient") -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    identity = f"{run.info['started']} {run.path.resolve()}"
    for logged in client.search_runs([number], f"tags.`convladder.run` = '{identity}'", max_results=1):
        return str(logged.info.run_id)

    created = client.create_run(number, run_name=run.path.name)
    name = str(created.info.run_id)
    info = run.info
    kept = ("rung", "seed", "ensemble", "precision", "deterministic", "dataset", "fingerprint", "parameters", "macs")
    parameters = {key: info[key] for key in kept} | info["choices"] | info["recipe"]
    for key, value in parameters.items():
        client.log_param(name, key, value)
    for step, row in enumerate(run.history, start=1):
        for key, value in row.items():
            client.log_metric(name, key, value, step=step)
    results = {f"test_{key}": value for key, value in run.metrics["test"].items() if isinstance(value, float)}
    for key, value in (results | {"fit_seconds": info["fit_seconds"]}).items():
        client.log_metric(name, key, value)
    client.log_artifact(name, str(run.path / "model.onnx"))
    client.set_tag(name, "convladder.run", identity)  # the last thing: what was cut off is logged anew
    client.set_terminated(name)
    return name


@contextlib.contextmanager
def _connect(uri: str) -> "Iterator[MlflowClient]":
    """MLflow's client, which sends nothing home and does not try for minutes."""
    replace_missing_home()  # without one, importing MLflow fails
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient

    try:
        yield MlflowClient(uri)
    except ImportError:
        raise
    except Exception as error:  # MLflow lets pass what its databases and stores raise
        reason = str(error).partition("\n")[0]
        raise ConvladderError(
            f"MLflow at {uri} does not answer ({reason}). Expected the address of a server, such as "
            "http://127.0.0.1:5000, or of a database, such as sqlite:///mlflow.db.",
            exit_status=1,
        ) from error
