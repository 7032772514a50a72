"""Tracking: TensorBoard's and MLflow's own readers find what was trained."""

import contextlib
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from rich.console import Console

import convladder as cl
from convladder import cli
from convladder.training import fitting
from convladder.training.progress import ProgressBar
from convladder.training.tracking import check_mlflow, log_to_mlflow, with_tensorboard


@pytest.mark.long
def test_tensorboard_reads_the_epochs_and_training_is_traced_once(small: cl.Dataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    traced = []
    made = fitting.compile_copy

    def count(*arguments: Any) -> Any:
        copy, schedule = made(*arguments)
        step = copy.train_step
        copy.train_step = lambda data: traced.append(1) or step(data)  # type: ignore[func-returns-value]
        return copy, schedule

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "compile_copy", count)
        run = cl.train("dense", small, cl.DEFAULT, directory=tmp_path, callbacks=with_tensorboard([]))
    assert traced == [1]
    events = EventAccumulator(str(run.path / "tensorboard" / "train")).Reload()
    assert "epoch_loss" in events.Tags()["tensors"]
    import tensorflow as tf

    read = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_validation_accuracy")]
    assert read == pytest.approx([row["validation_accuracy"] for row in run.history])


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflow_s_client_reads_what_was_logged_once(
    run: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    name = log_to_mlflow(run, uri)
    assert log_to_mlflow(run, uri) == name
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    logged = client.get_run(name)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["rung"] == "fast"
    assert logged.data.params["learning_rate"] == str(run.info["recipe"]["learning_rate"])
    assert logged.data.metrics["test_accuracy"] == run.info["test_accuracy"]
    losses = sorted((metric.step, metric.value) for metric in client.get_metric_history(name, "loss"))
    assert [loss for _, loss in losses] == pytest.approx([row["loss"] for row in run.history])
    fetched = client.download_artifacts(name, "model.onnx", str(tmp_path))
    assert Path(fetched).read_bytes() == (run.path / "model.onnx").read_bytes()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflow_takes_more_metrics_than_one_call_holds(
    run: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    long = cl.Run(shutil.copytree(run.path, "long"))
    header, *rows = (long.path / "history.csv").read_text().splitlines()
    (long.path / "history.csv").write_text("\n".join([header, *rows * 250, ""]))
    assert len(long.history) == 250 * len(rows) >= 1000
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    name = log_to_mlflow(long, uri)
    client = MlflowClient(uri)
    for key in long.history[0]:
        logged = sorted((metric.step, metric.value) for metric in client.get_metric_history(name, key))
        assert [step for step, _ in logged] == list(range(1, len(long.history) + 1))
        assert [value for _, value in logged] == pytest.approx([row[key] for row in long.history])
    parameters = client.get_run(name).data.params
    assert parameters.keys() >= run.info["recipe"].keys() | run.info["choices"].keys()
    assert parameters["fingerprint"] == run.info["fingerprint"]
    assert client.get_run(name).data.metrics["test_accuracy"] == run.info["test_accuracy"]


def test_an_mlflow_that_does_not_answer_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected the address of a server"):
        check_mlflow("nowhere://here")


# A quote ends a text in MLflow's search and in its SQL, a colon begins a parameter there; the others mean something in
# an address.
ODD = 'it\'s "a" :b #1 %41 ?x [c] \\ é'


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "convladder", *map(str, arguments)]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own use of SQLAlchemy
def test_mlflow_takes_any_path_and_logs_once(run: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    (tmp_path / ODD).mkdir()
    monkeypatch.chdir(tmp_path / ODD)
    odd = cl.Run(shutil.copytree(run.path, ODD))
    uri = f"sqlite:///{tmp_path / 'tracking.db'}"
    name = log_to_mlflow(odd, uri)
    assert log_to_mlflow(odd, uri) == name
    assert log_to_mlflow(run, uri) != name
    client = MlflowClient(uri)
    assert client.get_run(name).data.tags["convladder.folder"] == str(tmp_path / ODD / ODD)
    (tmp_path / "fetched").mkdir()
    fetched = client.download_artifacts(name, "model.onnx", str(tmp_path / "fetched"))
    assert Path(fetched).read_bytes() == (run.path / "model.onnx").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == sorted([ODD, "mlruns"])


@pytest.mark.long
def test_tensorboard_takes_any_path(small: cl.Dataset, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = replace(cl.DEFAULT, epochs=1)
    run = cl.train("dense", small, recipe, directory=tmp_path / ODD, callbacks=with_tensorboard([]))
    assert "epoch_loss" in EventAccumulator(str(run.path / "tensorboard" / "train")).Reload().Tags()["tensors"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["train", pytest.param("compare", marks=pytest.mark.long)])
def test_an_mlflow_that_fails_in_the_middle_is_warned_of_and_loses_nothing(
    kind: str, small_npz: Path, tmp_path: Path
) -> None:
    given = ["--data", small_npz, "--epochs", 40, "--mlflow"]
    given += ["--model", "dense"] if kind == "train" else ["--models", "dense", "--seeds", 2]
    process = subprocess.Popen(command(kind, *given), cwd=tmp_path, text=True, stdout=PIPE, stderr=PIPE)
    assert process.stderr is not None
    while "epoch 1/" not in (line := process.stderr.readline()):
        assert line
    (tmp_path / "mlflow.db").write_bytes(b"no database any more" * 1000)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 0
    warned = [line for line in told.splitlines() if line.startswith("Warning: ")]
    assert [line.partition(" is finished, but could not be logged: MLflow at sqlite")[0] for line in warned] == [
        f"Warning: runs/dense-{number}" for number in range(1, 2 if kind == "train" else 3)
    ]
    assert "runs/dense-1: test accuracy" in out or "2 runs in runs/" in out
    assert cl.Run(tmp_path / "runs" / "dense-1").info["status"] == "finished"


@pytest.mark.long
def test_a_server_that_is_gone_is_said_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # it would wait between them
    with socket.socket() as listener, pytest.raises(cl.ConvladderError, match="cannot be used") as raised:
        listener.bind(("127.0.0.1", 0))  # it listens to nobody
        check_mlflow(f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert raised.value.exit_status == 1
    assert "\n" not in str(raised.value)


@pytest.mark.long
def test_a_tensorboard_that_fails_is_warned_of_and_loses_nothing(small: cl.Dataset, tmp_path: Path) -> None:
    def in_the_way(folder: Path) -> Any:
        (folder / "tensorboard").write_text("a file, where a folder should be")
        return with_tensorboard([])(folder)

    recipe = replace(cl.DEFAULT, epochs=2)
    with pytest.warns(UserWarning, match=r"TensorBoard failed \(.*\)\. The training continues without it"):
        run = cl.train("dense", small, recipe, directory=tmp_path, callbacks=in_the_way)
    assert run.info["status"] == "finished"
    assert len(run.history) == 2


@pytest.mark.long
def test_a_progress_bar_that_cannot_be_written_loses_nothing(small: cl.Dataset, tmp_path: Path) -> None:
    with contextlib.suppress(OSError), Path("/dev/full").open("w", buffering=1) as full:  # closing it writes again
        bar = ProgressBar("dense", 128, Console(file=full))
        with pytest.warns(UserWarning, match="ProgressBar failed"):
            run = cl.train("dense", small, replace(cl.DEFAULT, epochs=2), directory=tmp_path, callbacks=[bar])
    assert run.info["status"] == "finished"


@pytest.mark.parametrize(
    ("arguments", "missing", "extra"),
    [
        (["compare", "--ray"], "ray", "ray"),
        (["compare", "--mlflow"], "mlflow", "mlflow"),
        (["train", "--tensorboard"], "tensorboard", "tensorboard"),
    ],
)
def test_a_missing_extra_is_named(
    arguments: list[str],
    missing: str,
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, missing, None)
    monkeypatch.setattr("sys.argv", ["convladder", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert f"pip install 'convladder[{extra}]'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
