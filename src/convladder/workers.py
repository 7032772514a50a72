"""Processes that work for this one: several that decode pictures, or one that trains.

Each is a fresh interpreter. It imports what its work needs and nothing else: not the caller's main module, and nothing
from the current directory. It ends when its caller does, however the caller ends, even in the middle of a computation.
docs/decisions/0011-workers.md says why no library's processes are used.
"""

import contextlib
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from convladder.errors import ConvladderError
from convladder.processors import count_processors
from convladder.signals import SECONDS_TO_END, SIGNALS
from convladder.startup import is_foreign

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 128  # small files: fewer are done before a process has started
SECONDS_A_START = 0.5  # of processors, to start two processes
SECONDS_TO_JUDGE = 0.05
SECONDS_A_CHUNK = 0.02


def map_files(
    function: Callable[[Item], Result], items: Sequence[Item], chunk_size: int = CHUNK
) -> Iterator[Result | None]:
    """Call a function with every item, on all processors, and give the results in order.

    Args:
        function: Picklable, and importable without the caller's main module.
        items: Picklable.
        chunk_size: Items a message, at least 1; as few as this are worked on in the calling process.

    Yields:
        What the function returned; None for an item that ended the process it was worked on in, as a file may that
        makes a decoder crash.

    Raises:
        ConvladderError: No process can be started; exit status 1.
        Exception: What the function raised.
    """
    if len(items) <= chunk_size:
        yield from map(function, items)
        return
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    with Processes(function, min(count_processors(), len(chunks))) as processes:
        processes.wait()
        for results in processes.threads.map(processes.work, chunks):
            yield from results


def stream_files(
    function: Callable[[Item], Result], items: Iterable[Item | None], total: int = 0
) -> Iterator[tuple[Item | None, Result | None]]:
    """Like `map_files`, for items of any number, that are taken as results are: the first result at once.

    The calling process works alone until what is left is worth starting others; where that is not known, until it has
    worked as long as they take to start. It goes on while they do.

    Args:
        function: Picklable, and importable without the caller's main module.
        items: Picklable. At most some hundreds are taken ahead. None among them says that there may be no more for a
            while: the results of all before it are given before another is asked for.
        total: How many there are; 0 where that is not known.

    Yields:
        An item, and its result as of `map_files`; for a None, twice None, after all results before it.
    """
    remaining = iter(items)
    spent, count = 0.0, 0
    for item in remaining:
        if item is None:
            yield None, None
            continue
        began = time.perf_counter()
        result = function(item)
        spent += time.perf_counter() - began
        count += 1
        yield item, result
        left = (total - count) * spent / count if total else spent
        if spent > SECONDS_TO_JUDGE and left > SECONDS_A_START * (3 if total else 1):
            break
    else:
        return
    size = min(CHUNK, max(1, round(SECONDS_A_CHUNK * count / spent)))
    ahead: deque[tuple[Future[list[Result | None]], list[Item]]] = deque()
    number = count_processors()
    with Processes(function, number) as processes:
        for chunk, paused in _chunks(remaining, size):
            if chunk:
                ahead.append((processes.threads.submit(processes.work, chunk), chunk))
            while len(ahead) > (0 if paused else 2 * number):
                future, oldest = ahead.popleft()
                # What no process has begun with is done here: it is so while they start.
                yield from zip(oldest, map(function, oldest) if future.cancel() else future.result(), strict=True)
            if paused:
                yield None, None


def _chunks(items: Iterator[Item | None], size: int) -> Iterator[tuple[list[Item], bool]]:
    """The items, so many at a time, and whether a pause follows, as it does at the end."""
    chunk: list[Item] = []
    for item in items:
        if item is not None:
            chunk.append(item)
        if item is None or len(chunk) == size:
            yield chunk, item is None
            chunk = []
    yield chunk, True


class Processes:
    """Workers that wait for chunks, each fed by a thread; they end with the context.

    Args:
        function: Picklable, and importable without the caller's main module. It is called with each item of a chunk.
        count: How many.

    Attributes:
        threads: So many, to call `work` in.
    """

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        self._function = partial(_map, function)
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.threads = ThreadPoolExecutor(count)
        self._starts = [self.threads.submit(lambda: self._idle.put(self._start())) for _ in range(count)]

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().end()

    def _start(self) -> "Worker":
        worker = Worker(self._function, stderr=subprocess.DEVNULL)
        try:
            word, content = worker.hear()
        except Ended as error:
            raise ConvladderError(
                f"A process to decode pictures ended at once ({sys.executable}, status {error.status}). "
                "Expected room for another process: free some memory.",
                exit_status=1,
            ) from error
        if word == "raised":
            worker.end()
            raise content
        return worker

    def wait(self) -> None:
        """Wait until all have started; raise what kept one from it."""
        for start in self._starts:
            start.result()

    def work(self, chunk: Sequence[Any]) -> list[Any]:
        """The function's results, in a process; None for an item that ends it."""
        for start in self._starts:
            if start.done():
                start.result()  # a process that cannot be started would be waited for without end
        worker = self._idle.get()
        try:
            worker.send(chunk)
            return list(worker.result())
        except Ended:
            worker = self._start()
            if len(chunk) == 1:
                return [None]
        finally:
            self._idle.put(worker)
        return [result for item in chunk for result in self.work([item])]


def _map(function: Callable[[Item], Result], _: "Tell", items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]


Tell = Callable[[str, Any], None]  # takes a word, and what belongs to it


class Ended(Exception):  # noqa: N818 (for whoever expects that, it is no error)
    """A worker ended before it had a result.

    Args:
        status: Its exit status, or minus the number of the signal that ended it.
    """

    def __init__(self, status: int) -> None:
        killed = "its process was killed, as the system does where memory runs out"
        how = f"signal {-status}" if status < 0 else f"status {status}"
        super().__init__(killed if status == -signal.SIGKILL else f"its process ended with {how}")
        self.status = status


class Worker:
    """A process that calls one function, again and again; a thread of this process reads what it says.

    Args:
        function: Called as `function(tell, *arguments)`; `tell(word, content)` tells the caller something meanwhile.
            Picklable, and importable without the caller's main module; a `partial` carries what all calls need.
        settings: As subprocess.Popen takes them.
    """

    def __init__(self, function: Callable[..., Any], **settings: Any) -> None:
        # In a group of its own, because a terminal sends Ctrl-C to all processes of the caller's group.
        self._process = start_interpreter("from convladder.workers import serve; serve()", process_group=0, **settings)
        self._heard: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._idle = False
        try:
            self._write(function)
        except BaseException:
            self.end()
            raise

    @property
    def alive(self) -> bool:
        """Whether it waits for the next arguments, and has not ended."""
        return self._idle and self._process.poll() is None

    def send(self, *arguments: Any) -> None:
        """Have it call the function; `hear` and `result` give what comes of it."""
        self._idle = False
        self._write(arguments)

    def hear(self, seconds: float | None = None) -> tuple[str, Any]:
        """Wait for the next that it says.

        Returns:
            A word, and what belongs to it: "ready" once it has imported the function; "result", or "raised" and an
            exception; between them what the function tells.

        Raises:
            Ended: It has, and nothing of it is left.
            TimeoutError: It said nothing in so many seconds.
        """
        try:
            word, content = self._heard.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if word == "ended":
            self._heard.put((word, content))  # for whoever asks again
            self.end()
            raise Ended(self._process.returncode)
        self._idle = word in ("result", "raised")
        return word, content

    def result(self) -> Any:
        """Wait for what the function returns, or raise what it raised, or Ended."""
        while True:
            word, content = self.hear()
            if word == "result":
                return content
            if word == "raised":
                raise content

    def interrupt(self) -> None:
        """Send it SIGINT, which it ignores where the function does not heed it."""
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """End it: at once where it works; else as any Python ends, which removes temporary files of libraries."""
        if not self._idle:
            self._process.kill()
        try:
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # type: ignore[union-attr]
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SECONDS_TO_END)
        finally:
            self._process.kill()
            self._process.wait()
            self._listener.join()
            self._process.stdout.close()  # type: ignore[union-attr]

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # EOFError, or whatever half a message raises
            while True:
                self._heard.put(pickle.load(self._process.stdout))  # type: ignore[arg-type]
        self._heard.put(("ended", None))

    def _write(self, content: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is heard next
            _Pickler(self._process.stdin, pickle.HIGHEST_PROTOCOL).dump(content)  # type: ignore[arg-type]
            self._process.stdin.flush()  # type: ignore[union-attr]


class _Pickler(pickle.Pickler):
    """Passes on where the rows of a mapped file are, not what is in them."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.memmap) or value.filename is None:
            return NotImplemented
        if not os.path.exists(value.filename):  # data that are not cached are in a file without a name
            return np.array, (np.asarray(value).copy(),)
        whole = value.base if isinstance(value.base, np.memmap) else value
        offset = whole.offset + value.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
        return np.memmap, (value.filename, value.dtype, "r", offset, value.shape)


def serve() -> None:
    """What a Worker's process does: read a function and call it with what is read next, until the pipe is closed."""
    for number in SIGNALS:  # the caller answers them, and passes them on
        signal.signal(number, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not a reply
    working = threading.Event()
    threading.Thread(target=_end_with_caller, args=[working], daemon=True).start()

    def write(reply: bytes) -> None:
        replies.write(reply)  # in one piece, because other threads may tell something too
        replies.flush()

    def tell(word: str, content: Any) -> None:
        try:
            write(pickle.dumps((word, content), pickle.HIGHEST_PROTOCOL))
        except BrokenPipeError:  # the caller has ended: the function must not take this for an error of its work
            os._exit(1)

    def answer(word: str, function: Callable[..., Any], *arguments: Any) -> None:
        working.set()
        try:
            reply = pickle.dumps((word, function(*arguments)), pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            reply = pickle.dumps(("raised", _portable(error)))
        working.clear()
        write(reply)

    functions: list[Callable[..., Any]] = []
    with contextlib.suppress(EOFError, BrokenPipeError, pickle.UnpicklingError):
        answer("ready", lambda: functions.append(pickle.load(requests)))
        while functions:
            answer("result", functions[0], tell, *pickle.load(requests))


def _portable(error: Exception) -> Exception:
    """The exception, or its text in another, where the caller could not read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_caller(working: threading.Event) -> None:
    pipe = select.poll()
    pipe.register(0, 0)  # for no event but that the other end is closed; the main thread reads
    pipe.poll()
    working.wait(SECONDS_TO_END)  # one that does not work has so long to end by itself
    os._exit(1)


def start_interpreter(code: str, **settings: Any) -> "subprocess.Popen[bytes]":
    """Start a process that runs `code`, speaks through its standard input and output, and finds the same modules.

    Args:
        code: What it runs.
        settings: As subprocess.Popen takes them.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: `-c` would put the current directory first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path())},
        **settings,
    )


def search_path() -> list[str]:
    """Where this process finds modules, but for the current directory and the folder of the caller's script."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = os.path.dirname(os.path.realpath(main)) if main else None
    package = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
    return [
        entry
        for entry in sys.path
        if os.path.realpath(entry) == package
        or (os.path.isabs(entry) and not is_foreign(entry) and os.path.realpath(entry) != script)
    ]
