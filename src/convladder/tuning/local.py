"""The trials of a search one after the other, in another process, which may crash without taking the search with it."""

import signal
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from convladder.comparing.local import SECONDS_A_LOOK, heed, interrupt, replay
from convladder.comparing.trials import Late
from convladder.engine import import_engine
from convladder.errors import ConvladderError
from convladder.signals import check_stop, stopped
from convladder.tuning.jobs import Job, LookOn, Parts
from convladder.tuning.studies import fail, open_storage, open_study
from convladder.workers import Ended, Tell, Worker

if TYPE_CHECKING:
    import keras


def carry_out_here(jobs: Iterator[Job | None], parts: Parts, *, look_on: LookOn, late: Late) -> Iterator[None]:
    """Carry out jobs one after the other, in another process, which may crash; a Carrier.

    Raises:
        KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP; once the trial under way waits for another call.
    """
    worker: Worker | None = None
    try:
        for job in jobs:
            if job is None:
                check_stop()
                time.sleep(SECONDS_A_LOOK)
                continue
            worker = worker or Worker(partial(_work, parts))
            if not _carry_out(worker, job, look_on, late):
                worker.end()
                worker = None
            yield
    finally:
        if worker is not None:
            worker.end()


def _work(parts: Parts, tell: Tell, job: Job) -> None:
    import_engine()
    from convladder.tuning.work import work

    heed(signal.SIG_DFL)
    try:
        work(parts, tell, job)
    finally:
        heed(signal.SIG_IGN)


def _carry_out(worker: Worker, job: Job, look_on: LookOn, late: Late) -> bool:
    """Have a job carried out, and pass on what is heard; return whether the worker can take another."""
    worker.send(job)
    number: int | None = None
    callbacks: Sequence[keras.callbacks.Callback] = ()
    try:
        while True:
            try:
                word, content = worker.hear(SECONDS_A_LOOK)
            except TimeoutError:
                word, content = "nothing", None
            except Ended as ended:
                if number is None:
                    raise ConvladderError(f"A trial could not begin: {ended}.", exit_status=1) from ended
                fail(open_study(open_storage(job.place), job.study), number, str(ended))
                return False
            check_stop()
            if number is not None and late():
                interrupt(worker)
                return False
            if word == "begun":
                number, name, trial = content
                callbacks = look_on(name, trial)
            elif word == "event":
                replay(content, callbacks)
            elif word == "warning":
                warnings.warn(content, stacklevel=2)
            elif word == "result":
                return True
            elif word == "raised":
                raise content
    except KeyboardInterrupt as stop:
        interrupt(worker)
        raise stopped(stop) from None
    finally:
        for callback in callbacks:
            callback.on_train_end()  # a progress bar must not stay, whatever has happened
