"""The load on the server: a second of it, and what it calls a fault."""

from typing import Any

import pytest
from http_load import run_load
from load import Memory, faults, mix, slow_senders
from serving import digits

import convladder as cl
from served import started


@pytest.mark.long
def test_a_second_of_hostile_load_is_answered_without_a_failure(run: cl.Run) -> None:
    (picture,) = digits(1)
    with started(str(run.path)) as (_, _, port):
        load = run_load(port, mix(run.path.name, 0.5), 4, 1.0, slow_senders(picture))
    assert load.latencies
    assert (load.failures, load.cut) == ([], [])


GOOD: dict[str, Any] = {
    "failures": [],
    "unanswered": [],
    "hostile": {"half a PNG: 422": 3, "two types: 200": 3, "half a GIF: 503": 1},
    "memory_mib": {"slope_mib_a_minute": 1.9},
}
PAIR: dict[str, Any] = GOOD | {"failures": [30.1, 30.2], "killed_at": 30.0, "failed_when_killed": 2}


@pytest.mark.parametrize(
    ("alone", "pair", "said"),
    [
        ({}, {}, ""),
        ({"failures": [3.0]}, {}, "gave 1 answers of 5xx"),
        ({"unanswered": [[3.0, "half a PNG"]]}, {}, "left 1 requests without an answer"),
        ({"hostile": {"half a PNG: 200": 1}}, {}, "answered 'half a PNG' with 200"),
        ({"memory_mib": {"slope_mib_a_minute": 2.1}}, {}, "One server grew by 2.1 MiB"),
        ({}, {"failures": [3.0, 30.1, 30.2]}, "5xx came at [3.0, 30.1, 30.2] s"),
        ({}, {"failures": [30.1] * 62, "failed_when_killed": 62}, "62 requests failed"),
        ({}, {"memory_mib": {"slope_mib_a_minute": 2.1}}, "not killed grew by 2.1 MiB"),
    ],
)
def test_what_should_not_fail_is_said(alone: dict[str, Any], pair: dict[str, Any], said: str) -> None:
    found = list(faults(GOOD | alone, PAIR | pair, {"half a PNG", "half a GIF"}))
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_memory_that_grows_is_told_from_memory_that_jumps() -> None:
    """The first quarter does not count, nor does what is there for a moment."""
    flat = [50.0, 80.0, 100.0, *[120.0, 120.0, 170.0, 120.0] * 10]
    assert Memory(flat, flat).describe()["slope_mib_a_minute"] == 0
    growing = [value + 0.1 * second for second, value in enumerate(flat)]
    assert Memory(growing, growing).describe()["slope_mib_a_minute"] == pytest.approx(6, abs=0.5)
