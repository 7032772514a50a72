"""`reproduce`: test the article's claims."""

import json
from pathlib import Path
from typing import Annotated

import typer

from convladder.cli.application import (
    AsJson,
    app,
    errors,
    show,
    when_stopped,
)
from convladder.cli.storing import RunsDirectory, fetch_and_send
from convladder.engine import import_engine
from convladder.errors import check_choice, check_range
from convladder.reporting import tables
from convladder.training.recipes import EPOCHS


@app.command()
def reproduce(
    context: typer.Context,
    epochs: Annotated[float, typer.Option(help="Epochs per network. The article trains for 10.")] = 10,
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, help="Runs per network. More runs make the verdicts about accuracy surer.")
    ] = 1,
    only: Annotated[str | None, typer.Option(metavar="TABLE", help="Only one table: networks or claims.")] = None,
    runs: RunsDirectory = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Reuse finished runs, and go on with ended ones.")] = False,
    as_json: AsJson = False,
) -> None:
    """Test the article: its figures beside those of this machine, and verdicts on twelve of its claims."""
    check_choice("table", only or "networks", ("networks", "claims"))
    check_range("epochs", epochs, *EPOCHS)
    fetch_and_send(context)
    import_engine()
    from convladder.comparing.article import TABLES
    from convladder.comparing.article import reproduce as reproduce_article
    from convladder.data.loading import load_dataset
    from convladder.training.progress import ProgressBar
    from convladder.training.recipes import ARTICLE

    with when_stopped(lambda: f"The same command with --resume reuses the finished runs in {runs}."):
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
