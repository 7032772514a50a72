"""Standard output and standard error as the command line uses them.

Whatever a name holds, it is shown as it is and on one line; whatever encoding a terminal has, it gets text; a stream
that cannot be written is no traceback.
"""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from convladder.markup import printable

# Plain twins of the signs in our own tables and sentences, for terminals that lack them.
TWINS = {"–": "-", "−": "-", "×": "x", "·": ".", "…": "..."}
ENCODING_ERRORS = "convladder.twins"


class OutputError(OSError):
    """Standard output cannot be written."""


class PlainConsole(Console):
    """Shows text as it is: `[brackets]` are no markup, `:words:` no pictures, and a name's line break breaks no line.

    Where a line break is meant, a `Text` holds it.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """What becomes of every line, and of every cell of a table."""
        plain = {"markup": False, "emoji": False, "highlight": False, "highlighter": None}
        return super().render_str(printable(text), **options | plain)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Make the three standard streams fit to be used, until the context ends.

    Standard output raises an OutputError where it cannot be written. Standard error never does: what cannot be said
    there is not worth a training.
    """
    _open_what_is_closed()
    with (
        contextlib.redirect_stdout(_rewrapped(sys.stdout, _Output)),
        contextlib.redirect_stderr(_rewrapped(sys.stderr, _Remarks)),
    ):
        yield


class _Output(io.FileIO):
    """Standard output: the first failure is raised; what comes after it is dropped, for no one would read it."""

    failed = False

    def write(self, data: Any) -> int:
        if not self.failed:
            try:
                return super().write(data)
            except OSError as error:
                self.failed = True
                raise OutputError(error.errno, error.strerror) from error
        return memoryview(data).nbytes


class _Remarks(io.FileIO):
    """Standard error. Its failures are ignored, because there is nowhere left to report them."""

    def write(self, data: Any) -> int:
        with contextlib.suppress(OSError):
            return super().write(data)
        return memoryview(data).nbytes


def _rewrapped(stream: TextIO, kind: type[io.FileIO]) -> TextIO:
    """The same file, in the same encoding, written by `kind`; what its encoding lacks is spelt out."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # no file: it is another's to look after
        return stream
    stream.flush()
    raw = kind(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, ENCODING_ERRORS, line_buffering=raw.isatty() or kind is _Remarks
    )


def _open_what_is_closed() -> None:
    """Give a number of its own to each closed stream: else the next file opened gets it, and is written into.

    What is to be read or written in vain fails as it does for a closed one; remarks are dropped.
    """
    for number, (name, mode) in enumerate((("stdin", os.O_WRONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, mode)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            stream = os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def _spell_out(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    twin = TWINS.get(error.object[error.start])
    return (twin, error.start + 1) if twin else codecs.backslashreplace_errors(error)


codecs.register_error(ENCODING_ERRORS, _spell_out)
