"""Resuming: a training that was killed, stopped, or out of disk goes on to the weights of an undisturbed one."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

import convladder as cl
from convladder.data.dataset import Split
from convladder.files import lock, whole_file
from convladder.runs.film import FILM, read_film
from convladder.signals import Stopped
from convladder.training import checkpoint
from convladder.training.recipes import default_recipe_for
from convladder.training.resuming import in_use
from sharing import take_first

# Mid-epoch looks, augmentation, dropout, batch normalization's averages, a schedule and an ensemble.
DROPPED = {"dropout": 0.3}
RECIPE = replace(cl.DEFAULT, epochs=2.5, batch_size=16, augment="digits", precision="float32")
HOW: dict[str, Any] = {"seed": 3, "choices": DROPPED, "deterministic": True}


@pytest.fixture(autouse=True)
def _every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint at every look."""
    monkeypatch.setattr(checkpoint, "SHARE", 1e9)
    monkeypatch.setattr(checkpoint, "SECONDS_APART", 0)


@pytest.fixture(scope="module")
def few(small: cl.Dataset) -> cl.Dataset:
    return take_first(small, 640, 100, 100)  # of two looks an epoch


@pytest.fixture(scope="module")
def undisturbed(few: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> cl.Run:
    return cl.train("regularized", few, RECIPE, directory=tmp_path_factory.mktemp("runs"), **HOW)


class At(keras.callbacks.Callback):  # type: ignore[misc]
    """Does something at the nth call of a method."""

    def __init__(self, method: str, number: int, act: Callable[[], object]) -> None:
        super().__init__()
        self.left = number

        def called(*_: Any, **__: Any) -> None:
            self.left -= 1
            if self.left == 0:
                act()

        setattr(self, method, called)


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def weights_of(run: cl.Run) -> list[npt.NDArray[Any]]:
    return list(run.load_model().get_weights())


def assert_same(run: cl.Run, expected: cl.Run) -> None:
    """Bit for bit: the weights, the answers, and the history but for its seconds."""
    for first, second in zip(weights_of(run), weights_of(expected), strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(run.predictions["probabilities"], expected.predictions["probabilities"])
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in one.history] for one in (run, expected)]
    assert rows[0] == rows[1]
    assert run.info["best_epochs"] == expected.info["best_epochs"]
    assert {path.name for path in run.path.iterdir()} == {path.name for path in expected.path.iterdir()}
    if (run.path / FILM).exists():
        assert_whole_film(run)


def assert_whole_film(run: cl.Run) -> None:
    """One film over all attempts: in the order of the steps, none twice, and with every epoch."""
    film = read_film(run)
    assert film.step[0] == 0
    assert (np.diff(film.step) > 0).all()
    assert film.seconds[0] >= 0
    assert (np.diff(film.seconds) > 0).all()
    trained = 1 if run.info["rung"] == "finetune" else 0  # its first row is the solved head
    epochs = [row for row in run.history if row["member"] == 1][trained:]
    assert film.epochs[:, 0].tolist() == [row["epoch"] for row in epochs]
    assert film.epochs[:, 5].tolist() == [row["validation_accuracy"] for row in epochs]
    assert film.step[-1] == film.epochs[-1, 1]
    assert run.info["film_seconds"] > 0


@pytest.mark.long
@pytest.mark.parametrize(
    "moments",
    [
        [("on_train_batch_end", 1)],
        [("on_epoch_begin", 2)],
        [("on_epoch_begin", 1), ("on_train_batch_end", 2), ("on_epoch_begin", 1)],
        [("on_train_end", 1)],
        [("on_scoring_begin", 1)],
    ],
    ids=["end of an epoch", "within an epoch", "three times", "after the last step", "while it is scored"],
)
def test_a_stopped_training_ends_with_the_weights_of_an_undisturbed_one(
    few: cl.Dataset, undisturbed: cl.Run, tmp_path: Path, moments: list[tuple[str, int]]
) -> None:
    resume: Path | None = None
    for moment in moments:
        with pytest.raises(Stopped):
            stopping = [At(*moment, terminate)]
            cl.train("regularized", few, RECIPE, directory=tmp_path, resume=resume, callbacks=stopping, **HOW)
        resume = tmp_path / "regularized-1"
        assert cl.Run(resume).info["status"] == "interrupted"
    assert resume is not None
    looks = At("on_train_batch_end", 10**9, terminate)
    run = cl.train("regularized", few, RECIPE, resume=resume, callbacks=[looks], **HOW)
    assert_same(run, undisturbed)
    assert run.info["resumed"] == len(moments)
    assert run.info["fit_seconds"] > 0
    if moments[0][0] == "on_scoring_begin":
        assert looks.left == 10**9  # nothing that was fitted is fitted again


@pytest.mark.long
def test_a_signal_while_an_epoch_is_scored_loses_no_step(
    few: cl.Dataset, undisturbed: cl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convladder.evaluating.metrics import predict_probabilities

    def stop(*arguments: Any) -> Any:
        terminate()
        return predict_probabilities(*arguments)

    monkeypatch.setattr("convladder.training.keeping.predict_probabilities", stop)
    with pytest.raises(Stopped):
        cl.train("regularized", few, RECIPE, directory=tmp_path, **HOW)
    monkeypatch.undo()
    assert_same(cl.train("regularized", few, RECIPE, resume=tmp_path / "regularized-1", **HOW), undisturbed)


def read(path: Path) -> cl.Dataset:
    """What `killed` has written for another process."""
    with np.load(path) as arrays:
        train, validation, test = (
            Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in ("train", "validation", "test")
        )
    return cl.Dataset("few", tuple(map(str, range(10))), train, validation, test)


# One process imports TensorFlow, and its forks are killed.
KILLED = """
import os, resource, signal, sys, json
from convladder.engine import import_engine
import_engine()
import keras
import numpy as np
from dataclasses import replace
import convladder as cl
from convladder.training import checkpoint
import convladder.training.train
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_training_resuming as test
few = test.read(Path(sys.argv[2]))
savez, written = np.savez, 0

def half(path, **arrays):  # killed in the middle of the writing
    global written
    written += 1
    savez(path, **arrays)
    if written == 3:
        size = os.path.getsize(path)
        os.truncate(path, size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def train(number, callbacks):
    checkpoint.SHARE, checkpoint.SECONDS_APART = 1e9, 0
    folder = Path(sys.argv[3]) / str(number)
    cl.train("regularized", few, test.RECIPE, directory=folder, callbacks=callbacks, **test.HOW)

def write_half():
    np.savez = half
    train(0, [])

for work in (
    write_half,
    lambda: train(1, [test.At("on_train_batch_end", 4, die)]),
    lambda: train(2, [test.At("on_scoring_end", 1, die)]),
):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def killed(few: cl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    parts = {"train": few.train, "validation": few.validation, "test": few.test}
    arrays = {f"{name}_{key}": array for name, part in parts.items() for key, array in part._asdict().items()}
    np.savez(folder / "few.npz", **arrays)
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(folder / "few.npz"), str(folder)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert told.split() == [str(-signal.SIGKILL)] * 3
    return folder


@pytest.mark.long
@pytest.mark.parametrize("number", range(3), ids=["half written", "in an epoch", "scored"])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    few: cl.Dataset, undisturbed: cl.Run, killed: Path, number: int
) -> None:
    folder = killed / str(number) / "regularized-1"
    assert cl.Run(folder).info["status"] == "running"
    assert_same(cl.train("regularized", few, RECIPE, resume=folder, **HOW), undisturbed)


@pytest.mark.long
def test_the_finished_networks_of_an_ensemble_are_kept(few: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, epochs=1, batch_size=8)  # of three looks a network
    how = HOW | {"choices": {}, "ensemble": 3}
    expected = cl.train("dense", few, recipe, directory=tmp_path / "whole", **how)
    with pytest.raises(Stopped):
        cl.train("dense", few, recipe, directory=tmp_path, callbacks=[At("on_train_batch_end", 4, terminate)], **how)
    begins = At("on_train_begin", 10**9, terminate)
    run = cl.train("dense", few, recipe, resume=tmp_path / "dense-1", callbacks=[begins], **how)
    assert begins.left == 10**9 - 2  # the rest of the second one, and the third; the first is not fitted again
    assert_same(run, expected)


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 3, 6])
def test_finetune_goes_on_in_each_of_its_stages(tmp_path: Path, number: int) -> None:
    clothes = cl.load_dataset("clothes", image_size=64)
    recipe = replace(default_recipe_for("finetune", clothes), epochs=1, batch_size=16)
    how: dict[str, Any] = {"seed": 3, "deterministic": True}
    expected = cl.train("finetune", clothes, recipe, directory=tmp_path / "whole", **how)
    with pytest.raises(Stopped):
        stopping = [At("on_train_batch_end", number, terminate)]
        cl.train("finetune", clothes, recipe, directory=tmp_path, callbacks=stopping, **how)
    run = cl.train("finetune", clothes, recipe, resume=tmp_path / "finetune-1", **how)
    assert_same(run, expected)
    assert run.info["share_of_tuned"] == expected.info["share_of_tuned"]
    assert run.info["head"] == expected.info["head"]


@pytest.mark.long
def test_minutes_that_were_used_are_not_given_again(few: cl.Dataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, minutes=0.1)
    with pytest.raises(Stopped):
        cl.train("dense", few, recipe, directory=tmp_path, callbacks=[At("on_train_batch_end", 1, terminate)])
    kept = checkpoint.Checkpoint(tmp_path / "dense-1")
    assert kept.left is not None
    assert 0 < kept.left < 6
    run = cl.train("dense", few, recipe, resume=tmp_path / "dense-1")
    assert run.info["status"] == "finished"
    assert run.history[-1]["epoch"] == len(run.history)


CHANGES: list[tuple[Mapping[str, Any], str]] = [
    ({"seed": 4}, "seed 3, not 4"),
    ({"recipe": replace(RECIPE, epochs=3, batch_size=32)}, r"epochs 2\.5, not 3; batch size 16, not 32"),
    ({"choices": {"dropout": 0.4}}, r"choices dropout=0\.3, not dropout=0\.4"),
    ({"ensemble": 2}, "ensemble 1, not 2; parameters"),
    ({"deterministic": False}, "deterministic yes, not no"),
    ({"model": "dense", "choices": {}}, "rung regularized, not dense"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[str(next(iter(change))) for change, _ in CHANGES])
def test_another_command_than_the_run_s_is_refused(
    few: cl.Dataset, undisturbed: cl.Run, change: Mapping[str, Any], told: str
) -> None:
    given: dict[str, Any] = {"model": "regularized", "dataset": few, "recipe": RECIPE, "resume": undisturbed.path}
    given |= HOW | dict(change)
    with pytest.raises(cl.ConvladderError, match=f"was started with .*{told}.* Expected the same") as refused:
        cl.train(**given)
    assert refused.value.exit_status == 2


def test_other_data_and_other_versions_are_refused(
    few: cl.Dataset, undisturbed: cl.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = few.train.images.copy()
    images[7] = 255 - images[7]
    with pytest.raises(cl.ConvladderError, match=r"The data have changed since .* was started on few"):
        other = replace(few, train=Split(images, few.train.labels))
        cl.train("regularized", other, RECIPE, resume=undisturbed.path, **HOW)
    monkeypatch.setattr("keras.__version__", "3.99.1")
    with pytest.raises(cl.ConvladderError, match=r"keras 3\.\d+, not 3\.99\. Expected"):
        cl.train("regularized", few, RECIPE, resume=undisturbed.path, **HOW)


def test_a_finished_run_is_not_trained_again(few: cl.Dataset, undisturbed: cl.Run) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in undisturbed.path.iterdir()}
    run = cl.train("regularized", few, RECIPE, resume=undisturbed.path, **HOW)
    assert run.path == undisturbed.path
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_a_run_that_another_process_trains_is_refused(few: cl.Dataset, undisturbed: cl.Run) -> None:
    script = f"""
from pathlib import Path
from convladder.training.resuming import in_use
with in_use(Path({str(undisturbed.path)!r})):
    print("held", flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(cl.ConvladderError, match="is being trained by another process"):
            cl.train("regularized", few, RECIPE, resume=undisturbed.path, **HOW)


@pytest.mark.long
def test_a_damaged_checkpoint_is_one_line(few: cl.Dataset, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        cl.train("dense", few, RECIPE, directory=tmp_path, callbacks=[At("on_train_batch_end", 2, terminate)])
    path = tmp_path / "dense-1" / checkpoint.FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)
    with pytest.raises(cl.ConvladderError, match=r"checkpoint\.npz is damaged .* remove it"):
        cl.train("dense", few, RECIPE, resume=tmp_path / "dense-1")
    path.unlink()
    assert cl.train("dense", few, RECIPE, resume=tmp_path / "dense-1").info["status"] == "finished"


@pytest.mark.long
def test_a_full_disk_costs_a_training_its_checkpoints_and_nothing_else(few: cl.Dataset, tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limits = [
        At("on_epoch_begin", 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))),
        At("on_epoch_end", 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)),
    ]
    try:
        with pytest.warns(UserWarning, match=r"checkpoint\.npz .*goes on.*the last one is kept") as told:
            run = cl.train("dense", few, RECIPE, directory=tmp_path, callbacks=limits)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len([warning for warning in told if checkpoint.FILE in str(warning.message)]) == 1
    assert run.info["status"] == "finished"
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]


@pytest.mark.long
def test_what_a_full_disk_stops_goes_on_when_there_is_space(
    few: cl.Dataset, undisturbed: cl.Run, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = At("on_scoring_begin", 1, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1])))
    try:
        with pytest.raises(cl.ConvladderError, match=r"Could not write .*File too large") as failed:
            cl.train("regularized", few, RECIPE, directory=tmp_path, callbacks=[limit], **HOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.value.exit_status == 1
    folder = tmp_path / "regularized-1"
    kept = {"checkpoint.npz", "film.npz", "history.csv", "run.json"}  # whole ones
    assert {path.name for path in folder.iterdir()} == kept
    assert_same(cl.train("regularized", few, RECIPE, resume=folder, **HOW), undisturbed)


def test_a_checkpoint_is_written_in_its_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "SHARE", 0.015)
    now = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    kept = checkpoint.Checkpoint(tmp_path)
    spent = 0.0

    def slowly(path: Path) -> Any:
        now[0] += 0.5
        return whole_file(path)

    monkeypatch.setattr("convladder.training.checkpoint.whole_file", slowly)
    for _ in range(10_000):  # of a tenth of a second each
        now[0] += 0.1
        if kept.is_due(10**6):
            kept.save(checkpoint.Part())
            spent += 0.5
    assert 0.01 < spent / (now[0] - 1000) < 0.02


@pytest.mark.long
def test_train_resume_takes_everything_from_the_run(small_npz: Path, tmp_path: Path, convladder: Any) -> None:
    given = ["--data", str(small_npz), "--epochs", "2", "--seed", "7", "--hidden", "20", "--deterministic"]
    _, out, _ = convladder("train", "--model", "dense", *given, "--runs", tmp_path / "whole", "--json")
    whole = cl.Run(json.loads(out)["run"])
    folder = tmp_path / "runs" / "dense-1"
    data = cl.load_dataset(small_npz)
    recipe = replace(default_recipe_for("dense", data), epochs=2)
    with pytest.raises(Stopped):
        how: dict[str, Any] = {"seed": 7, "choices": {"hidden": 20}, "deterministic": True}
        stopping = [At("on_train_batch_end", 2, terminate)]
        cl.train("dense", data, recipe, directory=folder.parent, callbacks=stopping, **how)
    status, out, err = convladder("train", "--resume", folder, "--seed", "8", "--epochs", "3", "--runs", tmp_path)
    assert (status, out) == (2, "")
    assert err == (
        f"Error: {folder} was started with --seed 7, not 8; --epochs 2, not 3; --runs {folder.parent}, not {tmp_path}. "
        "Expected the same to resume it: leave out what differs, or train anew without resuming.\n"
    )
    status, _, err = convladder("train", "--resume", folder, "--seed", "7", "--data", small_npz)
    assert status == 0, err
    assert_same(cl.Run(folder), whole)
    status, out, err = convladder("train", "--resume", folder)
    assert (status, out.startswith(f"{folder}: test accuracy")) == (0, True)
    assert f"{folder} is finished: there is nothing to resume." in err


def test_what_cannot_be_resumed_is_one_line(run: cl.Run, tmp_path: Path, convladder: Any) -> None:
    status, _, err = convladder("train", "--resume", tmp_path)
    assert (status, err) == (
        2,
        f"Error: {tmp_path} holds no run.json. Expected the folder of a run that was stopped, killed or failed.\n",
    )
    status, _, err = convladder("train", "--resume", run.path)
    assert status == 2
    assert "was started from Python, with data of its own" in err


@pytest.mark.long
def test_a_stopped_training_names_the_way_on(small_npz: Path, tmp_path: Path) -> None:
    from test_signals import read_until, start

    process = start("train", "--model", "dense", "--data", small_npz, "--epochs", 100000, cwd=tmp_path)
    read_until(process, "epoch 2/")
    process.send_signal(signal.SIGSTOP)  # and a machine that sleeps changes nothing
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert told.splitlines()[-1].endswith("Go on with: convladder train --resume runs/dense-1")
    assert os.path.exists(tmp_path / "runs" / "dense-1" / checkpoint.FILE)


def test_a_worker_that_is_about_to_end_is_waited_for(tmp_path: Path) -> None:
    """Its caller was killed, and the same command was called at once; chaos found it."""
    for patience, ends in ((0.0, None), (60.0, 0.2)):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        lock(descriptor)
        if ends is None:
            with pytest.raises(cl.ConvladderError, match="another process"), in_use(tmp_path, patience):
                pass
            os.close(descriptor)
        else:
            threading.Timer(ends, os.close, [descriptor]).start()
            with in_use(tmp_path, patience):
                pass
