"""`report`: runs as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import app, remark, say
from convladder.cli.storing import Runs, fetch
from convladder.startup import replace_missing_home


@app.command()
def report(
    context: typer.Context,
    runs: Runs,
    path: Annotated[Path, typer.Option("--output", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write a report of runs: one HTML file that needs no other file and no network."""
    fetch(context)
    replace_missing_home()  # matplotlib keeps a list of fonts there
    from convladder.reporting.report import write_report  # nothing is trained, so TensorFlow is not imported

    say(str(write_report(runs, path, say=remark)))
