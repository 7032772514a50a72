"""--runs of a URL: a copy of the runs is fetched before a command, and what is finished is sent after it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder.cli.application import remark

if TYPE_CHECKING:
    from convladder.runs.storage import Storage

STORAGE = "convladder.storage"


def locate(context: typer.Context, given: str) -> Path:
    """The folder that --runs names; for a URL the folder of a copy.

    What is finished in the copy when the command ends is sent.
    """
    if "://" not in given:
        return Path(given)
    storage = context.meta[STORAGE] = _fetched(given)
    context.call_on_close(lambda: send(context))
    return storage.folder


def locate_all(given: list[str]) -> list[Path]:
    """The folders of several runs, or of copies of what URLs hold."""
    return [Path(one) if "://" not in one else _fetched(one).folder for one in given]


def send(context: typer.Context) -> None:
    """Send the runs that are finished by now, if --runs is a URL."""
    if storage := context.meta.get(STORAGE):
        for name in storage.send():
            remark(f"Kept as {name} in {storage.url}.")


def url(context: typer.Context) -> str | None:
    """The URL of --runs, if it is one."""
    storage = context.meta.get(STORAGE)
    return storage.given if storage else None


def _fetched(given: str) -> "Storage":
    from convladder.runs.storage import Storage

    storage = Storage(given)
    storage.fetch()
    return storage


# The parameters below get Paths. They are annotated as Any, because Typer would make a Path of what was typed first.
RunsDirectory = Annotated[
    Any,
    typer.Option(
        "--runs",
        metavar="FOLDER|URL",
        help="Folder for the run folders, or its URL, such as s3://bucket/runs.",
        parser=str,
        callback=locate,
    ),
]
Runs = Annotated[
    list[Any],
    typer.Argument(
        metavar="RUNS...",
        help="Run folders, or a folder that holds them, or its URL.",
        parser=str,
        callback=locate_all,
    ),
]
