"""The plan of a job: all its inputs, cut into numbered parts, each of which becomes one file of answers.

The output holds the plan before it holds any part, so whoever goes on with the job, on whatever machines, has the same
parts. A part is there, whole, or it is not. So none is missing in the end, and none is there twice.

    _plan.json          what the answers depend on
    _inputs.jsonl       the inputs, one on each line
    part-000000.parquet the answers for the first part
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from convladder.errors import ConvladderError
from convladder.files import parse_json, scratch_folder
from convladder.predicting.answers import count_errors
from convladder.predicting.places import Place
from convladder.predicting.sources import Input
from convladder.urls import is_url

PLAN, INPUTS = "_plan.json", "_inputs.jsonl"
FORMAT = 1
PART = 1000  # pictures: what is predicted again at most, for each actor, after a kill
FEWEST, SPREAD = 128, 64  # a small job has parts of at least so many pictures, and about so many parts
MOST_CUTS = 8  # of a row group, because each part reads it from its beginning
READERS = 16  # threads that look at finished parts
WORDS = {"model": "another model", "inputs": "other pictures", "folder": "pictures below another folder"}


@dataclass(frozen=True)
class Part:
    """Some of the inputs.

    Attributes:
        number: From 0.
        offset: Where its lines begin in the file of inputs, in bytes.
        length: Of its lines, in bytes.
        start: The first row of a row group that belongs to it; 0 for paths.
        pictures: How many.
    """

    number: int
    offset: int
    length: int
    start: int
    pictures: int

    def name(self, ending: str) -> str:
        """The name of its file."""
        return f"part-{self.number:06}{ending}"


@dataclass(frozen=True)
class Plan:
    """All parts of a job, and which of them are there.

    Attributes:
        parts: Those that are left to do.
        pictures: In all parts.
        done: In those that are there.
        unreadable: Of these, how many have an error for an answer.
    """

    parts: Sequence[Part]
    pictures: int
    done: int
    unreadable: int


def make_plan(place: Place, inputs: Iterable[Input], work: Mapping[str, Any], ending: str) -> Plan:
    """Write the plan of a job, or find that the output holds it already.

    Args:
        place: The output.
        inputs: All inputs.
        work: What else the answers depend on.
        ending: Of the names of parts.

    Raises:
        ConvladderError: There are no inputs; or the output holds another job, or something else.
    """
    before = _read_plan(place)
    with scratch_folder() as scratch:
        spool = scratch / INPUTS
        pictures, details = _spool(spool, inputs)
        work = {"format": FORMAT, **work, **details}
        if before is None:
            place.create()
            size = min(PART, max(FEWEST, -(-pictures // SPREAD)))
            place.write(INPUTS, spool)
            place.write(PLAN, json.dumps(work | {"pictures_a_part": size}, indent=2).encode())
        else:
            size = before.pop("pictures_a_part")
            _compare(before, work, place)
        with spool.open("rb") as file:
            parts = list(_cut(file, size))
    names = place.names() if before else set()
    there = [part for part in parts if part.name(ending) in names]
    with ThreadPoolExecutor(READERS) as pool:
        counts = dict(zip(there, pool.map(lambda part: _look_at(place, part, ending), there), strict=True))
    kept = {part: errors for part, errors in counts.items() if errors is not None}
    done = sum(part.pictures for part in kept)
    return Plan([part for part in parts if part not in kept], pictures, done, sum(kept.values()))


def read_part(content: bytes) -> list[Input]:
    """The inputs of a part, from its bytes in the file of inputs."""
    return [json.loads(line) for line in content.splitlines()]


def _spool(path: Path, inputs: Iterable[Input]) -> tuple[int, dict[str, Any]]:
    """Write all inputs to a file; count the pictures, and tell what the answers depend on."""
    pictures, relative = 0, False
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for one in inputs:
            line = json.dumps(one).encode() + b"\n"
            digest.update(line)
            file.write(line)
            pictures += one["rows"] if isinstance(one, dict) else 1
            name = one["parquet"] if isinstance(one, dict) else one
            relative |= not (is_url(name) or os.path.isabs(name))
    if not pictures:
        raise ConvladderError("There are no pictures in what was given. Expected at least one.")
    return pictures, {"inputs": digest.hexdigest(), "folder": os.getcwd() if relative else None}


def _read_plan(place: Place) -> dict[str, Any] | None:
    """The plan that a place holds; None if there is nothing, or only what a kill left before the plan was written."""
    names = place.names()
    if PLAN not in names:
        if more := sorted(names - {INPUTS}):
            raise ConvladderError(
                f"{place.name} holds {more[0]!r}, and no answers of `predict --ray`. Expected a new folder, an empty "
                "one, or one that the same command has begun."
            )
        return None
    try:
        plan = parse_json(place.read(PLAN).decode())
        size = plan["pictures_a_part"]
        if not (isinstance(plan, dict) and isinstance(size, int) and size > 0):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise ConvladderError(
            f"{place.name}/{PLAN} is damaged. Expected what `predict --ray` wrote: give another --output."
        ) from error
    return dict(plan)


def _compare(before: Mapping[str, Any], work: Mapping[str, Any], place: Place) -> None:
    differing = [key for key in work if before.get(key) != work[key]]
    if differing:
        told = WORDS.get(differing[0], f"other options ({differing[0]})")
        raise ConvladderError(
            f"{place.name} was begun with {told}. Expected the same, to go on with it: remove it, or give another "
            "--output."
        )


def _cut(file: BinaryIO, size: int) -> Iterator[Part]:
    """Cut the inputs into parts of about so many pictures."""
    number = offset = length = count = 0

    def ended() -> Iterator[Part]:
        nonlocal number, offset, length, count
        if count:
            yield Part(number, offset, length, 0, count)
            number += 1
        offset, length, count = offset + length, 0, 0

    for line in file:
        if line.startswith(b'"'):  # a path
            length, count = length + len(line), count + 1
            if count == size:
                yield from ended()
            continue
        yield from ended()
        rows = json.loads(line)["rows"]
        step = max(size, -(-rows // MOST_CUTS))
        for start in range(0, rows, step):
            yield Part(number, offset, len(line), start, min(step, rows - start))
            number += 1
        offset += len(line)
    yield from ended()


def _look_at(place: Place, part: Part, ending: str) -> int | None:
    """How many errors a part holds that is there; None if it is damaged."""
    rows, errors = count_errors(place.read(part.name(ending)), ending)
    return errors if rows == part.pictures else None
