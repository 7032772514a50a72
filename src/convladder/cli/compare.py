"""`compare`: several rungs, side by side."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder import startup
from convladder.cli.application import (
    AsJson,
    Deterministic,
    Ensemble,
    Tracking,
    app,
    errors,
    offer,
    offer_choices,
    offer_data,
    offer_recipe,
    offer_tracking,
    remark,
    say,
    show,
    when_stopped,
)
from convladder.cli.storing import RunsDirectory, fetch_and_send, send, url
from convladder.engine import import_engine
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.reporting import tables
from convladder.training.recipes import MOST_MINUTES

if TYPE_CHECKING:
    from convladder.comparing.comparison import Comparison
    from convladder.comparing.trials import Outcome

CLUSTER_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "ray": (
        str | None,
        None,
        "Address of a Ray cluster to run on; without one, a cluster of this machine is started.",
    ),
    "storage": (
        str | None,
        None,
        "URL, of any kind that fsspec knows, where its nodes leave the runs, if they do not share the path of --runs.",
    ),
    "cores": (int, 2, "Processor cores a run gets there."),
}


@dataclass(frozen=True)
class Cluster:
    """Where the runs are carried out."""

    ray: str | None
    storage: str | None
    cores: int

    def __post_init__(self) -> None:
        check_range("cores", self.cores, 1, 1024)

    def runner(self, runs: str | None) -> Any:
        """What carries them out. Nodes leave their runs at the URL of --runs, unless --storage is given."""
        from convladder.comparing.local import run_in_processes

        if self.ray is None:
            return run_in_processes
        import ray  # noqa: F401 (before the data are loaded: it is then that a missing extra is said)

        from convladder.comparing.cluster import run_on_ray

        return functools.partial(run_on_ray, address=self.ray, storage=self.storage or runs, cores=self.cores)


@app.command()
@offer_data
@offer_recipe
@functools.partial(offer, parameter="cluster", options=CLUSTER_OPTIONS, make=Cluster, panel="Cluster")
@offer_tracking
@offer_choices
def compare(
    context: typer.Context,
    dataset: Callable[..., Any],
    choose: functools.partial[Any],
    choices: dict[str, Any],
    cluster: Cluster,
    tracking: Tracking,
    models: Annotated[
        str, typer.Option(help="Rungs, with commas between them, or all; by default those that suit the data.")
    ] = "",
    ensemble: Ensemble = 1,
    equal_minutes: Annotated[
        float | None,
        typer.Option(
            help="Give each run so long, with the batches, augmentation and views of the ladder, instead of "
            "--epochs. transfer is solved, and stays as it is.",
            rich_help_panel="Recipe",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs a rung.")] = 1,
    minutes: Annotated[
        float | None, typer.Option(help="Be done when so many are over: start no run that would not fit.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Train anew what is in the runs' folder already.")] = False,
    deterministic: Deterministic = False,
    runs: RunsDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Climb the ladder: train every rung alike, and set what each buys beside what it costs.

    Options of a recipe or a rung are for all rungs that have them; those that have not stay as they are, and are named.
    """
    recipe_for = choose()
    _check(choose.keywords["epochs"], equal_minutes, minutes, cluster)
    fetch_and_send(context)
    import_engine()
    from convladder.comparing.compare import climb, conclude
    from convladder.comparing.planning import plan
    from convladder.models.ladder import explain_left_out, suited_rungs
    from convladder.reporting.report import write_report
    from convladder.training.progress import ProgressBar

    named = _name_rungs(models)
    tracking.check()
    runner = cluster.runner(url(context))
    data = dataset()
    if not named:
        remark(explain_left_out(data.photographs))
    trials = plan(
        data,
        named or suited_rungs(data.photographs),
        recipe_for,
        seeds=seeds,
        choices=choices,
        ensemble=ensemble,
        equal_minutes=equal_minutes,
        deterministic=deterministic,
        tensorboard=tracking.tensorboard,
        say=remark,
    )
    remark.release()
    sizes = {trial.label: trial.recipe.batch_size for trial in trials}
    climbing = functools.partial(
        climb,
        trials,
        data,
        runs,
        minutes=minutes,
        began=startup.BEGAN,
        fresh=fresh,
        runner=runner,
        look_on=lambda label: [ProgressBar(label, sizes[label], errors)],
        say=remark,
    )
    ended = _watch(climbing, len(trials), runs, tracking, lambda: send(context))
    comparison = conclude(ended, runs)
    try:
        _print(comparison, runs, as_json)
    finally:  # also where standard output cannot be written, as after `| head`
        report = write_report(comparison, runs / "report.html", say=remark)
        remark(f"What they show: {report}")
    if any(outcome.failed for outcome in ended):
        raise typer.Exit(1)


def _check(epochs: float | None, equal_minutes: float | None, minutes: float | None, cluster: Cluster) -> None:
    """Refuse what does not go together, before anything is imported."""
    if equal_minutes is not None:
        check_range("equal minutes", equal_minutes, 0.05, MOST_MINUTES)
        if epochs is not None:
            raise ConvladderError("--epochs and --equal-minutes both say how long to train. Expected one of them.")
    if minutes is not None:
        check_range("minutes", minutes, 0.01, MOST_MINUTES)
    if cluster.storage and not cluster.ray:
        raise ConvladderError("--storage is where a cluster's nodes leave their runs. Expected --ray with it.")


def _name_rungs(models: str) -> list[str]:
    """The rungs that --models names."""
    from convladder.models.ladder import MODELS

    named = list(MODELS) if models == "all" else [name.strip() for name in models.split(",")] if models else []
    for rung in named:
        check_choice("rung", rung, MODELS)
    return named


def _watch(
    climbing: "Callable[[], Iterator[Outcome]]",
    count: int,
    runs: Path,
    tracking: Tracking,
    keep: Callable[[], None],
) -> "list[Outcome]":
    """Carry out so many trials, with a table on the terminal that grows with each run; give back all outcomes.

    `keep` is called after each run.
    """
    from rich.live import Live

    from convladder.comparing.comparison import Comparison

    ended: list[Outcome] = []

    def kept() -> str:
        finished = sum(outcome.run is not None for outcome in ended)
        return f"{finished} of {count} runs are finished, in {runs}; the same command goes on from there."

    # What a library prints meanwhile, as Ray does of a node that is lost, is no result.
    with when_stopped(kept), contextlib.redirect_stdout(sys.stderr), Live(console=errors, transient=True) as live:
        for outcome in climbing():
            ended.append(outcome)
            if outcome.run is not None:
                tracking.log(outcome.run)
                keep()
                climbed = Comparison(tuple(one.run for one in ended if one.run is not None))
                live.update(next(tables.of_comparison(climbed.rows)), refresh=True)
    return ended


def _print(comparison: "Comparison", runs: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(comparison.content, indent=2))
    else:
        show(tables.of_comparison(comparison.rows, comparison.pareto))
        say("* No rung is at least as accurate for less of this: it is on the Pareto front.")
        say()
        for sentence in comparison.sentences:
            say(sentence)
        say(f"{len(comparison.runs)} runs in {runs}{os.sep}")
    sys.stdout.flush()
