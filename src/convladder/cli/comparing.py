"""`compare`: several rungs, side by side."""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from convladder import tables
from convladder.cli.application import (
    AsJson,
    BatchSize,
    Epochs,
    RecipeName,
    RunsDirectory,
    app,
    choose_recipe,
    errors,
    offer_data,
    output,
    show,
)
from convladder.engine import import_engine
from convladder.errors import check_choice


@app.command()
@offer_data
def compare(
    dataset: Callable[[], Any],
    models: Annotated[str, typer.Option(help="Rungs, with commas between them; all of the ladder by default.")] = "",
    recipe: RecipeName = "default",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs a rung.")] = 1,
    runs: RunsDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Climb the ladder: train every rung alike, and set what each buys beside what it costs."""
    recipe_for = choose_recipe(recipe, epochs=epochs, batch_size=batch_size)
    import_engine()
    from rich.live import Live

    from convladder.comparing import compare as compare_rungs
    from convladder.comparing import estimate_seconds, tabulate
    from convladder.models import MODELS
    from convladder.progress import ProgressBar

    rungs = [name.strip() for name in models.split(",")] if models else list(MODELS)
    for rung in rungs:
        check_choice("rung", rung, MODELS)
    data = dataset()
    recipe_for = functools.partial(recipe_for, channels=data.input_shape[2])
    minutes = estimate_seconds(data, rungs, recipe_for, seeds) / 60
    errors.print(f"{len(rungs)} rungs on {len(data.train):,} images: about {minutes:.0f} minutes on this machine.")
    finished = []
    live = Live(console=errors, transient=True)

    def look_on(label: str) -> list[Any]:
        return [ProgressBar(label, recipe_for(label.partition(",")[0]).batch_size, errors)]

    with live:
        for run in compare_rungs(data, rungs, recipe_for, seeds=seeds, directory=runs, callbacks=look_on):
            finished.append(run)
            live.update(next(tables.of_runs(tabulate(finished))), refresh=True)
    rows = tabulate(finished)
    if as_json:
        print(json.dumps({"models": rows}, indent=2))
        return
    show(tables.of_runs(rows))
    output.print(f"{len(finished)} runs in {runs}{os.sep}", soft_wrap=True)
