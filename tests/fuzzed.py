"""How the tests use hypothesis: the same cases every time, no deadline, and nothing left on the disk."""

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

_home = tempfile.mkdtemp(prefix="hypothesis-")  # for its tables of characters
atexit.register(shutil.rmtree, _home, ignore_errors=True)
set_hypothesis_home_dir(_home)

NUMBERS = [bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff", b"\0\0\1", b"\1\0\0\0"]
TEXTS = [b'"', b"[" * 2000, b'{"a":' * 2000, b"null", b"NaN", b"1e999", b"-1", b"9" * 5000, b"\0", b"\r\n", b"\x1b[31m"]


def cases(count: int) -> settings:
    """Settings of a test of so many cases."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def mutated(draw: Any, seeds: Sequence[bytes]) -> bytes:
    """A valid input with up to four parts of it removed, replaced or put in; now and then any bytes."""
    if draw(st.integers(0, 19)) == 0:
        return bytes(draw(st.binary(max_size=200)))
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        stop = start + draw(st.sampled_from([0, 1, 1, 2, 4, 4, 16, len(content)]))
        content[start:stop] = draw(st.binary(max_size=8) | st.sampled_from(NUMBERS) | st.sampled_from(TEXTS))
    return bytes(content)


# What may stand where JSON of another kind is expected.
ODD: list[Any] = [
    None,
    True,
    -1,
    10**400,
    28.0,
    float("nan"),
    float("inf"),
    "",
    "odd",
    [],
    [[]],
    {},
    {"a": 1},
    [None, "b"],
    "\0\x1b[31m",
]


def places(content: Any) -> list[tuple[Any, ...]]:
    """The paths to all values in JSON, of a list to the first two."""
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:2]) if isinstance(content, list) else ()
    )
    return [(), *((key, *rest) for key, value in inner for rest in places(value))]


def with_odd(content: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """The same JSON with another value at a place."""
    if not place:
        return odd
    copy = content.copy()
    copy[place[0]] = with_odd(content[place[0]], place[1:], odd)
    return copy
