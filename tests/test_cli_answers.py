"""`predict --output`: the file appears whole, and the same command goes on where a process was killed."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import convladder as cl
from convladder.inference import classifier


@pytest.fixture
def pictures(small: cl.Dataset, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(40):
        Image.fromarray(small.test.images[number, ..., 0]).save(folder / f"{number:02}.png")
    (folder / "11.png").write_bytes(b"no picture")
    return folder


FORMATS: list[Sequence[str]] = [[], ["--csv", "--top", "2"], ["--json"]]


@pytest.mark.parametrize("how", FORMATS, ids=["lines", "csv", "json"])
def test_the_file_holds_what_would_have_been_printed(
    run: cl.Run, pictures: Path, convladder: Any, how: Sequence[str]
) -> None:
    status, printed, _ = convladder("predict", run.path, "pictures", *how)
    assert status == 2  # because of 11.png
    status, out, told = convladder("predict", run.path, "pictures", *how, "--output", "answers")
    assert (status, out) == (2, "")
    assert told.splitlines()[-1] == "40 answers in answers"
    assert Path("answers").read_text() == printed
    assert sorted(os.listdir()) == ["answers", "pictures"]


KILLED = """
import os, signal, sys
from convladder import cli
from convladder.cli import answers
keep, kept = answers.AnswerFile.keep, 0
def killed(self, path, failed):
    global kept
    keep(self, path, failed)
    kept += 1
    if kept == 25:
        self._journal._file.write(b'["half')  # in the middle of a line
        self._journal._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
answers.AnswerFile.keep = killed
sys.argv = ["convladder", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.long
def test_the_same_command_goes_on_after_a_kill(
    run: cl.Run, pictures: Path, convladder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected, _ = convladder("predict", run.path, "pictures", "--csv")
    given = ["predict", str(run.path), "pictures", "--csv", "--output", "answers.csv"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], check=False, stderr=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(os.listdir()) == ["answers.csv.part", "pictures"]
    status, _, told = convladder(*given[:-3], "--json", "--output", "answers.csv")
    assert status == 2
    assert told == (
        "Error: answers.csv.part was begun with another model or other options. Expected the same, to go on with it: "
        "remove it, or give another --output.\n"
    )
    asked: list[Any] = []
    predict = classifier.Classifier.predict

    def ask(self: Any, sources: Any, top: Any = None) -> Any:
        asked.extend(sources)
        return predict(self, sources, top)

    monkeypatch.setattr(classifier.Classifier, "predict", ask)
    status, _, _ = convladder(*given)
    assert asked == [f"pictures/{number:02}.png" for number in range(25, 40)]
    assert status == 2
    assert Path("answers.csv").read_text() == expected
    assert sorted(os.listdir()) == ["answers.csv", "pictures"]


@pytest.mark.long
def test_a_picture_that_has_changed_since_is_answered_again(run: cl.Run, pictures: Path, convladder: Any) -> None:
    given = ["predict", str(run.path), "pictures", "--output", "answers"]
    subprocess.run([sys.executable, "-c", KILLED, *given], check=False, stderr=subprocess.DEVNULL)
    (pictures / "20.png").write_bytes((pictures / "03.png").read_bytes())
    (pictures / "02.png").unlink()
    os.utime(pictures / "20.png", ns=(time.time_ns(), time.time_ns()))
    convladder(*given)
    _, expected, _ = convladder("predict", run.path, "pictures")
    assert Path("answers").read_text() == expected


def test_a_full_disk_keeps_the_answers_so_far(run: cl.Run, pictures: Path, convladder: Any) -> None:
    given = ["predict", run.path, "pictures", "--json", "--output", "answers"]
    _, expected, _ = convladder("predict", run.path, "pictures", "--json")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
    try:
        status, _, told = convladder(*given)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 1
    assert "Could not write" in told.splitlines()[-1]
    assert not Path("answers").exists()
    assert convladder(*given)[0] == 2
    assert Path("answers").read_text() == expected


def test_what_is_refused_leaves_no_file(run: cl.Run, pictures: Path, convladder: Any) -> None:
    status, _, _ = convladder("predict", run.path, "absent*.png", "--output", "answers")
    assert status == 2
    assert os.listdir() == ["pictures"]
    status, _, told = convladder("predict", run.path, "pictures", "--output", "absent/answers")
    assert status == 1
    assert "Could not write absent/answers.part (No such file or directory)" in told
