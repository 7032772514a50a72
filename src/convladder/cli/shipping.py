"""`predict`: what a shipped model answers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import AsJson, app, errors
from convladder.errors import ConvladderError


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file.")],
    sources: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.")],
    as_json: AsJson = False,
) -> None:
    """A line a picture: its label, and how probable that is."""
    from convladder.classifier import Classifier

    classifier = Classifier(model / "model.onnx" if model.is_dir() else model)
    failed = False
    for source, answer in zip(sources, classifier.predict(sources), strict=True):
        if isinstance(answer, ConvladderError):
            failed = True
            if as_json:
                print(json.dumps({"source": str(source), "error": str(answer)}))
            else:
                errors.print(f"Error: {answer}", soft_wrap=True, markup=False)
        elif as_json:
            print(json.dumps(asdict(answer)))
        else:
            print(f"{answer.source}\t{answer.label}\t{answer.probability:.4f}")
    if failed:
        raise typer.Exit(2)
