"""`tune`: a search for the recipe and the choices of a rung, or for a rung."""

import contextlib
import functools
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from convladder import startup
from convladder.cli.application import (
    AsJson,
    app,
    errors,
    offer_choices,
    offer_data,
    offer_recipe,
    remark,
    say,
    show,
    when_stopped,
)
from convladder.cli.storing import RunsDirectory, fetch_and_send, url
from convladder.engine import import_engine
from convladder.errors import ConvladderError, check_range
from convladder.reporting import tables
from convladder.training.recipes import MOST_MINUTES


@app.command()
@offer_data
@offer_recipe
@offer_choices
def tune(
    context: typer.Context,
    dataset: Callable[..., Any],
    choose: functools.partial[Any],
    choices: dict[str, Any],
    models: Annotated[
        str, typer.Option(help="Rungs to search, with commas between them; all is compared with the first's default.")
    ] = "pool",
    trials: Annotated[int, typer.Option(min=2, max=1_000_000, help="Trainings of the search.")] = 30,
    seeds: Annotated[int, typer.Option(min=2, max=1000, help="Other seeds that the best are trained with.")] = 3,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the search's trainings.")] = 0,
    minutes: Annotated[float | None, typer.Option(help="Be done when so many are over.")] = None,
    trial_minutes: Annotated[
        float | None, typer.Option(help="Give each training so long, instead of epochs.", rich_help_panel="Recipe")
    ] = None,
    study: Annotated[str, typer.Option(help="Name of the search, where --storage has several of these rungs.")] = "",
    storage: Annotated[
        str,
        typer.Option(
            help="Where the search is kept: postgresql://USER@HOST/DATABASE, or a file on a disk that machines share. "
            "Default: tune.db among the runs."
        ),
    ] = "",
    ray: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster to search on; without one, a cluster of this machine is started.",
            rich_help_panel="Cluster",
        ),
    ] = None,
    cores: Annotated[
        int, typer.Option(min=1, max=1024, help="Processor cores a trial gets there.", rich_help_panel="Cluster")
    ] = 2,
    runs: RunsDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Search for the best recipe and choices, on the validation images, and say how much of the lead was luck.

    What you give of a recipe or a rung is fixed; the rest is searched, around its default. The same command goes on
    after any end, and several processes can search together.
    """
    if trial_minutes is not None:
        check_range("trial minutes", trial_minutes, 0.05, MOST_MINUTES)
        if choose.keywords["epochs"] is not None:
            raise ConvladderError("--epochs and --trial-minutes both say how long to train. Expected one of them.")
    if minutes is not None:
        check_range("minutes", minutes, 0.01, MOST_MINUTES)
    recipe_for = choose(minutes=trial_minutes)
    if ray not in (None, "local") and (not storage or storage.startswith("sqlite")):
        raise ConvladderError(
            "The nodes of a cluster cannot reach a SQLite file of this machine. Expected --storage with a PostgreSQL "
            "URL, or with a journal on a disk that they share."
        )
    if url(context) is not None and not storage:
        raise ConvladderError(
            "--runs is a URL, where runs are kept but no search. Expected --storage with a PostgreSQL URL or a file."
        )
    fetch_and_send(context)
    import_engine()
    chosen = _choose_carrier(ray, cores)
    import optuna  # noqa: F401 (before the data are loaded: it is then that a missing extra is said)

    from convladder.training.progress import ProgressBar
    from convladder.tuning.space import make_space
    from convladder.tuning.tune import Plan, search

    data = dataset()
    fixed = {name: value for name, value in choose.keywords.items() if value is not None and name != "recipe"}
    named = [name.strip() for name in models.split(",")]
    space = make_space(data, named, recipe_for, fixed=fixed, choices=choices, say=remark)
    plan = Plan(space, runs, study, storage, trials, seeds, seed, minutes, startup.BEGAN)

    def kept() -> str:
        return "The trials that have ended are kept; the same command goes on from there."

    def tell(line: str) -> None:
        remark.release()  # nothing is refused any more
        remark(line)

    def bar(name: str, trial: Any) -> Any:
        return [ProgressBar(name, trial.recipe.batch_size, errors)]

    # What a library prints meanwhile is no result.
    with when_stopped(kept), contextlib.redirect_stdout(sys.stderr), chosen as carrier:
        found = search(plan, data, carrier=carrier, look_on=bar, say=tell)
    if as_json:
        print(json.dumps(found.content, indent=2))
        return
    show(tables.of_tuning(found.trials, found.best))
    for sentence in found.sentences:
        say(sentence)


def _choose_carrier(ray: str | None, cores: int) -> Any:
    """What carries out the trials, for a `with`; what it needs is imported before the data are loaded."""
    from convladder.tuning.local import carry_out_here

    if ray is None:
        return contextlib.nullcontext(carry_out_here)
    importlib.import_module("ray")  # a missing extra is said now
    from convladder.tuning.cluster import on_ray

    return on_ray(ray, cores)
