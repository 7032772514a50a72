"""Tracking: TensorBoard's and MLflow's own readers find what was trained."""

from pathlib import Path
from typing import Any

import pytest

import convladder as cl
from convladder import cli, fitting
from convladder.tracking import check_mlflow, log_to_mlflow, with_tensorboard


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
        run = cl.train("dense", small, directory=tmp_path, callbacks=with_tensorboard([]))
    assert traced == [1]
    events = EventAccumulator(str(run.path / "tensorboard" / "train")).Reload()
    assert "epoch_loss" in events.Tags()["tensors"]
    import tensorflow as tf

    read = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_validation_accuracy")]
    assert read == pytest.approx([row["validation_accuracy"] for row in run.history])


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


def test_an_mlflow_that_does_not_answer_is_said_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match="Expected the address of a server"):
        check_mlflow("nowhere://here")


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
