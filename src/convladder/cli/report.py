"""`report`: runs as one HTML file."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import app, remark, say
from convladder.engine import import_engine


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Run folders, or a folder that holds them.")],
    path: Annotated[Path, typer.Option("--output", help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Write a report of runs: one HTML file that needs no other file and no network."""
    import_engine()
    from convladder.reporting.report import write_report

    say(str(write_report(runs, path, say=remark)))
