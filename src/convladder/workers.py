"""Work on many files, spread over processes.

multiprocessing would do, were it not that its processes import the caller's main module anew (a script without the
usual guard would start itself), or are forked, which is unsafe once TensorFlow runs threads. These are fresh
interpreters that import what the work needs and nothing else. They end when their caller does, however that ends.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from convladder.errors import ConvladderError
from convladder.processors import count_processors
from convladder.startup import is_foreign

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 128  # small files: fewer are done before a process has started
BYTES_A_CHUNK = 16e6
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
    with _Processes(function, min(count_processors(), len(chunks))) as processes:
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
    with _Processes(function, number) as processes:
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


class _Processes:
    """Processes that wait for chunks, each fed by a thread; they end with the context."""

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        self._function = function
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self.threads = ThreadPoolExecutor(count)
        self._starts = [self.threads.submit(lambda: self._idle.put(_start())) for _ in range(count)]

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            _end(self._idle.get())

    def wait(self) -> None:
        """Until all have started; raises what kept one from it."""
        for start in self._starts:
            start.result()

    def work(self, chunk: Sequence[Any]) -> list[Any]:
        """The function's results, in a process; None for an item that ends it."""
        for start in self._starts:
            if start.done():
                start.result()  # a process that cannot be started would be waited for without end
        process = self._idle.get()
        try:
            return _call(process, self._function, chunk)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            _end(process)
            process = _start()
            if len(chunk) == 1:
                return [None]
        finally:
            self._idle.put(process)
        return [result for item in chunk for result in self.work([item])]


def chunk_size(paths: Sequence[str]) -> int:
    """How many of these files make a chunk: 128 small ones, a few photographs."""
    sizes = []
    for path in paths[:: max(1, len(paths) // 16)]:
        with contextlib.suppress(OSError):
            sizes.append(os.stat(path).st_size)
    return int(min(CHUNK, max(1, BYTES_A_CHUNK * len(sizes) // max(1, sum(sizes)))))


def serve() -> None:
    """What such a process does: read a function and items, answer with the results, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to answer
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints shall not be taken for a reply
    pickle.dump("ready", replies)
    replies.flush()
    while True:
        try:
            function, items = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer: Any = [function(item) for item in items]
        except Exception as error:
            answer = error
        pickle.dump(answer, replies)
        replies.flush()


def _start() -> subprocess.Popen[bytes]:
    process = start_interpreter("from convladder.workers import serve; serve()", stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        pickle.load(process.stdout)
    except (EOFError, pickle.UnpicklingError) as error:
        _end(process)
        raise ConvladderError(
            f"A process to decode pictures ended at once ({sys.executable}, status {process.returncode}). "
            "Expected room for another process: free some memory.",
            exit_status=1,
        ) from error
    return process


def _call(process: subprocess.Popen[bytes], function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump((function, list(items)), process.stdin)
    process.stdin.flush()
    answer = pickle.load(process.stdout)
    if isinstance(answer, Exception):
        raise answer
    return list(answer)


def _end(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if stream:
                stream.close()
    process.wait()


def start_interpreter(
    code: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> "subprocess.Popen[bytes]":
    """Start a process that runs `code`, speaks through its standard input and output, and finds the same modules.

    Args:
        code: What it runs.
        environment: Variables beside this process's.
        settings: As subprocess.Popen takes them.
    """
    variables = {**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(search_path())}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: `-c` would put the current directory first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
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
