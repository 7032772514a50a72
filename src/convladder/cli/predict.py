"""`predict`: classify images with a trained model."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder.cli.application import MOST_CLASSES, AnyCost, AsJson, app, errors, remark, when_stopped
from convladder.data.sources import expand
from convladder.errors import ConvladderError
from convladder.markup import cell, printable

if TYPE_CHECKING:
    from convladder.inference.classifier import Prediction


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file.")],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Images, folders, or patterns like '*.png'; - reads paths. With --ray also .txt files of paths, "
            "Parquet, and URLs.",
        ),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, max=MOST_CLASSES, help="Number of classes to print; --json prints all.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Write the answers to this file; with --ray to this folder or URL. After a kill the same command "
            "goes on."
        ),
    ] = None,
    any_cost: AnyCost = False,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV for a spreadsheet.")] = False,
    null: Annotated[
        bool, typer.Option("--null", help="With -: paths end in NUL, as find -print0 writes them.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster to spread the pictures over; without one, a cluster of this machine is "
            "started. The answers are Parquet, or with --json lines of JSON.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            min=1, max=1024, help="Processor cores for each classifier there. Default: 1.", rich_help_panel="Cluster"
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            min=0, max=1024, help="GPUs for each classifier there; 0.25 lets four share one.", rich_help_panel="Cluster"
        ),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(help="Column of a Parquet file that holds pictures or paths.", rich_help_panel="Cluster"),
    ] = None,
) -> None:
    """Print one line per image: its label and probability. An unreadable image gets an error line; the rest go on."""
    from convladder.cli.answers import AnswerFile
    from convladder.inference.classifier import Classifier

    if as_json and as_csv:
        raise ConvladderError("--json and --csv were both given. Expected one of them.")
    if ray is not None:
        if output is None or as_csv:
            told = "--csv" if as_csv else "no --output"
            raise ConvladderError(f"--ray was given with {told}. Expected --output DIR|URL, for Parquet or --json.")
        form = "json" if as_json else "parquet"
        settings = {"top": top, "cores": cores or 1, "gpus": gpus or 0, "column": column}
        _spread(model, sources, output, address=ray, format=form, any_cost=any_cost, null=null, **settings)
        return
    if (cores, gpus, column) != (None, None, None):
        raise ConvladderError("--cores, --gpus and --column are for a cluster. Expected --ray with them.")
    classifier = Classifier(model, any_cost=any_cost)
    named = min(top or 1, len(classifier.class_names))
    options = ["json" if as_json else "csv" if as_csv else "lines", top]
    file = AnswerFile(Path(output), classifier.path, options) if output else None
    failed = False
    with contextlib.ExitStack() as stack:
        if file:
            stack.enter_context(when_stopped(file.kept))
            stack.enter_context(file.opened())
        write = _write_json if as_json else _csv_writer(named) if as_csv else _write_line
        paths: Iterable[str | None] = chain.from_iterable(expand(source, remark, null) for source in sources)
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


def _spread(model: Path, sources: list[str], output: str, **settings: Any) -> None:
    """Predict on a cluster, with a bar in a terminal, and a line for each tenth elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from convladder.predicting.predict import predict_on_cluster

    kept: list[int] = []
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("pictures"),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    task = bar.add_task("", total=None)

    def show(done: int, of: int) -> None:
        bar.update(task, completed=done, total=of)
        if not errors.is_terminal and kept and kept[-1] * 10 // of < done * 10 // of < 10:
            remark(f"{done:,} of {of:,} pictures")
        kept[:] = [done]

    def goes_on() -> str:
        return f"{output} holds {sum(kept):,} answers; the same command goes on from there."

    # Ray prints the last lines of a node's log where that is lost.
    with (
        when_stopped(goes_on),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        bar,
    ):
        counts = predict_on_cluster(model, sources, output, **settings, say=remark, show=show)
    remark(f"{counts.pictures:,} answers in {output}")
    if counts.unreadable:
        told = "is an error, which says" if counts.unreadable == 1 else "are errors, which say"
        remark(f"Error: {counts.unreadable:,} of these {counts.pictures:,} answers {told} why.")
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
