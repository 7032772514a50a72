"""Paths on standard input: each is read as it was written, whatever ends it, and no line is too long to be refused."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

import convladder as cl
from convladder.data.sources import LONGEST_PATH, read_paths


def paths(content: bytes, end: bytes) -> list[str]:
    """What is read from a pipe into which a program writes this, without the looks that find nothing."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as program:
            program.write(content)

    with os.fdopen(reading, "rb") as pipe, ThreadPoolExecutor() as pool:
        pool.submit(write)
        return [path for path in read_paths(pipe.fileno(), end) if path is not None]


@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n"])
def test_lines_end_as_on_any_system_and_the_last_may_lack_its_end(last: bytes) -> None:
    assert paths(b"a b.png\r\n\n  \n c.pngX\nd\r.png" + last, b"\n") == ["a b.png", " c.pngX", "d\r.png"]


def test_after_nul_a_name_may_hold_line_ends() -> None:
    assert paths(b"a\n.png\0\0b.png\r\0c\xff.png", b"\0") == ["a\n.png", "b.png\r", "c\udcff.png"]


def test_a_line_that_is_no_path_is_refused() -> None:
    with pytest.raises(cl.ConvladderError, match="not a list of paths"):
        paths(b"x" * (LONGEST_PATH + 1), b"\n")
