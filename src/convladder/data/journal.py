"""A journal: what a long work has done so far, so that the same work goes on after its process was killed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convladder.files import parse_json

SECONDS_APART = 0.5  # between two flushes: so much may have to be done again


class Journal:
    """Entries in a file, one line of JSON each, after a line that says which work they belong to.

    Args:
        path: The file. Whole lines that are there already are read; a half-written one is dropped.
        work: What the work depends on. The entries of another work are dropped.
        check: Called before they are; it may raise.

    Attributes:
        entries: What was there already.

    Raises:
        OSError: It cannot be read or written.
    """

    def __init__(self, path: Path, work: Any, check: Callable[[], None] = lambda: None) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        self._flushed = time.monotonic()
        read: list[Any] = []
        self._ends: list[int] = []  # of each line, in bytes
        for line in self._file:
            try:
                if not line.endswith(b"\n"):
                    break
                read.append(parse_json(line.decode()))
            except ValueError:  # a power cut can leave anything
                break
            self._ends.append(len(line) + (self._ends[-1] if self._ends else 0))
        self.entries: list[Any] = read[1:]
        if read[:1] != [work]:
            if read:
                try:
                    check()
                except BaseException:
                    self._file.close()
                    raise
            self.entries = []
            self._file.seek(0)
            self._file.truncate()
            self.add(work)
            self._ends = [self._file.tell()]
        self.cut(len(self.entries))

    def cut(self, count: int) -> None:
        """Drop the entries after the first `count`, before any is added."""
        del self.entries[count:]
        self._file.seek(self._ends[count])
        self._file.truncate()

    def add(self, entry: Any) -> None:
        """Add an entry. A kill may lose those of the last half second."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        if time.monotonic() - self._flushed > SECONDS_APART:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        self._file.close()
