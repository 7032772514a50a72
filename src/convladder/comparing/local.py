"""Trials one after the other, in another process, which may crash without taking the comparison with it.

One process carries out all of them, because importing TensorFlow takes seconds. It starts each trial as a new process
would: nothing of the trial before may change its result or its time. Where that cannot be undone, a new process starts.
"""

import contextlib
import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convladder.comparing.trials import TOO_LATE, Late, LookOn, Outcome, Say, Trial, never, run_trial
from convladder.data.dataset import Dataset
from convladder.engine import import_engine
from convladder.processors import keeps_freed_memory
from convladder.runs.run import Run
from convladder.signals import SECONDS_TO_END, SIGNALS, check_stop, defer_signals, stopped
from convladder.workers import Ended, Tell, Worker

if TYPE_CHECKING:
    import keras

SECONDS_A_LOOK = 1.0  # at the clock
RELAYED = ("on_train_begin", "on_epoch_begin", "on_train_batch_end", "on_epoch_end", "on_scoring_begin")


def run_in_processes(
    trials: Iterable[Trial], dataset: Dataset, directory: Path, *, look_on: LookOn, say: Say, late: Late = never
) -> Iterator[Outcome]:
    """Carry trials out one after the other; a Runner.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; once the run under way has written the best weights so far.
    """
    trainer: _Trainer | None = None
    try:
        for trial in trials:
            if trainer is not None and not trainer.takes(trial):
                trainer.end()
                trainer = None
            outcome = None
            while outcome is None:  # a process that ended before it began with the trial may have ended before it
                trainer = trainer or _Trainer(dataset, trial.deterministic)
                outcome = trainer.carry_out(trial, directory, look_on, say, late)
                trainer = trainer if outcome else None
            yield outcome
    finally:
        if trainer is not None:
            trainer.end()


class _Done(NamedTuple):
    """How a trial went: its folder; else why there is none, and what is kept where it was told to stop."""

    path: Path | None = None
    error: str = ""
    kept: str = ""
    as_new: bool = False  # whether the process can carry out the next one as a new process would


class _Trainer:
    """A worker for trials that are all deterministic, or all not: TensorFlow cannot go back."""

    def __init__(self, dataset: Dataset, deterministic: bool) -> None:
        self._worker = Worker(partial(_train, dataset))
        self._deterministic, self._as_new, self._used = deterministic, True, False
        self.end = self._worker.end

    def takes(self, trial: Trial) -> bool:
        """Whether it can carry out this trial as a new process would."""
        return self._as_new and self._worker.alive and trial.deterministic == self._deterministic

    def carry_out(self, trial: Trial, directory: Path, look_on: LookOn, say: Say, late: Late) -> Outcome | None:
        """Have a trial carried out, and pass on what is heard; None where a process of old had ended before it."""
        callbacks = look_on(trial.label)
        self._worker.send(trial, directory)
        started = False
        try:
            while True:
                try:
                    word, content = self._worker.hear(SECONDS_A_LOOK)
                except TimeoutError:
                    word, content = "nothing", None
                except Ended as ended:
                    if self._used and not started:
                        return None
                    word, content = "raised", ended
                check_stop()
                if started and late():
                    self._interrupt()
                    self._as_new = False
                    return Outcome(trial, error=TOO_LATE)
                if word == "started":
                    started = True
                elif word == "event":
                    replay(content, callbacks)
                elif word == "warning":
                    warnings.warn(content, stacklevel=2)
                elif word in ("result", "raised"):
                    done = content if word == "result" else _Done(error=describe(content))
                    self._as_new, self._used = done.as_new, True
                    if done.path is not None:
                        return Outcome(trial, Run(done.path))
                    say(f"{trial.label} failed: {done.error}")
                    return Outcome(trial, error=done.error, failed=True)
        except KeyboardInterrupt as stop:
            raise stopped(stop, self._interrupt() if started else "") from None
        finally:
            for callback in callbacks:
                callback.on_train_end()  # a progress bar must not stay, whatever has happened

    def _interrupt(self) -> str:
        """Stop the run, and return what it says when it has stopped."""
        done = interrupt(self._worker)
        return done.kept if done else ""


def interrupt(worker: Worker) -> Any:
    """Have a worker stop, and return its result, if it still has one. After a second signal, wait only briefly."""
    for seconds in (None, SECONDS_TO_END / 2):
        with contextlib.suppress(KeyboardInterrupt, Ended, TimeoutError):
            worker.interrupt()
            while True:
                word, content = worker.hear(seconds)
                if word in ("result", "raised"):
                    return content if word == "result" else None
    return None


def describe(error: Exception) -> str:
    """Why a trial has no result."""
    return str(error) if isinstance(error, ValueError | Ended) else f"{type(error).__name__}: {error}"


def _train(dataset: Dataset, tell: Tell, trial: Trial, directory: Path) -> _Done:
    """Carry out a trial in this process, the first one or the next, as if there had been none before."""
    import_engine()
    # What every trial needs, before its filters of warnings are kept apart: these libraries have some of their own.
    import keras
    import onnx  # noqa: F401
    import sklearn.metrics  # noqa: F401
    import tf2onnx  # noqa: F401

    import convladder.training.train  # noqa: F401

    keras.backend.clear_session()
    heed(signal.SIG_DFL)
    try:
        with defer_signals(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: tell("warning", str(message))
            tell("started", None)
            path = run_trial(trial, dataset, directory, [relay(tell)])
            heed(signal.SIG_IGN)
        return _Done(path, as_new=not keeps_freed_memory())
    except KeyboardInterrupt as stop:  # it alone was told to stop, or its caller has passed it on
        kept = stopped(stop).kept
        return _Done(error=f"its process was told to stop. {kept}".rstrip(". "), kept=kept)
    finally:
        heed(signal.SIG_IGN)


def heed(handler: signal.Handlers) -> None:
    """What signals do in this process from now on."""
    for number in SIGNALS:
        signal.signal(number, handler)


def replay(event: Any, callbacks: "Sequence[keras.callbacks.Callback]") -> None:
    """Tell callbacks what a `relay` in another process was told."""
    method, arguments, params = event
    for callback in callbacks:
        callback.set_params(params)
        getattr(callback, method, bool)(*arguments)  # one of Keras's has none for scoring


def relay(tell: Tell) -> "keras.callbacks.Callback":
    """A callback that tells the caller what a training tells its callbacks."""
    import keras

    def pass_on(method: str, *position: Any, logs: Any = None) -> None:
        if position and not isinstance(position[-1], int):  # Keras passes the logs either way
            position, logs = position[:-1], position[-1]
        numbers = {key: float(value) for key, value in (logs or {}).items()}
        tell("event", (method, (*position, numbers), told.params))

    told = keras.callbacks.LambdaCallback(**{method: partial(pass_on, method) for method in RELAYED})
    return told
