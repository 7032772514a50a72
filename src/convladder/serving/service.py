"""The service: models, and the work that requests ask of them.

Work of a fraction of a millisecond, one small picture or a few, is done at once on the event loop, and pictures of
requests that arrive together go through the network together. All else goes to threads, so that a photograph does
not keep others waiting. What that buys stands in docs/decisions/0009-serving.md.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from convladder.data.decoding import name_defect, open_picture, read_pixels
from convladder.errors import ConvladderError, check_choice
from convladder.inference.classifier import Answers, Classifier, join_answers
from convladder.processors import count_processors
from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.refusals import Refusal, busy
from convladder.serving.uploads import Upload

QUICK_SECONDS = 0.001  # of one image through the network: at most this is done on the event loop
QUICK_BYTES, QUICK_PIXELS, QUICK_IMAGES = 32_768, 65_536, 4  # of a request, likewise
CHUNK_BYTES, CHUNK_IMAGES = 131_072, 16  # what a thread takes on at a time
BATCH_IMAGES = 64
BATCH_PLACES = 1 << 20  # of a batch's images together, so that the maps between layers stay small

Pixels = npt.NDArray[np.uint8]
Answer = Answers | Refusal  # for one picture


class Model:
    """A classifier under its name, and the images that wait for it.

    Args:
        name: As requests name it.
        classifier: It is asked for an image at once, so that the first request finds it warm.
    """

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name = name
        self.classifier = classifier
        height, width, _ = classifier.input_shape
        self.batch = max(1, min(BATCH_IMAGES, BATCH_PLACES // (height * width)))
        self.waiting: list[tuple[Pixels, asyncio.Future[Answers]]] = []
        blank = np.zeros((1, *classifier.input_shape), dtype=np.uint8)
        classifier.predict_probabilities(blank)
        start = time.perf_counter()
        classifier.predict_probabilities(blank)
        self.quick = time.perf_counter() - start < QUICK_SECONDS

    def predict(self, images: Pixels, check: Callable[[], None] = lambda: None) -> Answers:
        """Answers for images of any number, a batch at a time; `check` may raise between two of them."""
        answers = []
        for start in range(0, len(images), self.batch):
            check()
            answers.append(self.classifier.answer(images[start : start + self.batch]))
        return join_answers(answers)

    async def predict_together(self, images: Pixels) -> Answers:
        """Answers, computed with those of all requests that are at this point in this turn of the event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answers] = loop.create_future()
        self.waiting.append((images, future))
        if len(self.waiting) == 1:
            loop.call_soon(self._predict_waiting)
        return await future

    def _predict_waiting(self) -> None:
        waiting, self.waiting = self.waiting, []
        try:
            images = waiting[0][0] if len(waiting) == 1 else np.concatenate([images for images, _ in waiting])
            answers = self.predict(images)
        except Exception as error:
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for images, future in waiting:
            stop = start + len(images)
            if not future.done():  # it is where its request was cancelled
                future.set_result(answers.part(start, stop))
            start = stop


class Service:
    """The models that a server answers with, as routes find them in `request.app.state.service`.

    Args:
        classifiers: By name; the first answers where a request names none.
        limits: Of pixels, images and seconds a request.
        observations: Counts every image.
        workers: How many processes share the processors, each with its part of the threads.
    """

    def __init__(
        self, classifiers: Mapping[str, Classifier], limits: Limits, observations: Observations, workers: int = 1
    ) -> None:
        self.classifiers = dict(classifiers)
        self.models = {name: Model(name, classifier) for name, classifier in classifiers.items()}
        self.limits = limits
        self.observations = observations
        self.threads = ThreadPoolExecutor(max(1, count_processors() // workers), thread_name_prefix="predict")

    def find(self, name: str | None = None) -> tuple[str, Classifier]:
        """The name of a model, and its classifier; as `find_model`."""
        model = self.find_model(name)
        return model.name, model.classifier

    def find_model(self, name: str | None = None) -> Model:
        """The model of that name; the first where none is named.

        Raises:
            Refusal: No model has that name; 404.
        """
        if not self.models:
            raise Refusal(404, "no_such_model", "No model is served here, only the lesson at /learn/.")
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            try:
                check_choice("model", name if len(name) <= 100 else f"{name[:100]}…", self.models)
            except ConvladderError as error:
                raise Refusal(404, "no_such_model", str(error)) from error
        return self.models[name]

    async def classify(self, model: Model, uploads: Sequence[Upload]) -> list[Answer]:
        """What a model makes of pictures: its answer for each, or why it was refused.

        Raises:
            Refusal: The pictures have too many pixels together, or took too long.
        """
        answers = await self._classify_quickly(model, uploads)
        if answers is None:
            loop = asyncio.get_running_loop()
            allowance = Allowance(self.limits.pixels, self.limits.seconds)
            jobs = (
                loop.run_in_executor(self.threads, _classify, model, chunk, allowance) for chunk in _chunks(uploads)
            )
            answers = [answer for part in await asyncio.gather(*jobs) for answer in part]
        self.observations.images.labels(model.name).inc(sum(not isinstance(answer, Refusal) for answer in answers))
        return answers

    async def _classify_quickly(self, model: Model, uploads: Sequence[Upload]) -> list[Answer] | None:
        """On the event loop, if that takes a fraction of a millisecond."""
        small = len(uploads) <= QUICK_IMAGES and sum(len(data) for _, data in uploads) <= QUICK_BYTES
        if not (small and model.quick):
            return None
        try:
            decoded = _decode(model.classifier, uploads, Allowance(QUICK_PIXELS, self.limits.seconds))
        except Refusal:  # few bytes, and many pixels
            return None
        images = _stack(decoded)
        return _merge(decoded, None if images is None else await model.predict_together(images))

    async def decode(self, model: Model, upload: Upload) -> Pixels:
        """The pixels that a model takes of a picture, of its input shape.

        Raises:
            Refusal: It is no picture, has too many pixels, or took too long.
        """
        allowance = Allowance(self.limits.pixels, self.limits.seconds)
        loop = asyncio.get_running_loop()
        [decoded] = await loop.run_in_executor(self.threads, _decode, model.classifier, [upload], allowance)
        if isinstance(decoded, Refusal):
            raise decoded
        return decoded

    async def predict(self, model: Model, images: Pixels) -> Answers:
        """Answers for images that need no decoding."""
        self.observations.images.labels(model.name).inc(len(images))
        if len(images) <= QUICK_IMAGES and model.quick:
            return await model.predict_together(images)
        loop = asyncio.get_running_loop()
        check = Allowance(self.limits.pixels, self.limits.seconds).check_time
        return await loop.run_in_executor(self.threads, model.predict, images, check)


class Allowance:
    """What is left to one request, of pixels and of time.

    Args:
        pixels: Of all its pictures.
        seconds: From now on.
    """

    def __init__(self, pixels: int, seconds: float) -> None:
        self.pixels = self.left = pixels
        self.seconds = seconds
        self.until = time.monotonic() + seconds
        self.lock = threading.Lock()

    def spend(self, pixels: int) -> None:
        """Raise a Refusal if that is more than is left."""
        self.check_time()
        with self.lock:
            self.left -= pixels
        if self.left < 0:
            raise Refusal(413, "too_many_pixels", f"The images have more than {self.pixels:,} pixels together.")

    def check_time(self) -> None:
        """Raise a Refusal if the time is over."""
        if time.monotonic() > self.until:
            raise busy(f"The answer took longer than {self.seconds:g} s. Ask for fewer images at a time.", 5)


def _chunks(uploads: Sequence[Upload]) -> Iterator[list[Upload]]:
    chunk: list[Upload] = []
    size = 0
    for upload in uploads:
        chunk.append(upload)
        size += len(upload[1])
        if len(chunk) == CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _classify(model: Model, uploads: Sequence[Upload], allowance: Allowance) -> list[Answer]:
    decoded = _decode(model.classifier, uploads, allowance)
    images = _stack(decoded)
    return _merge(decoded, None if images is None else model.predict(images, allowance.check_time))


def _stack(decoded: Sequence[Pixels | Refusal]) -> Pixels | None:
    images = [item for item in decoded if not isinstance(item, Refusal)]
    return images[0][np.newaxis] if len(images) == 1 else np.stack(images) if images else None


def _merge(decoded: Sequence[Pixels | Refusal], answers: Answers | None) -> list[Answer]:
    """The refusals of those that were refused, and an answer for each of the others, if there are any."""
    count = 0 if answers is None else len(answers.probabilities)
    rows = (answers.part(row, row + 1) for row in range(count) if answers)
    return [item if isinstance(item, Refusal) else next(rows) for item in decoded]


def _decode(classifier: Classifier, uploads: Sequence[Upload], allowance: Allowance) -> list[Pixels | Refusal]:
    decoded: list[Pixels | Refusal] = []
    for _, data in uploads:
        try:
            with open_picture(data) as picture:
                allowance.spend(picture.width * picture.height)
                decoded.append(read_pixels(picture, classifier.input_shape, classifier.fit))
        except ConvladderError as error:
            if isinstance(error.__cause__, Refusal):  # by the allowance: it ends the request, not this picture alone
                raise error.__cause__ from None
            code = name_defect(error).replace(" ", "_")
            decoded.append(Refusal({"no_picture": 415, "too_large": 413}.get(code, 422), code, str(error)))
    return decoded
