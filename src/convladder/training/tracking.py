"""Tracking: logs runs for other tools, as TensorBoard event files and MLflow runs."""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convladder.errors import ConvladderError
from convladder.runs.run import Run
from convladder.startup import replace_missing_home

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient

EXPERIMENT = "convladder"


def check_tensorboard() -> None:
    """Import TensorBoard before training, so that a missing extra is reported early."""
    import tensorboard  # noqa: F401


def with_tensorboard(
    callbacks: "Sequence[keras.callbacks.Callback]",
) -> "Callable[[Path], Sequence[keras.callbacks.Callback]]":
    """A function from a run folder to these callbacks plus one that writes `tensorboard/` there, one event per epoch.

    If that callback fails, there is a warning, and the training continues without it.
    """
    import keras

    from convladder.training.progress import unfailing

    check_tensorboard()

    def make(folder: Path) -> "Sequence[keras.callbacks.Callback]":
        # Without graph and profile, because both would trace the training a second time.
        writer = keras.callbacks.TensorBoard(str(folder / "tensorboard"), write_graph=False, profile_batch=0)
        return [*callbacks, unfailing(writer)]

    return make


def check_mlflow(uri: str) -> None:
    """Check before training that MLflow is installed, answers, and can be written to.

    Raises:
        ConvladderError: A check failed; exit status 1.
    """
    with _connect(uri) as client:
        _find_experiment(client)


def log_to_mlflow(run: Run, uri: str) -> str:
    """Log a finished run, unless it has been: its parameters, its metrics epoch by epoch, and model.onnx.

    Args:
        run: A finished run.
        uri: Of an MLflow server, or of a database.

    Returns:
        MLflow's name of the run.

    Raises:
        ConvladderError: MLflow does not answer, or refuses; exit status 1.
    """
    with _connect(uri) as client:
        return _log(run, client)


def _find_experiment(client: "MlflowClient") -> str:
    """The number of the experiment, which is made where it is not there, and brought back where it was deleted."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return str(client.create_experiment(EXPERIMENT))
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _log(run: Run, client: "MlflowClient") -> str:
    from mlflow.entities import Metric, Param, RunTag

    number = _find_experiment(client)
    info, folder = run.info, run.path.resolve()
    # Searched for as a digest: a path may hold any character, and MLflow's search has quotes without an escape.
    identity = hashlib.sha256(info["started"].encode() + os.fsencode(folder)).hexdigest()
    for logged in client.search_runs([number], f"tags.`convladder.run` = '{identity}'", max_results=1):
        return str(logged.info.run_id)

    created = client.create_run(number, run_name=_text(folder.name))
    name = str(created.info.run_id)
    kept = ("rung", "seed", "ensemble", "precision", "deterministic", "dataset", "fingerprint", "parameters", "macs")
    parameters = {key: info[key] for key in kept} | info["choices"] | info["recipe"]
    now = int(1000 * time.time())
    metrics = [
        Metric(key, value, now, step) for step, row in enumerate(run.history, start=1) for key, value in row.items()
    ]
    results = {f"test_{key}": value for key, value in run.metrics["test"].items() if isinstance(value, float)}
    metrics += [Metric(key, value, now, 0) for key, value in (results | {"fit_seconds": info["fit_seconds"]}).items()]
    described = [Param(key, _text(value)) for key, value in parameters.items()]
    # The client splits this where it is more than one call may hold.
    client.log_batch(name, metrics, described, [RunTag("convladder.folder", _text(folder))])
    client.log_artifact(name, str(folder / "model.onnx"))
    client.set_tag(name, "convladder.run", identity)  # the last thing: what was cut off is logged anew
    client.set_terminated(name)
    return name


def _text(value: object) -> str:
    """In characters that any database takes: what was no UTF-8 in a name becomes a question mark."""
    return str(value).encode(errors="replace").decode()


@contextlib.contextmanager
def _connect(uri: str) -> "Iterator[MlflowClient]":
    """MLflow's client, which sends nothing home and does not try for minutes."""
    replace_missing_home()  # without one, importing MLflow fails
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds; 120 by default, for each try
    # Where a database's artifacts go. By default MLflow puts this folder's path into SQL and addresses as it is, and
    # fails on a quote, a colon, a hash or a question mark in it.
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = (Path.cwd() / "mlruns").as_uri()
    from mlflow import MlflowClient

    try:
        yield MlflowClient(uri)
    except ImportError:
        raise
    except Exception as error:  # MLflow lets pass what its databases and stores raise
        reason = " ".join(str(error).partition("\n")[0].split()) or type(error).__name__
        raise ConvladderError(
            f"MLflow at {uri} cannot be used ({reason}). Expected the address of a server, such as "
            "http://127.0.0.1:5000, or of a database, such as sqlite:///mlflow.db.",
            exit_status=1,
        ) from error
