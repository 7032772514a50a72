"""Told to stop by Ctrl-C, SIGTERM or SIGHUP: what is under way ends where nothing is lost by it.

Python alone takes only Ctrl-C, and raises KeyboardInterrupt wherever it happens to be. One in some 450 was lost inside
TensorFlow and Keras, and the training went on; others came where a run was half begun. So a signal is noted as well.
What looks at the note, `check_stop`, is called between steps, batches and stages.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_APART = 0.5  # `timeout` and service managers send one signal twice: so soon after it is still the first
SECONDS_TO_END = 3.0  # after the second signal


class Stopped(KeyboardInterrupt):
    """A signal told to stop.

    Args:
        number: Of the signal.
        kept: Sentences for the user: what is kept, and where.
    """

    def __init__(self, number: int, kept: str = "") -> None:
        told = "Interrupted." if number == signal.SIGINT else f"Stopped by {signal.Signals(number).name}."
        super().__init__(f"{told} {kept}".strip())
        self.number, self.kept = number, kept

    @property
    def exit_status(self) -> int:
        """As shells have it: 130 of SIGINT, 143 of SIGTERM, 129 of SIGHUP."""
        return 128 + self.number


class _Note:
    """The first signal that came, and when; how many ask that signals be noted alone; what ends the process."""

    number: int | None = None
    when = 0.0
    deferring = 0
    end: threading.Timer | None = None


def stopped(error: KeyboardInterrupt, kept: str = "") -> Stopped:
    """The same with more to say; what is plain, as some libraries make it of any, tells of the signal that came."""
    plain = _Note.number or signal.SIGINT, ""
    number, before = (error.number, error.kept) if isinstance(error, Stopped) else plain
    return Stopped(number, f"{before} {kept}".strip())


def check_stop(kept: str = "") -> None:
    """Raise Stopped in the main thread if a signal has come."""
    if _Note.number is not None and _in_main_thread():
        raise Stopped(_Note.number, kept)


@contextlib.contextmanager
def handle_signals() -> Iterator[None]:
    """Within, a signal raises Stopped at once, and should that get lost, at the next `check_stop` and at the end.

    A second one raises it again, and ends the process soon after, whatever that is doing. Signals that are ignored, as
    under nohup, or that the program handles itself, are left alone; so are all of them in another thread than the main.
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
    except Exception as error:  # what a signal that got lost in a library has become
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
    """Within, a signal is noted alone: Stopped is raised by `check_stop`, by a second signal, and at the end."""
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
    return threading.current_thread() is threading.main_thread()  # Python handles signals in no other


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
    """Write to nowhere instead of to a terminal that is gone, for that raises errors where weights should be saved."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)
