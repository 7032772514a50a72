"""`learn`: the lesson, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import app, remark
from convladder.cli.classifiers import open_classifiers


@app.command()
def learn(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MODEL]...", help="Run folders, or .onnx files, whose kernels and answers the lesson shows."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
) -> None:
    """Open the lesson: experiments with convolution, pooling and more, on your own drawing, in a browser."""
    from convladder.serving.application import create_application
    from convladder.serving.limits import Limits
    from convladder.serving.server import run_server

    application = create_application(open_classifiers(models or []))
    run_server(application, "127.0.0.1", port, Limits(), lambda url: remark(f"Open this in a browser: {url}/learn/"))
