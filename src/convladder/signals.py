"""Stops work on Ctrl-C, SIGTERM or SIGHUP at a point where nothing is lost.

Python itself handles only Ctrl-C, and raises KeyboardInterrupt at any point. One in about 450 was lost inside
TensorFlow and Keras, and the training continued; others came when a run folder was half written. So signals are also
noted, and `check_stop` is called between steps, batches and stages.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_APART = 0.5  # `timeout` and service managers send a signal twice; the second is ignored within this time
SECONDS_TO_END = 3.0  # after the second signal


class Stopped(KeyboardInterrupt):
    """Raised when a signal stops the work.

    Args:
        number: Number of the signal.
        kept: Sentences for the user: what is kept, and where.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        told = "Interrupted." if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}."
        super().__init__(f"{told} {kept}".strip())
        self.number, self.kept = number, kept

    @property
    def exit_status(self) -> int:
        """The exit status that shells use: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.number


class _Note:
    """The first signal and its time; the number of `defer_signals` contexts; the timer that ends the process."""

    number: int | None = None
    when = 0.0
    deferring = 0
    end: threading.Timer | None = None


def stopped(error: KeyboardInterrupt, kept: str = "") -> Stopped:
    """The same exception with more to say. A plain KeyboardInterrupt, as libraries raise it, gets the noted signal."""
    plain = _Note.number or signal.SIGINT, ""
    number, before = (error.number, error.kept) if isinstance(error, Stopped) else plain
    return Stopped(number, f"{before} {kept}".strip())


def check_stop(kept: str = "") -> None:
    """Raise Stopped in the main thread if a signal has come."""
    if _Note.number is not None and _in_main_thread():
        raise Stopped(_Note.number, kept)


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """In this context a signal raises Stopped at once. If that gets lost, `check_stop` and the end raise it again.

    A second signal raises it again, and soon after ends the process in any case. Ignored signals, as under nohup, and
    signals with a handler of the program are left alone. Outside the main thread, all signals are.
    What else is set as a handler within stays set.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in SIGNALS if _in_main_thread()}
    before = {number: handler for number, handler in before.items() if handler in defaults}
    try:
        for number in before:
            signal.signal(number, _handle)
        yield
        if before:
            check_stop()
    except Stopped:
        raise
    except KeyboardInterrupt as error:
        raise stopped(error) from None
    except Exception as error:  # a library can turn the exception of a signal into another one
        if _Note.number is not None and _in_main_thread():
            raise Stopped(_Note.number) from error
        raise
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is _handle:
                signal.signal(number, handler)
        if before:
            if _Note.end is not None:
                _Note.end.cancel()
            _Note.number = _Note.end = None


@contextlib.contextmanager
def defer_signals() -> Iterator[None]:
    """In this context a signal is only noted: `check_stop`, a second signal, or the end raises Stopped."""
    with handle_signals():
        if not _in_main_thread():
            yield
            return
        _Note.deferring += 1
        try:
            yield
        finally:
            _Note.deferring -= 1
        if not _Note.deferring:
            check_stop()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()  # Python handles signals only there


def _handle(number: int, _: FrameType | None) -> None:
    first, now = _Note.number is None, time.monotonic()
    if not first and now - _Note.when < SECONDS_APART:
        return
    if first:
        _Note.number, _Note.when = number, now
    elif _Note.end is None:
        _Note.end = threading.Timer(SECONDS_TO_END, os._exit, [128 + number])
        _Note.end.daemon = True
        _Note.end.start()
    if number == signal.SIGHUP:
        _leave_terminal()
    if not (first and _Note.deferring):
        raise Stopped(number)


def _leave_terminal() -> None:
    """Redirect output of a closed terminal to nowhere, because writing to it raises errors while weights are saved."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
