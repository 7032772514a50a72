"""Files appear whole or not at all; what is no run is refused."""

import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import convladder as cl
from convladder.files import whole_file, whole_folder, write_arrays, write_json
from convladder.runs.run import create_run_folder, embedded_name, finished_runs


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "running"})
    with pytest.raises(RuntimeError), whole_file(tmp_path / "run.json") as temporary:
        temporary.write_text('{"status": "fin')
        raise RuntimeError
    assert json.loads((tmp_path / "run.json").read_text()) == {"status": "running"}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_directory_that_cannot_be_made_is_an_error_of_status_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(cl.ConvladderError, match="Could not write") as raised:
        create_run_folder(tmp_path / "file" / "runs", "pool", {})
    assert raised.value.exit_status == 1


@pytest.mark.long
def test_a_full_disk_is_an_error_of_status_1_and_leaves_no_half_file(small_npz: Path, tmp_path: Path) -> None:
    """The limit on a file's size stands for a full disk: the same write fails in the same place."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    finished = subprocess.run(
        [
            sys.executable,
            "-m",
            "convladder",
            "train",
            "--model",
            "dense",
            "--data",
            str(small_npz),
            "--runs",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        # Without coverage, whose own file would be the first that does not fit.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert finished.returncode == 1
    line = finished.stderr.splitlines()[-1]
    assert "Could not write" in line
    assert "model.keras (" in line
    assert "Traceback" not in finished.stderr
    assert {path.name for path in (tmp_path / "dense-1").iterdir()} == {"run.json", "history.csv", "film.npz"}
    assert cl.Run(tmp_path / "dense-1").info["status"] == "failed"


@pytest.mark.parametrize("content", [None, "not JSON"])
def test_what_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(cl.ConvladderError, match=r"run\.json"):
        cl.Run(tmp_path)


def test_a_run_reads_its_files(run: cl.Run) -> None:
    again = cl.Run(run.path)
    assert again.info == run.info
    assert again.history[0]["epoch"] == 1
    assert np.allclose(again.predictions["probabilities"].sum(axis=1), 1, atol=1e-5)


def test_a_history_is_told_apart_by_the_members_of_an_ensemble(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "running"})
    path = tmp_path / "history.csv"
    path.write_text("member,epoch,loss\n1,1,0.5\n1,2,0.25\n2,1,0.75\n", encoding="utf-8")
    assert cl.Run(tmp_path).epochs("loss") == [[0.5, 0.25], [0.75]]
    path.write_text("epoch,loss\n1,0.5\n2,0.25\n", encoding="utf-8")
    assert cl.Run(tmp_path).epochs("loss") == [[0.5, 0.25]]  # of one network
    assert cl.Run(tmp_path).epochs("validation_loss") == []


@pytest.mark.long
def test_a_run_s_data_are_loaded_again_and_checked(small_npz: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy.npz"
    path.write_bytes(small_npz.read_bytes())
    data = cl.load_dataset(path, validation=0.2, seed=3)
    assert data.source is not None
    assert data.source["source"] == str(path)
    run = cl.train("dense", data, replace(cl.DEFAULT, epochs=0.1, precision="float32"), directory=tmp_path / "runs")
    again = run.load_dataset()
    assert again.fingerprint == data.fingerprint == run.info["fingerprint"]
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["y_test"][0] = (arrays["y_test"][0] + 1) % 10
    np.savez(path, **arrays)
    with pytest.raises(cl.ConvladderError, match="has changed since"):
        run.load_dataset()


def test_data_built_in_python_cannot_be_loaded_again(run: cl.Run) -> None:
    assert run.info["data"] is None
    with pytest.raises(cl.ConvladderError, match="--data"):
        run.load_dataset()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_former_export_is_there_again_where_the_new_one_cannot_take_its_place(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = tmp_path / "export"
    with whole_folder(export, "mark") as folder:
        (folder / "mark").write_text("former", encoding="utf-8")
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name == "written":  # the second: the former export has been moved away by then
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises((cl.ConvladderError, KeyboardInterrupt)), whole_folder(export, "mark") as folder:
        (folder / "mark").write_text("new", encoding="utf-8")
    assert (export / "mark").read_text(encoding="utf-8") == "former"
    monkeypatch.undo()
    with whole_folder(export, "mark") as folder:
        (folder / "mark").write_text("new", encoding="utf-8")
    assert (export / "mark").read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [export]


@pytest.mark.parametrize("source", ["mnist", "clothes", "/home/me/mnist", None])
def test_only_what_comes_with_the_package_is_taken_for_it(source: str | None) -> None:
    info = {"dataset": "mnist", "data": None if source is None else {"source": source}}
    assert embedded_name(info) == (source if source in ("mnist", "clothes") else None)


CREATING = """
import os, signal, sys
from pathlib import Path
from convladder.files import json
from convladder.runs.run import create_run_folder
json.dumps = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # in the middle of it
create_run_folder(Path(sys.argv[1]), "pool", {"status": "running"})
"""


def test_a_run_folder_appears_with_its_run_json_or_not_at_all(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", CREATING, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list(tmp_path.glob("pool-*")) == []
    folder = create_run_folder(tmp_path, "pool", {"status": "running"})
    assert [path.name for path in tmp_path.iterdir()] == ["pool-1"]  # and nothing of the killed process
    assert cl.Run(folder).info == {"status": "running"}


def test_a_run_folder_takes_the_next_number_where_another_process_was_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pool-1").mkdir()
    (tmp_path / "pool-1" / "run.json").write_text("{}")
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))  # it was not there yet
    assert create_run_folder(tmp_path, "pool", {}) == tmp_path / "pool-2"


def test_runs_are_listed_while_another_process_moves_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "run.json", {})
    move = f"from pathlib import Path\nwhile True: Path({str(tmp_path / 'b')!r}).rename(Path({str(tmp_path / 'c')!r}))"
    move += f".rename({str(tmp_path / 'b')!r})"
    process = subprocess.Popen([sys.executable, "-c", move])
    try:
        for _ in range(2000):
            assert finished_runs(tmp_path) == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sides", [[28, 28], [28, 0, 1], [28, 28, "1"], [], [28.0, 28, 1]])
def test_a_run_whose_pictures_have_no_shape_is_damaged(tmp_path: Path, sides: list[object]) -> None:
    write_json(tmp_path / "run.json", {"input_shape": sides})
    with pytest.raises(cl.ConvladderError, match=r"run\.json is damaged"):
        _ = cl.Run(tmp_path).info


@pytest.mark.parametrize("name", ["probabilities", "labels", "validation_probabilities"])
def test_predictions_that_lack_a_part_are_damaged(run: cl.Run, tmp_path: Path, name: str) -> None:
    write_json(tmp_path / "run.json", run.info)
    write_arrays(tmp_path / "predictions.npz", **{key: run.predictions[key] for key in run.predictions if key != name})
    with pytest.raises(cl.ConvladderError, match=r"predictions\.npz is damaged"):
        _ = cl.Run(tmp_path).predictions
