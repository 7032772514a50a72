"""Standard output and standard error as the command line uses them.

Any name is shown as it is, on one line. A terminal gets text in its own encoding. A stream that cannot be written
causes a message, not a traceback.
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

# ASCII replacements for the signs in our own tables and sentences, for terminals that lack them.
TWINS = {"–": "-", "−": "-", "×": "x", "·": ".", "…": "..."}
ENCODING_ERRORS = "convladder.twins"


class OutputError(OSError):
    """Standard output cannot be written."""


class PlainConsole(Console):
    """Shows text as it is: no markup in `[brackets]`, no emoji for `:words:`, and no line breaks from names.

    Intended line breaks stand in a `Text`.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Renders every line and every cell of a table."""
        plain = {"markup": False, "emoji": False, "highlight": False, "highlighter": None}
        return super().render_str(printable(text), **options | plain)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Make the three standard streams usable until the context ends.

    Standard output raises an OutputError if it cannot be written. Standard error never raises, because a lost remark
    should not stop a training.
    """
    _open_what_is_closed()
    with (
        contextlib.redirect_stdout(_rewrapped(sys.stdout, _Output)),
        contextlib.redirect_stderr(_rewrapped(sys.stderr, _Remarks)),
    ):
        yield


class _Output(io.FileIO):
    """Standard output: the first failure is raised. Later output is dropped, because nobody would read it."""

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
    """The same file in the same encoding, written by `kind`. Characters that the encoding lacks are escaped."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a file: somebody else's stream
        return stream
    stream.flush()
    raw = kind(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, ENCODING_ERRORS, line_buffering=raw.isatty() or kind is _Remarks
    )


def _open_what_is_closed() -> None:
    """Open each closed stream again, or the next file that is opened would get its number and be written into.

    Reading standard input or writing standard output then still fails, as for a closed stream; remarks are dropped.
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
