"""Files and folders that are written: whole or not at all, whoever is killed in the middle, and nothing left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import convladder as cl
from convladder.files import TEMPORARY, scratch_folder, whole_file, whole_folder, write_json

WRITING = """
import os, signal, sys
from pathlib import Path
from convladder.files import scratch_folder, whole_file, whole_folder
folder = Path(sys.argv[1])
kind = sys.argv[2]
if kind == "file":
    with whole_file(folder / "report.html") as temporary:
        temporary.write_text("half")
        print("writing", flush=True)
        sys.stdin.read()
elif kind == "folder":
    with whole_folder(folder / "site", "mark") as written:
        (written / "mark").write_text("new")
        print("writing", flush=True)
        sys.stdin.read()
elif kind == "scratch":
    with scratch_folder(folder) as scratch:
        (scratch / "large").write_text("half")
        print("writing", flush=True)
        sys.stdin.read()
else:  # between the two renames
    rename = Path.rename
    def once(path, target):
        rename(path, target)
        print("writing", flush=True)
        sys.stdin.read()
    Path.rename = once
    with whole_folder(folder / "site", "mark") as written:
        (written / "mark").write_text("new")
"""


TOGETHER = """
import sys
from pathlib import Path
from convladder.files import scratch_folder, whole_file
for _ in range(500):
    with scratch_folder(Path(sys.argv[1])) as scratch, whole_file(Path(sys.argv[1], "out")) as temporary:
        (scratch / "mine").write_text("mine")
        temporary.write_text((scratch / "mine").read_text())
"""


def start(folder: Path, kind: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITING, str(folder), kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def temporaries(folder: Path) -> list[Path]:
    return list(folder.glob(f"{TEMPORARY}*"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_live_one_writes_is_not(
    tmp_path: Path, kind: str
) -> None:
    live, killed = start(tmp_path, kind), start(tmp_path, kind)
    assert len(temporaries(tmp_path)) == 2
    kill(killed)
    (tmp_path / ".mine").write_text("nobody else's")
    with whole_file(tmp_path / "other.txt") as temporary:
        temporary.write_text("whole")
    assert len(temporaries(tmp_path)) == 1
    live.communicate("go on")
    assert live.returncode == 0
    assert temporaries(tmp_path) == []
    written = tmp_path / "report.html" if kind == "file" else tmp_path / "site" / "mark"
    assert written.read_text() in ("half", "new")
    assert (tmp_path / ".mine").exists()


def test_a_folder_that_is_replaced_is_not_lost_between_two_renames(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "site", "mark") as written:
        (written / "mark").write_text("old")
    kill(start(tmp_path, "renames"))
    assert not (tmp_path / "site").exists()
    with pytest.raises(RuntimeError, match="before it is written"), whole_folder(tmp_path / "site", "mark"):
        raise RuntimeError("before it is written")
    assert (tmp_path / "site" / "mark").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_folder_that_has_vanished_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(cl.ConvladderError, match=r"Could not write .*report\.html \(No such file or directory\)"):
        write_json(tmp_path / "gone" / "report.html", {})
    (tmp_path / "here").mkdir()
    expected = pytest.raises(cl.ConvladderError, match=r"Could not write .*report\.html")
    with expected as raised, whole_file(tmp_path / "here" / "report.html") as temporary:
        temporary.unlink()
        os.rmdir(tmp_path / "here")
    assert raised.value.exit_status == 1


def test_the_scratch_folder_of_a_killed_process_is_removed_by_the_next_and_what_others_put_there_is_not(
    tmp_path: Path,
) -> None:
    live, killed = start(tmp_path, "scratch"), start(tmp_path, "scratch")
    kill(killed)
    os.mkfifo(tmp_path / f"{TEMPORARY}pipe")  # nobody writes into it: whoever opened it would wait
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"{TEMPORARY}link").symlink_to(elsewhere)
    with scratch_folder(tmp_path) as scratch:
        assert scratch.is_dir()
        assert len([path for path in temporaries(tmp_path) if path.is_dir() and not path.is_symlink()]) == 2
    assert not scratch.exists()
    assert elsewhere.is_dir()
    live.communicate("go on")
    assert live.returncode == 0


def test_processes_that_write_into_one_folder_at_once_take_nothing_from_one_another(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [process.communicate()[1] for process in processes] == [""] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
