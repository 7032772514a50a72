"""The lesson at /learn/: its files, and lesson.json, with the digits and the kernels that it shows."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from convladder.runs.lesson import describe_lesson
from convladder.serving.page import in_thread, read_folder

FILES = read_folder("learn")


async def described(request: Request) -> Response:
    """Digits, and the kernels that the models learnt; found out once."""
    state = request.app.state
    if not hasattr(state, "lesson"):
        state.lesson = await in_thread(state.service, describe_lesson, state.service.classifiers)
    return JSONResponse(state.lesson)
