"""Several processes that answer at one port. uvicorn starts and watches them.

They accept from one socket, so a connection that a dead worker has not taken yet goes to another. A worker is a fresh
interpreter. It obeys its parent alone, and ends with it.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import connection, parent_process, resource_tracker
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead
from starlette.types import ASGIApp
from uvicorn.supervisors.multiprocess import SIGNALS, Multiprocess, Process

from convladder.errors import ConvladderError
from convladder.files import scratch_folder
from convladder.serving.limits import Limits
from convladder.serving.observing import COUNTS_VARIABLE, READY
from convladder.serving.server import Config, configure, listen, while_connected
from convladder.signals import SECONDS_TO_END

FAILED = ".failed"  # as READY, of a worker that cannot start; it says why
STATUS_FAILED = 3
HANDLED = (signal.SIGINT, signal.SIGTERM)
FOR_THE_PARENT = (signal.SIGINT, signal.SIGHUP)  # a terminal sends them to the workers too
MOST_UNREADY = 5  # replacements in a row that are killed before they are ready
SECONDS_TO_ANSWER = 0.5  # a check, of a worker that may be busy
MOST_MISSED = 30  # checks in a row, one a second; then it hangs. Counted, because all processes may have been paused


def run_workers(
    make: Callable[[Path], ASGIApp],
    workers: int,
    address: tuple[str, int],
    limits: Limits,
    announce: Callable[[str], None],
    tell: Callable[[str], None],
) -> None:
    """Answer requests in several processes until SIGINT or SIGTERM comes; then finish the requests in flight.

    Args:
        make: Makes the application of a worker, from the folder in which it shares its counts. Picklable.
        workers: How many.
        address: Host and port, as of `run_server`.
        limits: Of connections and seconds, for each worker.
        announce: Called with the address, once all workers are ready.
        tell: Called with a line for each worker that ended and was replaced.

    Raises:
        ConvladderError: The address cannot be taken, or a worker cannot start.
    """
    listener, url = listen(*address, limits)
    with listener, _counts_folder() as folder, _restored_signals():
        config = configure(partial(_start, make, folder), limits, factory=True, workers=workers)
        supervisor = Supervisor(config, listener, folder, partial(announce, url), tell)
        try:
            supervisor.run()
        finally:  # where a worker could not start
            supervisor.terminate_all()
            supervisor.join_all()
    if supervisor.interrupted:
        signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def _counts_folder() -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder())
        except OSError as error:
            raise ConvladderError(
                f"Workers share their counts in a temporary folder, and none can be made ({error.strerror or error}). "
                "Expected TMPDIR to name a folder with space and write permission.",
                exit_status=1,
            ) from error
        os.environ[COUNTS_VARIABLE] = str(folder)  # for the workers
        stack.callback(os.environ.pop, COUNTS_VARIABLE, None)
        yield folder


@contextlib.contextmanager
def _restored_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Supervisor(Multiprocess):
    """Replaces a worker that ends, but one that cannot start ends all.

    Args:
        config: How each worker runs.
        listener: What they accept from.
        folder: Where they share their counts, and say that they are ready.
        announce: Called once all are ready.
        tell: Called with a line for each worker that was replaced.
    """

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        folder: Path,
        announce: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        before = {number: signal.getsignal(number) for number in SIGNALS if number not in HANDLED}
        super().__init__(config, [listener])
        for number, handler in before.items():  # uvicorn reloads on SIGHUP, also under nohup, and the like
            signal.signal(number, handler)
        self.folder, self.announce, self.tell = folder, announce, tell
        self.announced = self.interrupted = False
        self.unready = 0
        self.missed: Counter[int | None] = Counter()

    def init_processes(self) -> None:
        """Start all workers."""
        resource_tracker.ensure_running()  # later it would undo the mask of the first start
        for _ in range(self.processes_num):
            self.processes.append(self._start_worker())

    def handle_int(self) -> None:
        """Note Ctrl-C, which has an exit status of its own."""
        self.interrupted = True
        super().handle_int()

    def keep_subprocess_alive(self) -> None:
        """Look after all workers, twice a second.

        Raises:
            ConvladderError: One cannot start. Another could not either.
        """
        for place, worker in enumerate(self.processes):
            ready, failed = self._file(worker, READY), self._file(worker, FAILED)
            # One that starts does not answer yet, however long that takes.
            if worker.process.is_alive() and not (ready.exists() and self._hangs(worker)):
                continue
            worker.kill()
            worker.join()
            self.unready = 0 if ready.exists() else self.unready + 1
            if self.unready and (failed.exists() or not self.announced or self.unready > MOST_UNREADY):
                raise self._failure(worker)
            ready.unlink(missing_ok=True)
            mark_process_dead(worker.pid, self.folder)  # type: ignore[no-untyped-call]
            self.processes[place] = started = self._start_worker()
            self.tell(f"Worker {worker.pid} ended ({_end(worker)}). Worker {started.pid} takes its place.")
        if not self.announced and all(self._file(worker, READY).exists() for worker in self.processes):
            self.announced = True
            self.announce()

    def terminate_all(self) -> None:
        """Have all workers finish what they have begun; from now on no connection is taken."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for all workers, but not for ever, and not after a second Ctrl-C."""
        until = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + SECONDS_TO_END
        while ends := [worker.process.sentinel for worker in self.processes if worker.process.is_alive()]:
            if signal.SIGINT in self.signal_queue or time.monotonic() > until:
                for worker in self.processes:
                    worker.process.kill()
            connection.wait(ends, 0.1)

    def _hangs(self, worker: Process) -> bool:
        self.missed[worker.pid] = 0 if worker.ping(SECONDS_TO_ANSWER) else self.missed[worker.pid] + 1
        return self.missed[worker.pid] > MOST_MISSED

    def _start_worker(self) -> Process:
        worker = Process(self.config, self.sockets)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_PARENT)  # the worker inherits that
        try:
            worker.start()
        except OSError as error:
            raise ConvladderError(
                f"A worker cannot be started ({error.strerror or error}). Expected room for {self.processes_num}: "
                "ask for fewer by --workers.",
                exit_status=1,
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return worker

    def _file(self, worker: Process, suffix: str) -> Path:
        return self.folder / f"{worker.pid}{suffix}"

    def _failure(self, worker: Process) -> ConvladderError:
        with contextlib.suppress(OSError):
            told = json.loads(self._file(worker, FAILED).read_text(encoding="utf-8"))
            return ConvladderError(told["message"], exit_status=told["status"])
        return ConvladderError(
            f"A worker ended before it was ready ({_end(worker)}). Expected memory for {self.processes_num} workers: "
            "ask for fewer by --workers.",
            exit_status=1,
        )


def _end(worker: Process) -> str:
    """How a process ended."""
    status = worker.exitcode or 0
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _start(make: Callable[[Path], ASGIApp], folder: Path) -> ASGIApp:
    """Make the application in a worker, and leave a file that says whether that went well."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    told = folder / str(os.getpid())
    try:
        app = make(folder)
    except Exception as error:
        if not isinstance(error, ConvladderError):
            error = ConvladderError(f"A worker cannot start ({type(error).__name__}: {error}).", exit_status=1)
        failure = {"message": str(error), "status": error.exit_status}
        told.with_suffix(FAILED).write_text(json.dumps(failure), encoding="utf-8")
        sys.exit(STATUS_FAILED)
    gc.collect()
    gc.freeze()
    told.with_suffix(READY).touch()
    return while_connected(app)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
