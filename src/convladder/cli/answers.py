"""Answers in a file: it appears whole, and the same command goes on where a process that was killed has stopped."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from convladder.data.journal import Journal
from convladder.errors import ConvladderError
from convladder.files import lock, unwritable, whole_file


class AnswerFile:
    """The answers of `predict --output`: what is printed in its context. Until all are there they stand in FILE.part.

    Args:
        path: The file.
        model: The file of the model.
        options: What else the answers depend on.

    Raises:
        ConvladderError: FILE.part belongs to another model or other options, or it cannot be written.
    """

    def __init__(self, path: Path, model: Path, options: list[Any]) -> None:
        self.path, self._part = path, path.with_name(f"{path.name}.part")
        self._printed = io.StringIO()
        self._title = ""
        work = [hashlib.sha256(model.read_bytes()).hexdigest(), *options]
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, descriptor)
                lock(descriptor)
                self._journal = Journal(self._part, work, self._refuse)
            except BlockingIOError:
                told = f"{self._part} is being written by another process. Expected another file."
                raise ConvladderError(told) from None
            except OSError as error:
                raise unwritable(self._part, error) from error
            self._unlock = stack.pop_all()
        self.count = 0
        self.failed = False

    def _refuse(self) -> None:
        raise ConvladderError(
            f"{self._part} was begun with another model or other options. Expected the same, to go on with it: remove "
            "it, or give another --output."
        )

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Take what is printed. At the end the file appears; if the work ends early, FILE.part stays."""
        try:
            with contextlib.redirect_stdout(self._printed):
                yield
            try:
                self._journal.close()
            except OSError as error:
                raise unwritable(self._part, error) from error
            with whole_file(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
                file.write(self._title)
                with self._part.open(encoding="utf-8") as part:
                    next(part)  # which work it is
                    file.writelines(json.loads(line)[3] for line in part)
            self._part.unlink()
        finally:
            with contextlib.suppress(OSError):
                self._journal.close()
            if not self.count and not self._journal.entries:  # there is nothing to go on with
                self._part.unlink(missing_ok=True)
            self._unlock.close()

    def skip(self, paths: Iterable[str | None]) -> Iterator[str | None]:
        """The paths that have no answer yet, or whose file has changed since, and all after them."""
        self._title = self._take()
        known = iter(list(self._journal.entries))
        for path in paths:
            if path is not None and (entry := next(known, None)) is not None:
                if entry[:2] == [path, _stamp(path)]:
                    self.count += 1
                    self.failed |= entry[2]
                    continue
                self._journal.cut(self.count)
                known = iter([])
            yield path
        if next(known, None) is not None:  # fewer paths than before
            self._journal.cut(self.count)

    def keep(self, path: str, failed: bool) -> None:
        """Keep what was printed for a path."""
        try:
            self._journal.add([path, _stamp(path), failed, self._take()])
        except OSError as error:
            raise unwritable(self._part, error) from error
        self.count += 1
        self.failed |= failed

    def kept(self) -> str:
        """What to tell where a signal has ended the work."""
        return f"{self._part} holds {self.count:,} answers; the same command goes on from there."

    def _take(self) -> str:
        printed = self._printed.getvalue()
        self._printed.seek(0)
        self._printed.truncate()
        return printed


def _stamp(path: str) -> list[int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # there is none, or the name holds a zero byte
        return None
    return [status.st_size, status.st_mtime_ns]
