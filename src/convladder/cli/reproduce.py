"""`reproduce`: the article, tested."""

import json
from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import (
    AsJson,
    RunsDirectory,
    app,
    errors,
    show,
    when_stopped,
)
from convladder.engine import import_engine
from convladder.errors import check_choice, check_range
from convladder.reporting import tables
from convladder.training.recipes import EPOCHS


@app.command()
def reproduce(
    epochs: Annotated[float, typer.Option(help="The article trains for 10.")] = 10,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Runs a network; claims about accuracy are judged on them.")
    ] = 1,
    only: Annotated[str | None, typer.Option(metavar="TABLE", help="networks or claims.")] = None,
    runs: RunsDirectory = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Take the finished runs that are there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """The article, tested: its figures beside those of this machine, and twelve of its claims with verdicts."""
    check_choice("table", only or "networks", ("networks", "claims"))
    check_range("epochs", epochs, *EPOCHS)
    import_engine()
    from convladder.comparing.article import TABLES
    from convladder.comparing.article import reproduce as reproduce_article
    from convladder.data.loading import load_dataset
    from convladder.training.progress import ProgressBar
    from convladder.training.recipes import ARTICLE

    with when_stopped(lambda: f"With --resume the same command takes the finished runs in {runs}."):
        result = reproduce_article(
            load_dataset("mnist"),
            epochs=epochs,
            seeds=seeds,
            tables=[only] if only else TABLES,
            directory=runs,
            resume=resume,
            callbacks=lambda label: [ProgressBar(label, ARTICLE.batch_size, errors)],
        )
    if as_json:
        print(json.dumps(result, indent=2))
        return
    show(tables.of_reproduction(result))
