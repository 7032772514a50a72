"""An actor: one warm classifier that answers for whole parts, with processes that decode beside it."""

import functools
import itertools
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from convladder import __version__
from convladder.data.decoding import decode_image
from convladder.errors import ConvladderError
from convladder.files import scratch_folder
from convladder.inference.classifier import Classifier
from convladder.predicting.answers import describe, write_answers
from convladder.predicting.places import Place
from convladder.predicting.plan import INPUTS, Part, read_part
from convladder.predicting.sources import Picture, list_pictures
from convladder.urls import is_url, open_url, reason
from convladder.workers import Processes

A_CHUNK = 64  # pictures that a process gets at a time, fewer if they are large
BYTES_A_CHUNK = 1 << 24
READERS = 32  # requests at a time for pictures at URLs
MOST_BYTES = 1 << 28  # of a picture at a URL, which is read whole

Decoded: TypeAlias = npt.NDArray[np.uint8] | ConvladderError | None


@dataclass(frozen=True)
class Job:
    """What all actors need to know.

    Attributes:
        output: Where the parts go.
        ending: Of their names, which tells their format.
        top: Number of classes in an answer; None for all.
        cores: Of each actor.
        gpus: Of each actor.
        folder: What relative paths are relative to.
        any_cost: As for `Classifier`.
        home: The caller's home, on its own machine.
        name: Of the model's file, for messages.
        version: Of convladder where the job was started.
    """

    output: str
    ending: str
    top: int | None
    cores: int
    gpus: float
    folder: str
    any_cost: bool
    home: str | None
    name: str
    version: str = __version__


class Actor:
    """Answers for parts. Ray Data makes one for every `cores` of the cluster, and calls it with a part at a time.

    Args:
        job: The job.
        model: Reference to the bytes of the model's file in Ray's object store.
    """

    def __init__(self, job: Job, model: Any) -> None:
        import ray

        if job.home is not None:
            os.environ["HOME"] = job.home
        self._job = job
        self._fault = ""
        if job.version != __version__:
            self._fault = f"convladder {__version__} is installed there. Expected {job.version}, as where it was called"
            return
        try:
            with scratch_folder() as folder:
                path = folder / job.name
                path.write_bytes(ray.get(model[0]))
                self._classifier = Classifier(path, threads=job.cores, any_cost=job.any_cost, gpu=job.gpus > 0)
            self._place = Place(job.output)
        except (ConvladderError, OSError) as error:
            self._fault = str(error)
            return
        shape, resize = self._classifier.input_shape, self._classifier.resize
        decoding = functools.partial(decode, folder=job.folder, input_shape=shape, resize=resize)
        self._processes = Processes(decoding, job.cores)
        self._readers = ThreadPoolExecutor(READERS)

    def __call__(self, rows: dict[str, npt.NDArray[Any]]) -> dict[str, list[Any]]:
        """Answer for the parts in these rows; for each, how many pictures and errors it has, or what went wrong."""
        results: dict[str, list[Any]] = {"pictures": [], "errors": [], "fault": []}
        for values in zip(*rows.values(), strict=True):
            part = Part(**{name: int(value) for name, value in zip(rows, values, strict=True)})
            fault, errors = self._fault, 0
            if not fault:
                try:
                    errors = self._do(part)
                except (ConvladderError, OSError) as error:
                    fault = str(error)
            results["pictures"].append(part.pictures)
            results["errors"].append(errors)
            results["fault"].append(f"On {socket.gethostname()}: {fault}" if fault else "")
        return results

    def _do(self, part: Part) -> int:
        inputs = read_part(self._place.read(INPUTS, part.offset, part.offset + part.length))
        answers = self._answers(list_pictures(inputs, part.start, part.pictures))
        content, errors = write_answers(answers, self._job.ending)
        self._place.write(part.name(self._job.ending), content)
        return errors

    def _answers(self, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
        decoded = self._decode(pictures)
        while batch := list(itertools.islice(decoded, self._classifier.largest_batch)):
            for (source, _), answer in zip(batch, self._classifier.answer_decoded(batch, self._job.top), strict=True):
                yield describe(source, answer)

    def _decode(self, pictures: Iterable[Picture]) -> Iterator[tuple[str, Decoded]]:
        """The pixels of pictures, in order; a few chunks are decoded ahead."""
        ahead: deque[tuple[list[Picture], Any]] = deque()
        for chunk in _chunks(pictures):
            ahead.append((chunk, self._processes.threads.submit(self._work, chunk)))
            if len(ahead) > 2 * self._job.cores:
                yield from _finish(*ahead.popleft())
        while ahead:
            yield from _finish(*ahead.popleft())

    def _work(self, chunk: list[Picture]) -> list[Decoded]:
        """The pixels of some pictures; None for one that ended the process that decoded it."""
        if any(isinstance(content, str) and is_url(content) for _, content in chunk):
            chunk = list(self._readers.map(fetch, chunk))
        return self._processes.work(chunk)


def _finish(chunk: list[Picture], future: Any) -> Iterator[tuple[str, Decoded]]:
    return zip((source for source, _ in chunk), future.result(), strict=True)


def _chunks(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    chunk: list[Picture] = []
    size = 0
    for picture in pictures:
        chunk.append(picture)
        size += len(picture[1]) if isinstance(picture[1], bytes) else 0
        if len(chunk) == A_CHUNK or size > BYTES_A_CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def fetch(picture: Picture) -> Picture:
    """The same picture with its bytes, if it is at a URL."""
    source, content = picture
    if not (isinstance(content, str) and is_url(content)):
        return picture
    try:
        system, path = open_url(content)
        read: bytes = system.cat_file(path, start=0, end=MOST_BYTES + 1)
    except Exception as error:  # each file system has its own
        return source, ConvladderError(f"Could not read {source} ({reason(error)}).")
    if len(read) > MOST_BYTES:
        return source, ConvladderError(f"Could not read {source} (it has more than {MOST_BYTES:,} bytes).")
    return source, read


def decode(
    picture: Picture, *, folder: str, input_shape: tuple[int, int, int], resize: str
) -> npt.NDArray[np.uint8] | ConvladderError:
    """The pixels of a picture as a Classifier decodes it, or its error."""
    source, content = picture
    if isinstance(content, ConvladderError):
        return content
    if content is None:
        return ConvladderError(f"Could not read {source} (it is null).")
    read = content if isinstance(content, bytes) else Path(folder, content)
    try:
        return decode_image(read, input_shape, resize)
    except ConvladderError as error:  # with the name that was given, as without a cluster
        return ConvladderError(str(error).replace("The picture" if isinstance(read, bytes) else str(read), source, 1))
