"""Worker processes: what they say and answer, and that nothing of them is left, however they or their caller end."""

import atexit
import os
import pickle
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convladder.signals import SIGNALS
from convladder.workers import Ended, Tell, Worker, map_files, start_interpreter

CALLER = """
import sys, test_workers
from convladder.workers import Worker
worker = Worker(test_workers.work)
worker.send(sys.argv[1])
print(worker.hear()[0], worker.hear()[1], flush=True)
sys.stdin.read()
"""


class StrangeError(Exception):
    """Cannot be read by who did not raise it."""

    def __init__(self, number: int, *, reason: str) -> None:
        super().__init__(f"{number} {reason}")


def work(tell: Tell, what: str, *more: Any) -> Any:
    """What the tests have a worker do."""
    if what == "compute":
        tell("process", os.getpid())
        while True:
            pass
    elif what == "answer":
        return os.getpid()
    elif what == "talk":
        print("on standard output")
        os.write(1, b"under it")
        for number in range(3):
            tell("number", number)
        return more
    elif what == "raise":
        raise KeyError("no such")
    elif what == "strange":
        raise StrangeError(3, reason="cannot be made of its arguments")
    elif what == "unreadable":
        return lambda: None
    elif what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "report":
        Path(more[0]).touch()
        try:
            while True:
                tell("process", os.getpid())
        except Exception as error:  # as whoever notes in a study, or in a run folder, why a training failed
            Path(more[0]).write_text(repr(error), encoding="utf-8")
    elif what == "leave":
        Path(more[0]).touch()
        atexit.register(Path(more[0]).unlink)
    return None


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    started = Worker(work)
    yield started
    started.end()
    started.end()  # which does no harm


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)  # between two looks


def is_gone(process: int) -> bool:
    """Whether it has ended, also where nobody has asked how: in a container no one may."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_worker_goes_on_after_whatever_the_function_did(worker: Worker) -> None:
    worker.send("talk", "said")
    assert [worker.hear() for _ in range(5)] == [
        ("ready", None),
        *(("number", number) for number in range(3)),
        ("result", ("said",)),
    ]
    for what, error, text in [
        ("raise", KeyError, "no such"),
        ("strange", RuntimeError, "StrangeError: 3 cannot be made of its arguments"),
        ("unreadable", Exception, "lambda"),
    ]:
        worker.send(what)
        with pytest.raises(error, match=text):
            worker.result()
        assert worker.alive
    for number in SIGNALS:  # they are the caller's to answer
        worker.send("answer")
        os.kill(worker.result(), number)
    worker.send("answer")
    assert worker.result()


def test_a_worker_that_ends_says_how(worker: Worker) -> None:
    worker.send("answer")
    process = worker.result()
    worker.send("die")
    for _ in range(2):
        with pytest.raises(Ended, match="was killed") as ended:
            worker.result()
        assert ended.value.status == -signal.SIGKILL
    assert not worker.alive
    assert is_gone(process)


def test_a_worker_that_computes_is_ended_at_once(worker: Worker) -> None:
    worker.send("compute")
    assert worker.hear() == ("ready", None)
    _, process = worker.hear()
    with pytest.raises(TimeoutError):
        worker.hear(0.01)
    worker.end()
    assert is_gone(process)


def test_a_worker_that_waits_removes_its_temporary_files(worker: Worker, tmp_path: Path) -> None:
    worker.send("leave", str(tmp_path / "file"))
    worker.result()
    assert (tmp_path / "file").exists()
    worker.end()
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("what", ["compute", "answer"])
def test_a_worker_ends_with_its_caller_whatever_either_does(what: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, what], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert caller.stdout is not None
    word, process = caller.stdout.readline().split()
    assert word == "ready"
    assert not is_gone(int(process))
    caller.kill()
    caller.communicate()
    wait_until(lambda: is_gone(int(process)))


def test_a_function_never_sees_that_the_caller_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed search had its trial noted as failed, and not to be tried again, where the worker told first."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    started = start_interpreter("from convladder.workers import serve; serve()")
    assert started.stdin
    assert started.stdout
    with started.stdin, started.stdout:
        for message in (work, ("report", str(tmp_path / "seen"))):
            pickle.dump(message, started.stdin)
        started.stdin.flush()
        wait_until((tmp_path / "seen").exists)
        started.stdout.close()  # and the other pipe not yet: of a caller that ends, either may be seen first
        assert started.wait() == 1
    assert not (tmp_path / "seen").read_bytes()


def test_a_function_that_cannot_be_imported_is_an_error_and_no_lost_file(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("only_here")
    exec("def work(item): return item", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(ModuleNotFoundError, match="only_here"):
        list(map_files(module.work, range(300)))
