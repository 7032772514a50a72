"""`export`: write a run's model in another format."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convladder.cli.application import AsJson, app, say
from convladder.errors import ConvladderError

if TYPE_CHECKING:
    from convladder.runs.run import Run


@app.command()
def export(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A run folder; web takes several.")],
    format: Annotated[
        str, typer.Option(help="onnx, openvino, litert, savedmodel, triton, or web (a page for any static host).")
    ] = "onnx",
    path: Annotated[
        Path | None, typer.Option("--output", help="File or folder to write. Default: inside the run folder.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize to 8 bits, if that costs little accuracy and is faster here.")
    ] = False,
    runtime: Annotated[
        Path | None, typer.Option(help="For web: the dist folder of an installed onnxruntime-web, instead of npm.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a run's model, if the format's runtime agrees with Keras; else exit with status 3."""
    from convladder.engine import import_engine

    import_engine()
    from convladder.exporting.formats import export as export_run
    from convladder.runs.run import Run

    chosen = [Run(run) for run in runs]
    if format == "web":
        _export_web(chosen, path, runtime, int8, as_json)
        return
    if len(chosen) != 1 or runtime:
        raise ConvladderError(f"Several runs, or --runtime, were given for {format}. Only --format web takes them.")
    account = export_run(chosen[0], format, path, int8=int8)
    if as_json:
        print(json.dumps(account, indent=2))
    elif int8:
        one, many = account["latency"], account["throughput"]
        say(
            f"{account['path']}: accuracy {account['accuracy']:.4f}, in float {account['float_accuracy']:.4f}; "
            f"{one['float_microseconds']['median'] / one['microseconds']['median']:.2f} times as fast one by one, "
            f"{many['float_microseconds']['median'] / many['microseconds']['median']:.2f} times in batches"
        )
    else:
        say(
            f"{account['path']}: agrees with Keras on {account['images']:,} images, "
            f"to {account['largest_difference']:.0e}"
        )


def _export_web(runs: "list[Run]", path: Path | None, runtime: Path | None, int8: bool, as_json: bool) -> None:
    from convladder.exporting.web import export_web

    names = [run.path.resolve().name for run in runs]
    if len(set(names)) < len(names):
        raise ConvladderError(f"The runs are named {', '.join(names)}. Expected names that differ.")
    if int8:
        raise ConvladderError("--int8 is not possible with --format web. Expected --format onnx.")
    if path is None and len(runs) > 1:
        raise ConvladderError("Several runs make one page. Expected --output with the folder to write.")
    folder = path or runs[0].path / "model.web"
    accounts = export_web(dict(zip(names, runs, strict=True)), folder, runtime)
    if as_json:
        print(json.dumps({"format": "web", "path": str(folder), "models": accounts}, indent=2))
        return
    for name, account in accounts.items():
        say(f"{name}: agrees with Keras on {account['images']:,} images, to {account['largest_difference']:.0e}")
    say(f"{folder}: a page for any web server")
