"""`serve`: a trained model over HTTP."""

import gc
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder.cli.application import AnyCost, app, remark
from convladder.cli.classifiers import open_classifiers
from convladder.errors import ConvladderError
from convladder.processors import count_processors

if TYPE_CHECKING:
    from starlette.applications import Starlette

MOST_WORKERS = 256


@app.command()
def serve(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Run folders or .onnx files.")],
    host: Annotated[str, typer.Option(help="Address to listen on. Any but loopback needs a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="CONVLADDER_API_KEY", help="Key that every request must send. Safer in the environment."),
    ] = None,
    limits: Annotated[
        str,
        typer.Option(metavar="NAME=NUMBER,...", help="Limits: body, pixels, images, requests, connections, seconds."),
    ] = "",
    public_name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:PORT]", help="Name that a proxy serves this under. Can be repeated."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="Address or network whose X-Forwarded headers to trust. Can be repeated."),
    ] = None,
    root_path: Annotated[str, typer.Option(metavar="/PATH", help="Path that a proxy serves this under.")] = "",
    workers: Annotated[
        int,
        typer.Option(min=0, max=MOST_WORKERS, help="Processes that answer; 0 for one on each usable processor."),
    ] = 1,
    any_cost: AnyCost = False,
) -> None:
    """Serve models over HTTP: POST /predict, the Open Inference Protocol at /v2, metrics; see /docs."""
    from convladder.serving.limits import parse_limits
    from convladder.serving.proxies import parse_front

    chosen = parse_limits(limits)
    front = parse_front(public_name or (), trusted_proxy or (), root_path)
    loopback = host in ("127.0.0.1", "localhost", "::1")
    if not loopback and not api_key:
        raise ConvladderError(
            f"Other machines can reach {host}. Expected a key: set CONVLADDER_API_KEY, or listen on 127.0.0.1."
        )
    from convladder.serving.guard import LOOPBACK

    hosts = LOOPBACK if loopback or front.names else ()
    workers = workers or count_processors()
    make = partial(_make, models, any_cost, limits=chosen, api_key=api_key, hosts=hosts, front=front, workers=workers)
    application = make()
    classifiers = application.state.service.classifiers
    names = ", ".join(classifiers)
    if workers == 1:
        from convladder.serving.server import run_server

        run_server(application, host, port, chosen, lambda url: remark(f"{names}: {url}"))
        return
    from convladder.serving.processes import run_workers

    make = partial(make, expected={name: found.metadata["digest"] for name, found in classifiers.items()})
    del application, classifiers  # they were made to refuse them before any worker starts
    gc.collect()
    run_workers(make, workers, (host, port), chosen, lambda url: remark(f"{names}: {url} ({workers} workers)"), remark)


def _make(
    models: list[Path],
    any_cost: bool,
    counts: Path | None = None,
    expected: Mapping[str, str] | None = None,
    **settings: Any,
) -> "Starlette":
    """Make the application. In a worker with what all of them `expected` of the models: one answers as the other."""
    from convladder.serving.application import create_application

    classifiers = open_classifiers(models, any_cost=any_cost)
    for name, classifier in classifiers.items():
        if expected and classifier.metadata["digest"] != expected[name]:
            raise ConvladderError(
                f"{classifier.path} is not the file that the server started with. Start the server again.",
                exit_status=1,
            )
    return create_application(classifiers, counts=counts, **settings)
