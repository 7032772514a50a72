"""`watch`: the film of a training, in a browser, while it goes on or after."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import app, remark
from convladder.errors import ConvladderError
from convladder.markup import printable


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; its training may still be running.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
) -> None:
    """Watch a training in a browser: filters that form, answers that turn right, the curves."""
    from convladder.runs.film import FILM, read_film
    from convladder.runs.run import Run
    from convladder.serving.application import create_application
    from convladder.serving.limits import Limits
    from convladder.serving.server import run_server

    if not (run / "run.json").is_file():
        raise ConvladderError(f"{run} is not a run. Expected a folder that train or compare wrote, like runs/pool-1.")
    watched = Run(run)
    if (run / FILM).exists() or watched.info.get("status") != "running":
        read_film(watched)  # refuses a run without a film
    application = create_application({}, films={printable(run.resolve().name): run})
    run_server(application, "127.0.0.1", port, Limits(), lambda url: remark(f"Open this in a browser: {url}/film/"))
