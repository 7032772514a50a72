"""POST /predict: pictures in, labels out."""

import asyncio
import io
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Request
from starlette.responses import Response

from convladder.classifier import Classifier
from convladder.data.decoding import decode_image, name_defect
from convladder.errors import ConvladderError, check_choice
from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.refusals import Refusal
from convladder.serving.uploads import read_pictures

router = APIRouter()
TOP = 5


class Service:
    """The models that a server answers with, as its routes find them in `request.app.state.service`.

    Args:
        classifiers: By name; the first answers where a request names none.
        limits: Of pictures a request.
        observations: Told of every picture.
    """

    def __init__(self, classifiers: Mapping[str, Classifier], limits: Limits, observations: Observations) -> None:
        self.classifiers = dict(classifiers)
        self.limits = limits
        self.observations = observations
        self.threads = ThreadPoolExecutor(2, thread_name_prefix="predict")

    def find(self, name: str | None) -> tuple[str, Classifier]:
        """A model and its name.

        Raises:
            Refusal: No model has that name; 404.
        """
        if name is None:
            name = next(iter(self.classifiers))
        try:
            check_choice("model", name[:100], self.classifiers)
        except ConvladderError as error:
            raise Refusal(404, "no_such_model", str(error)) from error
        return name, self.classifiers[name]

    async def predict(
        self, name: str | None, pictures: list[tuple[str, bytes]], top: int, all_probabilities: bool
    ) -> dict[str, Any]:
        """What POST /predict answers."""
        name, classifier = self.find(name)
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self.threads, _answer, classifier, pictures, top, all_probabilities)
        self.observations.images.labels(name).inc(len(pictures))
        return {"model": name, "predictions": answers}


class _File:
    """Bytes that open as a path does."""

    def __init__(self, name: str, data: bytes) -> None:
        self.name, self.data = name, data

    def __str__(self) -> str:
        return self.name or "The image"

    def open(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def _answer(
    classifier: Classifier, pictures: list[tuple[str, bytes]], top: int, all_probabilities: bool
) -> list[dict[str, Any]]:
    decoded: list[npt.NDArray[np.uint8]] = []
    answers: list[dict[str, Any]] = []
    for name, data in pictures:
        try:
            decoded.append(decode_image(_File(name, data), classifier.input_shape, classifier.fit))  # type: ignore[arg-type]
            answers.append({"source": name})
        except ConvladderError as error:
            code = name_defect(error).replace(" ", "_")
            refusal = Refusal({"no_picture": 415, "too_large": 413}.get(code, 422), code, str(error))
            if len(pictures) == 1:
                raise refusal from error
            answers.append({"source": name} | refusal.content())
    if not decoded:
        raise Refusal(422, "no_images", f"None of the {len(pictures)} images can be read: {answers[0]['error']}")
    rows = iter(classifier.predict_probabilities(np.stack(decoded)))
    for answer in answers:
        if "error" not in answer:
            probabilities = next(rows)
            order = probabilities.argsort()[::-1][:top]
            answer["label"] = classifier.class_names[order[0]]
            answer["probability"] = float(probabilities[order[0]])
            answer["abstained"] = answer["probability"] < getattr(classifier, "threshold", 0.0)
            answer["top"] = [(classifier.class_names[i], float(probabilities[i])) for i in order]
            if all_probabilities:
                answer["probabilities"] = probabilities.tolist()
    return answers


@router.post("/predict")
async def predict(request: Request) -> Response:
    """Classify one image or many."""
    service: Service = request.app.state.service
    query = request.query_params
    pictures = read_pictures(await request.body(), request.headers.get("content-type", ""), service.limits.images)
    try:
        top = int(query.get("top", TOP))
    except ValueError as error:
        raise Refusal(422, "bad_query", f"top {query['top'][:100]!r} is no number.") from error
    answer = await service.predict(query.get("model"), pictures, max(1, top), query.get("probabilities") == "true")
    return Response(json.dumps(answer), media_type="application/json")
