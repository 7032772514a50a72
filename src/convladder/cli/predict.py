"""`predict`: classify images with a trained model."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convladder.cli.application import MOST_CLASSES, AnyCost, AsJson, app, remark, when_stopped
from convladder.cli.sources import expand
from convladder.errors import ConvladderError
from convladder.markup import cell, printable

if TYPE_CHECKING:
    from convladder.inference.classifier import Prediction


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file.")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Images, folders, or patterns like '*.png'; - reads paths."),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, max=MOST_CLASSES, help="Number of classes to print; --json prints all.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write the answers to this file. After a kill the same command goes on."),
    ] = None,
    any_cost: AnyCost = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for a spreadsheet.")] = False,
    null: Annotated[
        bool, typer.Option("--null", help="With -: paths end in NUL, as find -print0 writes them.")
    ] = False,
) -> None:
    """Print one line per image: its label and probability. An unreadable image gets an error line; the rest go on."""
    from convladder.cli.answers import AnswerFile
    from convladder.inference.classifier import Classifier

    if as_json and as_csv:
        raise ConvladderError("--json and --csv were both given. Expected one of them.")
    classifier = Classifier(model, any_cost=any_cost)
    named = min(top or 1, len(classifier.class_names))
    options = ["json" if as_json else "csv" if as_csv else "lines", top]
    file = AnswerFile(output, classifier.path, options) if output else None
    failed = False
    with contextlib.ExitStack() as stack:
        if file:
            stack.enter_context(when_stopped(file.kept))
            stack.enter_context(file.opened())
        write = _write_json if as_json else _csv_writer(named) if as_csv else _write_line
        paths: Iterable[str | None] = chain.from_iterable(expand(source, null) for source in sources)
        if file:
            paths = file.skip(paths)
        paths, shown = tee(paths) if "-" in sources else [list(paths)] * 2
        # Ask for the answer first: asking for the next path could wait for one that is not written yet.
        named_paths = (path for path in shown if path is not None)
        for answer, path in zip(classifier.predict(paths, top if as_json else named), named_paths, strict=False):
            failed |= (wrong := isinstance(answer, ConvladderError))
            write(path, answer)
            if file:
                file.keep(path, wrong)
    if file:
        failed |= file.failed
        remark(f"{file.count:,} answers in {file.path}")
    if failed:
        raise typer.Exit(2)


def _write_json(path: str, answer: "Prediction | ConvladderError") -> None:
    error = isinstance(answer, ConvladderError)
    print(json.dumps({"source": path, "error": str(answer)} if error else vars(answer)), flush=True)


def _write_line(path: str, answer: "Prediction | ConvladderError") -> None:
    if isinstance(answer, ConvladderError):
        remark(f"Error: {answer}")
        return
    classes = [cell for name, probability in answer.top for cell in (name, f"{probability:.4f}")]
    remarks = [*["abstained"] * answer.abstained, *["unlike its training pictures"] * bool(answer.unlike_training)]
    print("\t".join(map(printable, [path, *classes, *remarks])), flush=True)


def _csv_writer(top: int) -> "Callable[[str, Prediction | ConvladderError], None]":
    more = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["source", "label", "probability", *more, "abstained", "familiarity", "unlike_training", "error"])

    def write(path: str, answer: "Prediction | ConvladderError") -> None:
        if isinstance(answer, ConvladderError):
            row = [path, "", "", *[""] * len(more), "", "", "", str(answer)]
        else:
            classes = [cell for name, probability in answer.top for cell in (name, f"{probability:.6f}")]
            told = [
                "" if value is None else json.dumps(value) for value in (answer.familiarity, answer.unlike_training)
            ]
            row = [path, *classes, str(answer.abstained).lower(), *told, ""]
        table.writerow(map(cell, row))
        sys.stdout.flush()

    return write
