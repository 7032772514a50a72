"""Trials one after the other, each in a process of its own, which may crash without taking the others with it.

Importing TensorFlow takes seconds, so one process does it and forks for every trial, before a thread has started in
it: forking is unsafe once there are several. Where it cannot fork, it carries out one trial itself and ends, and the
next trial gets a new one. All of them end when their caller does, however that ends.
"""

import contextlib
import os
import pickle
import queue
import select
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from convladder.comparing.trials import TOO_LATE, Late, LookOn, Outcome, Say, Trial, never, run_trial
from convladder.data.dataset import Dataset
from convladder.runs.run import Run
from convladder.signals import SECONDS_TO_END, SIGNALS, check_stop, defer_signals, stopped
from convladder.workers import start_interpreter

# NumPy's BLAS would start threads when it is imported. TensorFlow, which trains, has its own.
NO_THREADS = {"OPENBLAS_NUM_THREADS": "1"}

SECONDS_A_LOOK = 1.0  # at the clock

SERVE = """
from convladder.engine import import_engine
import_engine()
from convladder.comparing.local import serve
serve()
"""


def run_in_processes(
    trials: Iterable[Trial], dataset: Dataset, directory: Path, *, look_on: LookOn, say: Say, late: Late = never
) -> Iterator[Outcome]:
    """Carry trials out one after the other; a Runner.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; once the run under way has written the best weights so far.
    """
    worker: _Worker | None = None
    try:
        for trial in trials:
            if worker is not None and not worker.alive:
                worker.end()
                worker = None
            worker = worker or _Worker(dataset)
            yield worker.carry_out(trial, directory, look_on, say, late)
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """The process that forks, seen from its caller; a thread of the caller reads what it and its forks say."""

    def __init__(self, dataset: Dataset) -> None:
        self._process = start_interpreter(SERVE, NO_THREADS, process_group=0)  # Ctrl-C is passed on, once
        self._spent = False
        self._heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._send(dataset)

    @property
    def alive(self) -> bool:
        return not self._spent and self._process.poll() is None

    def carry_out(self, trial: Trial, directory: Path, look_on: LookOn, say: Say, late: Late) -> Outcome:
        callbacks = look_on(trial.label)
        self._send((trial, directory))
        started = False
        try:
            while True:
                try:
                    what, content = self._heard.get(timeout=SECONDS_A_LOOK)
                except queue.Empty:
                    what, content = "nothing", None
                check_stop()
                if started and late():
                    self._interrupt()
                    return Outcome(trial, error=TOO_LATE)
                if what == "started":
                    started, self._spent = True, not content
                elif what == "event":
                    method, arguments, params = content
                    for callback in callbacks:
                        callback.set_params(params)
                        getattr(callback, method, bool)(*arguments)  # one of Keras's has none for scoring
                elif what == "warning":
                    warnings.warn(content, stacklevel=2)
                elif what == "finished":
                    return Outcome(trial, Run(content))
                elif what in ("failed", "interrupted", "ended"):
                    if what == "ended":
                        self._process.wait()
                        content = _describe(self._process.returncode)
                    elif what == "interrupted":  # it alone was told to stop
                        content = f"its process was told to stop. {content}".rstrip(". ")
                    say(f"{trial.label} failed: {content}")
                    return Outcome(trial, error=content, failed=True)
        except KeyboardInterrupt as stop:
            raise stopped(stop, self._interrupt() if started else "") from None
        finally:
            for callback in callbacks:
                callback.on_train_end()  # a progress bar must not stay, whatever has happened

    def _interrupt(self) -> str:
        """Pass on that the run shall stop, and give back what it says when it has; if asked again, wait for little."""
        for seconds in (None, SECONDS_TO_END / 2):
            with contextlib.suppress(KeyboardInterrupt, queue.Empty, ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGINT)
                while True:
                    what, content = self._heard.get(timeout=seconds)
                    if what in ("interrupted", "finished", "failed", "ended"):
                        return str(content) if what == "interrupted" else ""
        return ""

    def end(self) -> None:
        """End the process; a fork of it, should there be one, ends when it finds its standard input closed."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.kill()  # it ignores what would ask it to end
        self._process.wait()
        self._listener.join()
        self._process.stdout.close()  # type: ignore[union-attr]

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, pickle.UnpicklingError, OSError):
            while True:
                self._heard.put(pickle.load(self._process.stdout))  # type: ignore[arg-type]
        self._heard.put(("ended", None))

    def _send(self, content: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, as is heard next
            _Pickler(self._process.stdin, pickle.HIGHEST_PROTOCOL).dump(content)  # type: ignore[arg-type]
            self._process.stdin.flush()  # type: ignore[union-attr]


class _Pickler(pickle.Pickler):
    """Passes on where the rows of a mapped file are, not what is in them."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.memmap) or value.filename is None:
            return NotImplemented
        if not os.path.exists(value.filename):  # what shall not be kept lies in a file without a name
            return np.array, (np.asarray(value).copy(),)
        whole = value.base if isinstance(value.base, np.memmap) else value
        offset = whole.offset + value.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        return np.memmap, (value.filename, value.dtype, "r", offset, value.shape)


def serve() -> None:
    """What the process does: read a data set and trials, and answer with what becomes of each."""
    for number in SIGNALS:  # they are the caller's to answer, which passes them on
        signal.signal(number, signal.SIG_IGN)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints shall not be taken for a reply
    # What every trial needs. Not what is shipped: importing ONNX Runtime starts a thread.
    import onnx  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import tf2onnx  # noqa: F401

    import convladder.training.fitting  # noqa: F401

    def reply(what: str, content: Any) -> None:
        pickle.dump((what, content), replies)
        replies.flush()

    try:
        dataset = pickle.load(sys.stdin.buffer)
        while True:
            trial, directory = pickle.load(sys.stdin.buffer)
            forks = _can_fork()
            child = os.fork() if forks else 0
            if child == 0:
                _work(trial, dataset, directory, reply, goes_on=forks)
                os._exit(0)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status:
                reply("failed", _describe(status))
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the caller is gone: nothing is left to be flushed


def _can_fork() -> bool:
    tasks = Path("/proc/self/task")
    return tasks.exists() and len(list(tasks.iterdir())) == 1


def _work(trial: Trial, dataset: Dataset, directory: Path, reply: Any, *, goes_on: bool) -> None:
    """Carry out one trial, and say how it went; before it, whether the process goes on to the next."""
    threading.Thread(target=_end_with_caller, daemon=True).start()
    warnings.showwarning = lambda message, *_: reply("warning", str(message))
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    try:
        with defer_signals():
            reply("started", goes_on)
            path = run_trial(trial, dataset, directory, [_Relay(reply)])
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            reply("finished", path)
    except KeyboardInterrupt as error:
        reply("interrupted", stopped(error).kept)
    except Exception as error:
        reply("failed", str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


def _end_with_caller() -> None:
    pipe = select.poll()
    pipe.register(0, 0)  # for no event but that the other end is closed; nothing is read, for it is another's
    pipe.poll()
    os._exit(1)


def _describe(status: int) -> str:
    if status == -signal.SIGKILL:
        return "its process was killed, as the system does where memory runs out"
    return f"its process ended with {f'signal {-status}' if status < 0 else f'status {status}'}"


class _Relay(keras.callbacks.Callback):
    """Tells the caller what a training tells its callbacks."""

    def __init__(self, reply: Any) -> None:
        super().__init__()
        self._reply = reply

    def _tell(self, method: str, *arguments: Any) -> None:
        *position, logs = arguments
        numbers = {key: float(value) for key, value in (logs or {}).items()}
        self._reply("event", (method, (*position, numbers), self.params))

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._tell("on_train_begin", logs)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._tell("on_epoch_begin", epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._tell("on_train_batch_end", batch, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._tell("on_epoch_end", epoch, logs)

    def on_scoring_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._tell("on_scoring_begin", logs)
