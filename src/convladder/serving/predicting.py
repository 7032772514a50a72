"""POST /predict: pictures in, labels out."""

import asyncio
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from convladder.inference.classifier import Answers
from convladder.serving.refusals import Refusal
from convladder.serving.service import QUICK_BYTES, Model, Service
from convladder.serving.uploads import Upload, read_pictures

TOP = 5  # classes that an answer names, unless told otherwise
YES_OR_NO = {"true": True, "1": True, "false": False, "0": False}


async def predict(request: Request) -> Response:
    """Classify the pictures of a form, or the one that is the body."""
    service: Service = request.app.state.service
    query = request.query_params
    model = service.find_model(query.get("model"))
    top = _read_top(query.get("top", str(TOP)))
    probabilities = YES_OR_NO.get(query.get("probabilities", "false").lower())
    if probabilities is None:
        raise Refusal(422, "bad_query", "probabilities is neither true nor false.")
    content_type = request.headers.get("content-type", "")
    body = await request.body()
    if len(body) > QUICK_BYTES:  # a form can take a second to read
        loop = asyncio.get_running_loop()
        most = service.limits.images
        uploads = await loop.run_in_executor(service.threads, read_pictures, body, content_type, most)
    else:
        uploads = read_pictures(body, content_type, service.limits.images)
    answers: list[dict[str, Any]] = []
    for upload, found in zip(uploads, await service.classify(model, uploads), strict=True):
        if not isinstance(found, Refusal):
            answers.append(answer(model, upload, found, top, probabilities))
        elif len(uploads) == 1:
            raise found
        else:
            answers.append({"source": upload[0]} | found.content())
    if all("error" in item for item in answers):
        raise Refusal(
            422, "no_images", f"None of the {len(uploads)} images can be read. The first: {answers[0]['error']}"
        )
    return Response(json.dumps({"model": model.name, "predictions": answers}), media_type="application/json")


def answer(model: Model, upload: Upload, found: Answers, top: int, all_probabilities: bool) -> dict[str, Any]:
    """What `convladder predict --json` says of a picture, its classes cut to `top`."""
    said = vars(model.classifier.prediction(upload[0], found, top=top))
    return said | {"probabilities": found.probabilities[0].tolist()} if all_probabilities else said


def _read_top(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:9]) >= 1):
        raise Refusal(422, "bad_query", f"top {text[:100]!r} is out of range. Expected a whole number of at least 1.")
    return int(text[:9])
