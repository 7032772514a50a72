"""--runs of a URL: a copy of the runs is fetched before a command works, and what is finished is sent after it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder.cli.application import remark
from convladder.urls import is_url

if TYPE_CHECKING:
    from convladder.runs.storage import Storage

STORAGES = "convladder.storages"


def locate(context: typer.Context, given: str) -> Path:
    """The folder that --runs names; for a URL the folder of a copy, which `fetch` fills."""
    if not is_url(given):
        return Path(given)
    from convladder.runs.storage import Storage

    storage = Storage(given)
    _storages(context).append(storage)
    return storage.folder


def locate_all(context: typer.Context, given: list[str]) -> list[Path]:
    """The folders of several runs, or of copies of what URLs hold."""
    return [locate(context, one) for one in given]


def fetch(context: typer.Context) -> None:
    """Fetch the runs of all URLs that the command names."""
    for storage in _storages(context):
        storage.fetch()


def fetch_and_send(context: typer.Context) -> None:
    """Fetch the runs, if --runs is a URL, and send what is finished when the command ends."""
    fetch(context)
    context.call_on_close(lambda: send(context))


def send(context: typer.Context) -> None:
    """Send the runs that are finished by now, if --runs is a URL."""
    for storage in _storages(context):
        for name in storage.send():
            remark(f"Kept as {name} in {storage.url}.")


def url(context: typer.Context) -> str | None:
    """The URL of --runs, if it is one."""
    return next((storage.given for storage in _storages(context)), None)


def _storages(context: typer.Context) -> "list[Storage]":
    found: list[Storage] = context.meta.setdefault(STORAGES, [])
    return found


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
