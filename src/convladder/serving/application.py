"""The application: routes, guard and errors, put together."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from convladder import __version__
from convladder.inference.classifier import Classifier
from convladder.serving import description, inference_protocol, predicting
from convladder.serving.guard import DIRECT, LOOPBACK, Guard
from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.proxies import Front
from convladder.serving.refusals import Refusal, of_status
from convladder.serving.service import Service


def create_application(
    classifiers: Mapping[str, Classifier],
    limits: Limits | None = None,
    *,
    api_key: str | None = None,
    hosts: Iterable[str] = LOOPBACK,
    front: Front = DIRECT,
) -> FastAPI:
    """Make the server's ASGI application.

    Args:
        classifiers: By name; the first answers where a request names none.
        limits: What is refused; by default those of Limits.
        api_key: Asked of every request, if there is one.
        hosts: Names that the Host header may hold; empty for any, which is for servers with a key.
        front: Names, proxies and path that clients reach the server by, if not directly.

    Returns:
        The application; `state.service` holds classifiers and limits for its routes.
    """
    limits = limits or Limits()
    observations = Observations()
    app = FastAPI(
        title="convladder",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # to an address that a proxy's clients cannot reach
    )
    app.state.service = Service(classifiers, limits, observations)
    if find_spec("convladder.serving.page"):
        app.include_router(import_module("convladder.serving.page").router)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(observations.registry), media_type=CONTENT_TYPE_LATEST)

    document = description.describe(limits, list(classifiers), needs_key=bool(api_key), root_path=front.root_path)
    app.openapi = lambda: document  # type: ignore[method-assign]
    # Starlette's routes, for FastAPI's cost 50 µs a request, as much as the network.
    routes = [
        Route("/predict", predicting.predict, methods=["POST"]),
        Route("/v2", inference_protocol.server),
        Route("/v2/health/live", inference_protocol.live),
        Route("/v2/health/ready", inference_protocol.ready),
        *(
            Route(f"/v2/models/{{name}}{version}{path}", endpoint, methods=[method])
            for version in ("", "/versions/{version}")
            for path, endpoint, method in (
                ("", inference_protocol.model_metadata, "GET"),
                ("/ready", inference_protocol.model_ready, "GET"),
                ("/infer", inference_protocol.infer, "POST"),
            )
        ),
        Route("/metrics", metrics),
        Route("/openapi.json", _always(json.dumps(document), "application/json")),
        Route("/docs", _always(description.render(document), "text/html")),
        Route("/docs.css", _always(description.style(), "text/css")),
    ]
    app.router.routes.extend(routes)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_middleware(
        Guard, limits=limits, observations=observations, api_key=api_key, hosts=hosts, routes=routes, front=front
    )
    return app


def _always(content: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise of_status(error.status_code, error.headers)


async def _answer_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
    raise Refusal(422, "bad_request", f"The request does not fit: {wrong}.")
