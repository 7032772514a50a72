"""Ctrl-C, SIGTERM and SIGHUP, sent to real processes: what is kept, what is said, and that nothing is left behind."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from subprocess import PIPE
from typing import Any

import keras
import pytest

import convladder as cl
from convladder import signals
from convladder.signals import Stopped, check_stop, defer_signals, handle_signals
from convladder.training.fitting import STEPS_PER_LOOK, steps_per_look

KEPT = ["checkpoint.npz", "film.npz", "history.csv", "model.keras", "run.json"]


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    """The command line, with signals as a terminal leaves them: a background job would ignore Ctrl-C."""

    def by_default() -> None:
        for number in signals.SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    command = [sys.executable, "-m", "convladder", *map(str, arguments)]
    return subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True, cwd=cwd, preexec_fn=by_default)  # noqa: PLW1509


def read_until(process: "subprocess.Popen[str]", said: str) -> None:
    assert process.stderr is not None
    while said not in (line := process.stderr.readline()):
        assert line, f"it ended before it said {said!r}"


def wait_for(condition: Any, process: "subprocess.Popen[str]") -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.005)  # between two looks


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.long
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_training_as_ctrl_c_does(small_npz: Path, tmp_path: Path, number: int, status: int) -> None:
    process = start("train", "--model", "dense", "--data", small_npz, "--epochs", 100000, cwd=tmp_path)
    read_until(process, "epoch 1/")
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` does it, and service managers: still one request
    out, told = process.communicate(timeout=60)
    assert process.returncode == status
    expected = (
        f"Error: Stopped by {signal.Signals(number).name}. runs/dense-1 holds the best weights so far. "
        "Go on with: convladder train --resume runs/dense-1"
    )
    assert (out, told.splitlines()[-1]) == ("", expected)
    run = cl.Run(tmp_path / "runs" / "dense-1")
    assert run.info["status"] == "interrupted"
    assert sorted(path.name for path in run.path.iterdir()) == KEPT
    assert run.load_model().count_params() == run.info["parameters"]


@pytest.mark.long
def test_a_terminal_that_is_closed_ends_a_training_and_keeps_its_weights(small_npz: Path, tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:  # the bar of a terminal, whose writing fails from then on
        os.chdir(tmp_path)
        command = ["train", "--model", "dense", "--data", str(small_npz), "--epochs", "100000"]
        os.execv(sys.executable, [sys.executable, "-m", "convladder", *command])
    shown = b""
    while b"epoch 3" not in shown:
        shown += os.read(terminal, 65536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    run = cl.Run(tmp_path / "runs" / "dense-1")
    assert run.info["status"] == "interrupted"
    assert sorted(path.name for path in run.path.iterdir()) == KEPT


@pytest.mark.long
def test_sigterm_ends_a_comparison_and_keeps_its_finished_runs(small_npz: Path, tmp_path: Path) -> None:
    given = ["--models", "dense", "--data", small_npz, "--epochs", 20, "--seeds", 9]
    process = start("compare", *given, cwd=tmp_path)
    read_until(process, "dense, seed 1  epoch 1/")
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert out == ""
    assert told.splitlines()[-1] == (
        "Error: Stopped by SIGTERM. runs/dense-2 holds the best weights so far. "
        "1 of 9 runs are finished, in runs; the same command goes on from there."
    )
    assert [cl.Run(tmp_path / "runs" / name).info["status"] for name in ("dense-1", "dense-2")] == [
        "finished",
        "interrupted",
    ]
    assert left_behind(tmp_path) == []


@pytest.mark.long
def test_a_run_of_a_comparison_that_alone_is_told_to_stop_costs_that_run_alone(small_npz: Path, tmp_path: Path) -> None:
    from test_comparing_compare import newest_descendant

    given = ["--models", "dense", "--data", small_npz, "--epochs", 4, "--seeds", 2]
    process = start("compare", *given, cwd=tmp_path)
    read_until(process, "dense, seed 0  epoch 1/")
    os.kill(newest_descendant(process.pid), signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "dense, seed 0 failed: its process was told to stop. runs/dense-1 holds the best weights so far" in told
    assert cl.Run(tmp_path / "runs" / "dense-2").info["status"] == "finished"


@pytest.mark.long
def test_sigterm_ends_reproduce_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start("reproduce", "--only", "networks", cwd=tmp_path)
    read_until(process, "epoch 1/")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.splitlines()[-1].endswith(
        "runs/dense-1 holds the best weights so far. The same command with --resume reuses the finished runs in runs."
    )
    assert cl.Run(tmp_path / "runs" / "dense-1").info["status"] == "interrupted"


@pytest.mark.long
def test_sigterm_ends_an_export_and_leaves_nothing_half_written(run: cl.Run, small_npz: Path, tmp_path: Path) -> None:
    info = json.loads((run.path / "run.json").read_text())
    (tmp_path / "trained").mkdir()
    for file in run.path.iterdir():
        (tmp_path / "trained" / file.name).write_bytes(file.read_bytes())
    data = cl.load_dataset(small_npz)
    info |= {"data": dict(data.source or {}), "fingerprint": data.fingerprint}
    (tmp_path / "trained" / "run.json").write_text(json.dumps(info))
    process = start("export", "trained", "--format", "savedmodel", "--output", "site/model", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("site/.*/written")), process)  # it has begun to write
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out, told) == (143, "", "Error: Stopped by SIGTERM.\n")
    assert list((tmp_path / "site").iterdir()) == []


@pytest.mark.long
def test_sigterm_ends_an_audit_and_its_processes(mnist: cl.Dataset, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(1500):
            picture = Image.fromarray(mnist.train.images[number, ..., 0]).resize((200, 200))
            picture.save(tmp_path / "pictures" / name / f"{number}.bmp")
    process = start("audit", "pictures", "--html", "page.html", cwd=tmp_path)
    children = Path(f"/proc/{process.pid}/task")
    found: list[str] = []

    def decoding() -> bool:
        found[:] = [child for task in children.iterdir() for child in (task / "children").read_text().split()]
        return len(found) >= 1

    wait_for(decoding, process)
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=60)
    assert (process.returncode, out, told) == (143, "", "Error: Stopped by SIGTERM.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]
    while any(Path(f"/proc/{child}").exists() for child in found):  # they end when their caller has
        time.sleep(0.005)


class Signals(keras.callbacks.Callback):  # type: ignore[misc]
    """Sends signals to this process at some moment of a training."""

    def __init__(self, moment: str, numbers: Sequence[signal.Signals]) -> None:
        super().__init__()
        setattr(self, moment, lambda *_, **__: list(map(signal.raise_signal, numbers)))


def stop_in(small: cl.Dataset, directory: Path, callbacks: Any, **more: Any) -> cl.Run:
    with pytest.raises(Stopped) as stop:
        cl.train("dense", small, replace(cl.DEFAULT, epochs=3), directory=directory, callbacks=callbacks, **more)
    assert stop.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    check_stop()  # nothing of it is left
    run = cl.Run(directory / "dense-1")
    assert run.info["status"] == "interrupted"
    return run


def test_a_signal_after_the_last_step_keeps_the_weights(small: cl.Dataset, tmp_path: Path) -> None:
    run = stop_in(small, tmp_path, [Signals("on_train_end", [signal.SIGTERM])])
    assert sorted(path.name for path in run.path.iterdir()) == KEPT
    assert len(run.history) == 3
    assert run.load_model().count_params() == run.info["parameters"]


def test_a_signal_before_the_first_step_leaves_no_run_that_says_running(small: cl.Dataset, tmp_path: Path) -> None:
    def make(folder: Path) -> list[Any]:
        signal.raise_signal(signal.SIGTERM)
        return []

    run = stop_in(small, tmp_path, make)
    assert run.load_model().count_params() == run.info["parameters"]  # of one look


@pytest.mark.long
def test_a_second_signal_does_not_wait_for_a_look(
    small: cl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "SECONDS_APART", 0)
    looked: list[int] = []

    class Endless(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            signal.raise_signal(signal.SIGTERM)
            looked.append(batch)
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it went on")

    assert sorted(path.name for path in stop_in(small, tmp_path, [Endless()]).path.iterdir()) == [
        name for name in KEPT if name != "history.csv"
    ]
    assert len(looked) == 1


def test_a_second_signal_ends_a_process_that_does_not_answer(tmp_path: Path) -> None:
    script = """
import os, signal, time
from convladder import signals
signals.SECONDS_APART = signals.SECONDS_TO_END = 0
with signals.handle_signals():
    while True:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt:
            pass  # lost, as in a library
"""
    finished = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert finished.returncode == 143


def test_a_signal_that_got_lost_in_a_library_is_raised_at_the_next_look() -> None:
    reached = []
    with pytest.raises(Stopped), handle_signals():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            reached.append("lost")
        check_stop()
        reached.append("too far")
    assert reached == ["lost"]
    with pytest.raises(Stopped, match="SIGTERM"), handle_signals():  # as Ray does it
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
    with pytest.raises(Stopped), handle_signals():  # and what it has become is no failure of its own
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise RuntimeError("what C++ makes of it") from None


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with handle_signals(), defer_signals():
            signal.raise_signal(signal.SIGHUP)
            check_stop()
    finally:
        signal.signal(signal.SIGHUP, kept)


def test_a_handler_that_is_set_meanwhile_stays() -> None:
    try:
        with handle_signals():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as by a run that is finished: nothing can stop it any more
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_large_networks_are_looked_at_as_often_as_small_ones() -> None:
    assert steps_per_look(cl.build_model("strong", (28, 28, 1), 10), 128) == STEPS_PER_LOOK
    assert steps_per_look(cl.build_model("strong", (96, 96, 3), 10), 128) < 4
    assert steps_per_look(cl.build_model("conv", (224, 224, 3), 10), 128) == 1
