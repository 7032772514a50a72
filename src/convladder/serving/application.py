"""The application: routes, guard and errors, put together."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from convladder.inference.classifier import Classifier
from convladder.runs.catalogue import find_run
from convladder.serving import documentation, film, inference_protocol, lesson, observing, page, predicting
from convladder.serving.documentation import Documentation
from convladder.serving.guard import DIRECT, LOOPBACK, Guard
from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.proxies import Front
from convladder.serving.refusals import of_status
from convladder.serving.service import Service

# All that is answered. What is not in the schema, openapi.json, is no part of the API: it may change with the page.
ROUTES = [
    Route("/predict", predicting.predict, methods=["POST"]),
    Route("/v2", inference_protocol.server_metadata),
    Route("/v2/health/live", inference_protocol.live),
    Route("/v2/health/ready", inference_protocol.ready),
    Route("/v2/models/{name}", inference_protocol.model_metadata),
    Route("/v2/models/{name}/ready", inference_protocol.model_ready),
    Route("/v2/models/{name}/infer", inference_protocol.infer, methods=["POST"]),
    Route("/v2/models/{name}/versions/{version}", inference_protocol.model_metadata),
    Route("/v2/models/{name}/versions/{version}/ready", inference_protocol.model_ready),
    Route("/v2/models/{name}/versions/{version}/infer", inference_protocol.infer, methods=["POST"]),
    Route("/metrics", observing.metrics),
    Route("/openapi.json", documentation.openapi, include_in_schema=False),
    Route("/docs", documentation.page, include_in_schema=False),
    Route("/docs.css", documentation.style, include_in_schema=False),
    Route("/", page.index, include_in_schema=False),
    *(Route(f"/page/{name}", answer, include_in_schema=False) for name, answer in page.FILES.items()),
    Route("/learn/lesson.json", lesson.described, include_in_schema=False),
    *(Route(path, answer, include_in_schema=False) for path, answer in (lesson.FILES | film.FILES).items()),
    Route("/film/films.json", film.films, include_in_schema=False),
    Route("/film/of/{name}", film.film, include_in_schema=False),
    Route("/models.json", page.models, include_in_schema=False),
    Route("/examples/{name}", page.examples, include_in_schema=False),
    Route("/look/{name}", page.look, methods=["POST"], include_in_schema=False),
    Route("/decode/{name}", page.decode, methods=["POST"], include_in_schema=False),
]


def create_application(
    classifiers: Mapping[str, Classifier],
    limits: Limits | None = None,
    *,
    api_key: str | None = None,
    hosts: Iterable[str] = LOOPBACK,
    front: Front = DIRECT,
    films: Mapping[str, Path] | None = None,
    workers: int = 1,
    counts: Path | None = None,
) -> Starlette:
    """Make the server's ASGI application.

    Args:
        classifiers: By name; the first answers where a request names none.
        limits: What is refused; by default those of Limits.
        api_key: Asked of every request, if there is one.
        hosts: Names that the Host header may hold; empty for any, which is for servers with a key.
        front: Names, proxies and path that clients reach the server by, if not directly.
        films: Run folders by name, whose films are shown; by default those of the classifiers.
        workers: How many processes answer on this machine, and so share its processors.
        counts: The folder in which they share what they count.

    Returns:
        The application. Its routes find classifiers and limits in `state.service`.
    """
    limits = limits or Limits()
    observations = Observations(counts)
    guard = Middleware(
        Guard, limits=limits, observations=observations, api_key=api_key, hosts=hosts, routes=ROUTES, front=front
    )
    app = Starlette(routes=ROUTES, middleware=[guard], exception_handlers={HTTPException: _answer_http_exception})
    app.router.redirect_slashes = False  # to an address that a proxy's clients cannot reach
    app.state.service = Service(classifiers, limits, observations, workers)
    if films is None:
        found = {name: find_run(classifier) for name, classifier in classifiers.items()}
        films = {name: run.path for name, run in found.items() if run}
    app.state.films = films
    app.state.documentation = Documentation(
        limits, list(classifiers), needs_key=bool(api_key), root_path=front.root_path
    )
    return app


async def _answer_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    raise of_status(error.status_code, error.headers)
