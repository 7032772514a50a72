"""The page at /: its files, the list of models, and the two requests that it sends while you draw.

These requests are not part of the API: they carry pixels as bare bytes, so that the bars update while you draw.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from convladder.inference.classifier import Classifier
from convladder.runs.catalogue import Stage, describe_examples, describe_model, find_examples, list_stages, thin_maps
from convladder.serving.refusals import Refusal
from convladder.serving.service import Service

Answer = Callable[[Request], Awaitable[Response]]

WEB = files("convladder.serving") / "web"
TYPES = {
    "js": "text/javascript",
    "css": "text/css",
    "svg": "image/svg+xml",
    "html": "text/html",
    "json": "application/json",
}


class Shown:
    """What the page asks for again and again, found out once.

    Args:
        service: The server's models.
    """

    def __init__(self, service: Service) -> None:
        self.stages: dict[str, list[Stage]] = {}
        self.examples: dict[str, bytes] = {}
        models = []
        for name, classifier in service.classifiers.items():
            self.stages[name] = list_stages(classifier)
            model = describe_model(name, classifier)
            examples = find_examples(classifier)
            if examples:
                self.examples[name] = examples.images.tobytes()
                model["examples"] = describe_examples(examples, f"examples/{name}")
            models.append(model)
        self.catalogue = {"format": 1, "engine": "server", "models": models}


def read_file(name: str) -> Answer:
    """What answers with a file of the folder web."""
    content = (WEB / name).read_bytes()

    async def answer(_request: Request) -> Response:
        return Response(content, media_type=TYPES[name.rpartition(".")[2]])

    return answer


def read_folder(name: str) -> dict[str, Answer]:
    """What answers for each address of a folder of the folder web: `/name`, `/name/`, and one for each other file.

    The first goes to the second, which the page's links are relative to; by a relative address, as a proxy may add a
    path.
    """

    async def go(_request: Request) -> Response:
        return RedirectResponse(f"{name}/")

    paths = {file.name: "" if file.name == "index.html" else file.name for file in (WEB / name).iterdir()}
    return {f"/{name}": go} | {f"/{name}/{path}": read_file(f"{name}/{file}") for file, path in paths.items()}


# The files are few and small: each has its route, and nothing else of the disk can be asked for.
_index = read_file("index.html")
FILES = {file.name: read_file(f"page/{file.name}") for file in (WEB / "page").iterdir()}


async def index(request: Request) -> Response:
    """The page; the lesson where there is no model to show."""
    return await _index(request) if request.app.state.service.models else RedirectResponse("learn/")


async def models(request: Request) -> Response:
    """What there is to say of the models."""
    return JSONResponse((await _shown(request)).catalogue)


async def examples(request: Request) -> Response:
    """Test images, one after the other, a byte a value."""
    name = request.path_params["name"]
    shown = await _shown(request)
    if name not in shown.examples:
        raise Refusal(404, "no_examples", f"There are no test images for {name[:100]!r}.")
    return Response(shown.examples[name], media_type="application/octet-stream")


async def look(request: Request) -> Response:
    """Pixels of one image or many in; out float32 probabilities, then familiarities, NaN where a file does not tell.

    Of one image, with `maps`, also float32 peaks and int8 maps by stage.
    """
    service: Service = request.app.state.service
    maps = _read_number(request, "maps")
    model = service.find_model(request.path_params["name"])
    body = await request.body()
    size = int(np.prod(model.classifier.input_shape))
    count, rest = divmod(len(body), size)
    if rest or not 1 <= count <= service.limits.images or (maps and count != 1):
        raise Refusal(
            422, "bad_pixels", f"{len(body):,} bytes are not the pixels of whole images. Expected {size:,} an image."
        )
    images = np.frombuffer(body, np.uint8).reshape(count, *model.classifier.input_shape)
    answers = await service.predict(model, images)
    told = np.full(count, np.nan) if answers.familiarity is None else answers.familiarity
    answer = answers.probabilities.astype("<f4").tobytes() + told.astype("<f4").tobytes()
    if maps:
        stages = (await _shown(request)).stages[model.name]
        answer += await in_thread(service, _maps, model.classifier, images, stages)
    return Response(answer, media_type="application/octet-stream")


async def decode(request: Request) -> Response:
    """A picture's file in; out the pixels that the model takes of it, a byte a value."""
    service: Service = request.app.state.service
    model = service.find_model(request.path_params["name"])
    pixels = await service.decode(model, ("The picture", await request.body()))
    return Response(pixels.tobytes(), media_type="application/octet-stream")


def _read_number(request: Request, name: str) -> int:
    """A whole number in the query; 0 where it is not there."""
    given = request.query_params.get(name, "0")
    try:
        return int(given)
    except ValueError:
        raise Refusal(422, "bad_request", f"{name} {given[:100]!r} is no whole number. Expected 0 or 1.") from None


def _maps(classifier: Classifier, images: npt.NDArray[np.uint8], stages: list[Stage]) -> bytes:
    maps = classifier.feature_maps(images) if stages else {}
    thinned = [thin_maps(maps[stage.name], stage) for stage in stages]
    peaks = np.asarray([peak for _, peak in thinned], "<f4").tobytes()
    return b"".join([peaks, *(values.tobytes() for values, _ in thinned)])


async def _shown(request: Request) -> Shown:
    state = request.app.state
    if not hasattr(state, "shown"):
        state.shown = await in_thread(state.service, Shown, state.service)
    shown: Shown = state.shown
    return shown


async def in_thread(service: Service, work: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that takes too long for the event loop."""
    return await asyncio.get_running_loop().run_in_executor(service.threads, work, *arguments)
