"""The application: routes, guard and errors, put together."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response

from convladder import __version__
from convladder.classifier import Classifier
from convladder.serving import predicting
from convladder.serving.guard import LOOPBACK, Guard
from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.refusals import Refusal, of_status


def create_application(
    classifiers: Mapping[str, Classifier],
    limits: Limits | None = None,
    *,
    api_key: str | None = None,
    hosts: Iterable[str] = LOOPBACK,
) -> FastAPI:
    """Make the server's ASGI application.

    Args:
        classifiers: By name; the first answers where a request names none.
        limits: What is refused; by default those of Limits.
        api_key: Asked of every request, if there is one.
        hosts: Names that the Host header may hold; empty for any, which is for servers with a key.

    Returns:
        The application; `state.service` holds classifiers and limits for its routes.
    """
    limits = limits or Limits()
    observations = Observations()
    app = FastAPI(title="convladder", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.service = predicting.Service(classifiers, limits, observations)
    app.include_router(predicting.router)
    if find_spec("convladder.serving.page"):
        app.include_router(import_module("convladder.serving.page").router)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(generate_latest(observations.registry), media_type=CONTENT_TYPE_LATEST)

    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_middleware(Guard, limits=limits, observations=observations, api_key=api_key, hosts=hosts)
    return app


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise of_status(error.status_code, error.headers)


async def _answer_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    raise Refusal(422, "bad_request", f"The request does not fit: {wrong}.")
