"""`serve`: a trained model over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import AnyCost, app, remark
from convladder.cli.classifiers import open_classifiers
from convladder.errors import ConvladderError


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
    from convladder.serving.application import create_application
    from convladder.serving.guard import LOOPBACK
    from convladder.serving.server import run_server

    classifiers = open_classifiers(models, any_cost=any_cost)
    hosts = LOOPBACK if loopback or front.names else ()
    application = create_application(classifiers, chosen, api_key=api_key, hosts=hosts, front=front)
    run_server(application, host, port, chosen, lambda url: remark(f"{', '.join(classifiers)}: {url}"))
