"""Tracking: what other tools read of a run. TensorBoard's event files, and runs in MLflow."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convladder.runs import Run

if TYPE_CHECKING:
    import keras

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


def check_mlflow() -> None:
    """Import MLflow before anything is trained, so that it is then that it is missing; it sends nothing home."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    import mlflow  # noqa: F401


def log_to_mlflow(run: Run, uri: str) -> str:
    """Log a finished run, unless it has been: its parameters, its metrics epoch by epoch, and model.onnx.

    Args:
        run: A finished run.
        uri: Of an MLflow server, or of a database.

    Returns:
        MLflow's name of the run.
    """
    check_mlflow()
    from mlflow import MlflowClient

    client = MlflowClient(uri)
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
