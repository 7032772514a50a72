"""The films at /film/: the page's files, the list of runs, and each film as JSON."""

from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from convladder.errors import ConvladderError
from convladder.runs.film import describe_film, list_films
from convladder.runs.run import Run
from convladder.serving.page import in_thread, read_folder
from convladder.serving.refusals import Refusal

FILES = read_folder("film")


async def films(request: Request) -> Response:
    """The runs, and which of them have a film."""
    state = request.app.state
    files = [f"of/{quote(name, safe='')}" for name in state.films]
    return JSONResponse({"films": await in_thread(state.service, list_films, state.films, files)})


async def film(request: Request) -> Response:
    """A film as it is now."""
    state, name = request.app.state, request.path_params["name"]
    if name not in state.films:
        raise Refusal(404, "no_film", f"There is no run {name[:100]!r}.")
    try:
        return JSONResponse(await in_thread(state.service, lambda: describe_film(Run(state.films[name]))))
    except ConvladderError as error:
        raise Refusal(404, "no_film", str(error)) from error
