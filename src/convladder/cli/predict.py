"""`predict`: what a shipped model answers."""

import csv
import glob
import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convladder.cli.application import MOST_CLASSES, AsJson, app, remark
from convladder.errors import ConvladderError
from convladder.markup import printable

if TYPE_CHECKING:
    from convladder.inference.classifier import Prediction

LONGEST_PATH = 1 << 16  # bytes; systems allow fewer


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file.")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Pictures, folders of them, patterns like '*.png'; - reads paths."),
    ],
    top: Annotated[
        int | None, typer.Option(min=1, max=MOST_CLASSES, help="How many classes to name; --json names all.")
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a table for a spreadsheet.")] = False,
    null: Annotated[bool, typer.Option("--null", help="Paths of - end in NUL, as find -print0 writes them.")] = False,
) -> None:
    """A line a picture: its label, and how probable that is. A bad picture is a line too, and the rest goes on."""
    from convladder.inference.classifier import Classifier

    if as_json and as_csv:
        raise ConvladderError("--json and --csv were both given. Expected one of them.")
    classifier = Classifier(model)
    named = min(top or 1, len(classifier.class_names))
    write = _write_json if as_json else _csv_writer(named) if as_csv else _write_line
    failed = False
    paths: Iterable[str | None] = chain.from_iterable(expand(source, null) for source in sources)
    paths, shown = tee(paths) if "-" in sources else [list(paths)] * 2
    # The answer is asked for first: asking for the path would wait for one that may not have been written yet.
    named_paths = (path for path in shown if path is not None)
    for answer, path in zip(classifier.predict(paths, top if as_json else named), named_paths, strict=False):
        failed |= isinstance(answer, ConvladderError)
        write(path, answer)
    if failed:
        raise typer.Exit(2)


def expand(source: str, null: bool = False) -> Sequence[str] | Iterator[str | None]:
    """The paths that a SOURCE stands for: a folder's pictures, a pattern's matches, what standard input lists.

    Raises:
        ConvladderError: A folder without pictures, a pattern without a match.
    """
    if source == "-":
        return read_paths(sys.stdin.fileno(), b"\0" if null else b"\n")
    if os.path.isdir(source):
        from convladder.data.folders import list_pictures

        listing = list_pictures(Path(source))
        if listing.ignored:
            remark(f"{source}: {listing.count_ignored()}, passed over.")
        return sorted([*listing.paths, *(path for path, _ in listing.left_out)])  # what cannot be opened says so
    if glob.has_magic(source) and not os.path.lexists(source):
        matches = glob.glob(source, recursive=True)
        found = sorted(path for path in matches if not os.path.isdir(path))
        if found and "**" not in source and len(found) < len(matches):
            remark(f"{source}: {len(matches) - len(found):,} folders, passed over.")
        if not found:
            raise ConvladderError(f"{source} matches no file. Expected a pattern of pictures, such as 'photos/*.jpg'.")
        return found
    return [source]


def read_paths(descriptor: int, end: bytes) -> Iterator[str | None]:
    """The paths that a file, pipe or terminal lists, and None wherever it has no more of them yet.

    Args:
        descriptor: Where to read. Python's own reading ahead would hide what is there.
        end: Of a path; at the end of a line, a carriage return belongs to it.

    Raises:
        ConvladderError: It cannot be read.
    """
    rest, part = b"", b"more"
    while part:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
        try:
            part = os.read(descriptor, LONGEST_PATH)
        except OSError as error:
            raise ConvladderError(f"Standard input cannot be read ({error.strerror}). Expected paths.") from error
        *paths, rest = (rest + (part or end)).split(end)  # the last path may lack its end
        for path in paths:
            if end == b"\0" and path:
                yield os.fsdecode(path)
            elif end == b"\n" and path.strip():
                yield os.fsdecode(path.rstrip(b"\r"))
        if len(rest) > LONGEST_PATH:
            yield None
            raise ConvladderError(f"Standard input is no list of paths (one has {len(rest):,} bytes or more).")


def _write_json(path: str, answer: "Prediction | ConvladderError") -> None:
    error = isinstance(answer, ConvladderError)
    print(json.dumps({"source": path, "error": str(answer)} if error else vars(answer)), flush=True)


def _write_line(path: str, answer: "Prediction | ConvladderError") -> None:
    if isinstance(answer, ConvladderError):
        remark(f"Error: {answer}")
        return
    classes = [cell for name, probability in answer.top for cell in (name, f"{probability:.4f}")]
    print("\t".join(map(printable, [path, *classes, *["abstained"] * answer.abstained])), flush=True)


def _csv_writer(top: int) -> "Callable[[str, Prediction | ConvladderError], None]":
    more = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["source", "label", "probability", *more, "abstained", "error"])

    def write(path: str, answer: "Prediction | ConvladderError") -> None:
        if isinstance(answer, ConvladderError):
            row = [path, "", "", *[""] * len(more), "", str(answer)]
        else:
            classes = [cell for name, probability in answer.top for cell in (name, f"{probability:.6f}")]
            row = [path, *classes, str(answer.abstained).lower(), ""]
        table.writerow(map(printable, row))
        sys.stdout.flush()

    return write
