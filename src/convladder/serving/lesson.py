"""The lesson at /learn/: its files, and lesson.json, which tells it of the data and the models."""

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from convladder.runs.lesson import describe_lesson
from convladder.serving.page import WEB, in_thread, read_file

index = read_file("learn/index.html")
FILES = {file.name: read_file(f"learn/{file.name}") for file in (WEB / "learn").iterdir() if file.name != "index.html"}


async def to_index(_request: Request) -> Response:
    """Go to the folder, which the page's links are relative to; by a relative address, as a proxy may add a path."""
    return RedirectResponse("learn/")


async def described(request: Request) -> Response:
    """Digits, and the kernels that the models learnt; found out once."""
    state = request.app.state
    if not hasattr(state, "lesson"):
        state.lesson = await in_thread(state.service, describe_lesson, state.service.classifiers)
    return JSONResponse(state.lesson)
