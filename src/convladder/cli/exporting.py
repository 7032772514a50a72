"""`export`: a run in the formats that it is shipped in."""

from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import app, output
from convladder.errors import ConvladderError, check_choice

FORMATS = ("web",)


@app.command()
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    format_: Annotated[str, typer.Option("--format", help="web: a page for any static host.")],
    folder: Annotated[Path, typer.Option("--output", help="The folder to write; it must not hold anything.")],
    runtime: Annotated[
        Path | None, typer.Option(help="Of web: the folder dist of an installed onnxruntime-web, instead of npm.")
    ] = None,
) -> None:
    """Write what ships a run, if it answers as Keras does."""
    check_choice("format", format_, FORMATS)
    from convladder.runs import Run
    from convladder.web_exporting import export_web

    chosen = [Run(path) for path in runs]
    names = [run.path.resolve().name for run in chosen]
    if len(set(names)) < len(names):
        raise ConvladderError(f"The runs are named {', '.join(names)}. Expected names that differ.")
    for name, parity in export_web(dict(zip(names, chosen, strict=True)), folder, runtime).items():
        output.print(
            f"{name}: differs from Keras by up to {parity['largest_difference']:.1e} on {parity['images']:,} images, "
            f"{parity['label_flips']} labels flipped",
            soft_wrap=True,
        )
    output.print(f"{folder}: open it through any web server, such as python -m http.server", soft_wrap=True)
