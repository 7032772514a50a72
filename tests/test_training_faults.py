"""Faults besides kills: a folder that turns read-only or vanishes, a clock that jumps; and all that can be resumed."""

import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import convladder as cl
from convladder.cli.resuming import name_way_on
from convladder.comparing.trials import Trial, take_finished
from convladder.runs.film import load_film
from convladder.signals import Stopped
from convladder.training import checkpoint
from test_few_pictures import make_folder
from test_training_filming import noisy
from test_training_resuming import At, assert_same, terminate

pytestmark = pytest.mark.xdist_group("resuming")

DATA = noisy()
BRIEF = replace(cl.DEFAULT, epochs=4, batch_size=16, precision="float32")


@pytest.fixture(autouse=True)
def _every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint at every look."""
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "SECONDS_APART", 0)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written into a folder, not even by root."""
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0o555)
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Camera failed")
def test_a_folder_that_is_read_only_for_a_while_costs_the_checkpoints_of_that_time(tmp_path: Path) -> None:
    stack = contextlib.ExitStack()
    locks = [
        At("on_epoch_begin", 2, lambda: stack.enter_context(read_only(tmp_path / "dense-1"))),
        At("on_epoch_begin", 4, stack.close),
    ]
    denied = r"checkpoint\.npz \(Permission denied\).* The training goes on without a new checkpoint"
    with stack, pytest.warns(UserWarning, match=denied) as told:
        run = cl.train("dense", DATA, BRIEF, directory=tmp_path, callbacks=locks)
    assert len([warning for warning in told if checkpoint.FILE in str(warning.message)]) == 1
    assert run.info["status"] == "finished"
    assert [row["epoch"] for row in run.history] == [1, 2, 3, 4]
    assert not (run.path / checkpoint.FILE).exists()


@pytest.mark.long
def test_what_a_read_only_folder_stops_goes_on_when_it_can_be_written(tmp_path: Path) -> None:
    how: dict[str, Any] = {"deterministic": True}
    whole = cl.train("dense", DATA, BRIEF, directory=tmp_path / "whole", **how)
    stack = contextlib.ExitStack()
    locks = [At("on_scoring_begin", 1, lambda: stack.enter_context(read_only(tmp_path / "dense-1")))]
    with stack, pytest.raises(cl.ConvladderError, match=r"Could not write .* \(Permission denied\)") as failed:
        cl.train("dense", DATA, BRIEF, directory=tmp_path, callbacks=locks, **how)
    assert failed.value.exit_status == 1
    assert_same(cl.train("dense", DATA, BRIEF, resume=tmp_path / "dense-1", **how), whole)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Camera failed")
def test_a_run_folder_that_vanishes_is_one_line_without_a_way_on(tmp_path: Path) -> None:
    folder = tmp_path / "dense-1"
    vanish = [At("on_epoch_begin", 3, lambda: shutil.rmtree(folder))]
    with pytest.warns(UserWarning, match="there is none to resume from"):  # noqa: SIM117
        with pytest.raises(cl.ConvladderError, match=r"Could not write .*dense-1") as failed, name_way_on([folder]):
            cl.train("dense", DATA, BRIEF, directory=tmp_path, callbacks=vanish)
    assert failed.value.exit_status == 1
    assert "Go on with" not in str(failed.value)
    assert os.listdir(tmp_path) == []
    with pytest.raises(cl.ConvladderError, match=r"dense-1 holds no run\.json\. Expected the folder of a run that"):
        cl.train("dense", DATA, BRIEF, resume=folder)


@pytest.mark.long
@pytest.mark.parametrize("minutes", [None, 0.05], ids=["epochs", "minutes"])
def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float | None
) -> None:
    """By years, back and forth, whenever it is looked at."""
    jumps = random.Random(0)
    monkeypatch.setattr("time.time", lambda: jumps.uniform(4e8, 4e9))
    began = time.monotonic()
    run = cl.train("dense", DATA, replace(BRIEF, minutes=minutes), directory=tmp_path)
    lasted = time.monotonic() - began
    assert run.info["status"] == "finished"
    assert all(0 < run.info[name] < lasted for name in ("fit_seconds", "film_seconds", "checkpoint_seconds"))
    assert all(0 < row["seconds"] < lasted for row in run.history)
    assert (np.diff(load_film(run.path / "film.npz", 3).seconds) > 0).all()


@pytest.mark.long
@pytest.mark.parametrize("year", [1970, 2200])
def test_a_clock_that_no_archive_can_hold_is_one_line_and_the_run_goes_on_when_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    at = time.struct_time((year, 1, 1, 0, 0, 0, 3, 1, 0))
    with (
        monkeypatch.context() as patch,
        pytest.raises(cl.ConvladderError, match=f"model.keras: .* says {year}") as failed,
    ):
        patch.setattr("time.localtime", lambda *_: at)
        cl.train("dense", DATA, BRIEF, directory=tmp_path)
    assert failed.value.exit_status == 1
    assert cl.train("dense", DATA, BRIEF, resume=tmp_path / "dense-1").info["status"] == "finished"


def own_network(activation: str = "relu") -> keras.Model:
    """As a notebook builds it anew: Keras names its layers, and it, by how many there were."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, strides=4, activation=activation),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


@pytest.mark.long
def test_a_network_of_ones_own_is_resumed_whatever_keras_calls_it(tmp_path: Path) -> None:
    how: dict[str, Any] = {"seed": 3, "deterministic": True}
    network = own_network()
    whole = cl.train(network, DATA, BRIEF, directory=tmp_path / "whole", **how)
    with pytest.raises(Stopped):
        stopping = [At("on_epoch_begin", 3, terminate)]
        cl.train(network, DATA, BRIEF, directory=tmp_path, callbacks=stopping, **how)
    (folder,) = (path for path in tmp_path.iterdir() if path.name != "whole")
    again = own_network()
    assert again.name != network.name
    with pytest.raises(cl.ConvladderError, match=r"was started with layers \w{12}, not \w{12}\. Expected"):
        cl.train(own_network("tanh"), DATA, BRIEF, resume=folder, **how)  # with as many weights, of the same shapes
    assert_same(cl.train(again, DATA, BRIEF, resume=folder, **how), whole)


@pytest.mark.long
def test_a_cross_validated_head_is_resumed(tmp_path: Path, convladder: Any) -> None:
    pictures = make_folder(tmp_path / "pictures", 10, 10)
    data = cl.load_dataset(pictures, image_size=64)
    whole = cl.train("transfer", data, directory=tmp_path / "whole")
    with pytest.raises(Stopped):
        cl.train("transfer", data, directory=tmp_path / "runs", callbacks=[At("on_scoring_begin", 1, terminate)])
    folder = tmp_path / "runs" / "transfer-1"
    status, out, err = convladder("train", "--resume", folder, "--json")
    assert status == 0, err
    assert json.loads(out)["tested_by"] == whole.info["tested_by"] == "5-fold cross-validation"
    assert_same(cl.Run(folder), whole)


@pytest.mark.long
def test_a_checkpoint_that_a_finished_run_still_has_is_removed(tmp_path: Path) -> None:
    """Of a process that was killed after it wrote that the run is finished."""
    run = cl.train("dense", DATA, BRIEF, directory=tmp_path)
    left = run.path / checkpoint.FILE
    left.write_bytes(b"left")
    assert cl.train("dense", DATA, BRIEF, resume=run.path).path == run.path
    assert not left.exists()
    left.write_bytes(b"left")
    identity = Trial("dense", 0, BRIEF).identity(run.info["fingerprint"], DATA.resize)
    assert take_finished([cl.Run(run.path)], identity)
    assert not left.exists()


@pytest.mark.long
def test_what_checkpoints_cost_is_told_and_kept_when_a_run_is_resumed(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        cl.train("dense", DATA, BRIEF, directory=tmp_path, callbacks=[At("on_epoch_begin", 3, terminate)])
    folder = tmp_path / "dense-1"
    before = cl.Run(folder).info
    run = cl.train("dense", DATA, BRIEF, resume=folder)
    assert 0 < before["checkpoint_seconds"] < run.info["checkpoint_seconds"]
    assert 0 < before["film_seconds"] < run.info["film_seconds"]
