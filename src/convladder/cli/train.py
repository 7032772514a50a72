"""`train`: from data to a run."""

import json
from collections.abc import Callable
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
    offer_choices,
    offer_data,
    offer_recipe,
    offer_tracking,
    remark,
    say,
)
from convladder.cli.resuming import name_way_on, take_up
from convladder.cli.storing import RunsDirectory, fetch_and_send
from convladder.engine import import_engine
from convladder.errors import ConvladderError
from convladder.evaluating.few import caution, leaks_in_words, rounded

if TYPE_CHECKING:
    from convladder.data.dataset import Dataset
    from convladder.runs.run import Run


@app.command()
@offer_data
@offer_recipe
@offer_tracking
@offer_choices
def train(
    context: typer.Context,
    dataset: Callable[..., Any],
    choose: Callable[..., Any],
    choices: dict[str, Any],
    tracking: Tracking,
    model: Annotated[
        str | None,
        typer.Option(help="A rung that `convladder models` lists; by default transfer for photographs, else pool."),
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Be done when so many are over, instead of --epochs.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of weights, order and dropout.")] = 0,
    ensemble: Ensemble = 1,
    deterministic: Deterministic = False,
    runs: RunsDirectory = Path("runs"),
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a run that was stopped, killed or failed, as it was started."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a rung, and write a run folder."""
    recipe_for = choose(minutes=minutes)
    started = None if resume is None else take_up(resume, context)
    fetch_and_send(context)
    import_engine()
    from convladder.models.backbone import PRETRAINED, SIDE
    from convladder.models.ladder import check_choices
    from convladder.training.progress import ProgressBar
    from convladder.training.tracking import with_tensorboard
    from convladder.training.train import train as train_model

    tracking.check()
    if started:
        data, chosen = started.load_data(), started.recipe
        model, seed, ensemble, choices, deterministic, by_folds = started.arguments
    else:
        if model is not None:
            check_choices(model, choices)
        data = dataset(photograph_size=SIDE if model is None or model in PRETRAINED else None)
        if model is None:
            model = _choose_rung(data, recipe_for, choices, ensemble)
        chosen, by_folds = recipe_for(model, data), True
    look_on = [ProgressBar(model, chosen.batch_size, errors)]
    callbacks = with_tensorboard(look_on) if tracking.tensorboard else lambda _: look_on
    folders: list[Path] = []

    def begin(folder: Path) -> Any:
        folders.append(folder)
        remark.release()  # the folder is made when nothing is refused any more
        return callbacks(folder)

    with name_way_on(folders):
        run = train_model(
            model,
            data,
            chosen,
            seed=seed,
            ensemble=ensemble,
            choices=choices,
            directory=runs,
            resume=resume,
            callbacks=begin,
            deterministic=deterministic,
            by_folds=by_folds,
            began=startup.BEGAN,
        )
    if not folders:
        remark.release()
        remark(f"{run.path} is finished: there is nothing to resume.")
    tracking.log(run)
    if as_json:
        print(json.dumps({"run": str(run.path)} | run.info, indent=2))
    else:
        _say_result(run)


def _choose_rung(data: "Dataset", recipe_for: Callable[..., Any], choices: dict[str, Any], ensemble: int) -> str:
    """The rung that suits the data, where the user names none; what else was asked for must go with it."""
    from convladder.models.ladder import check_choices
    from convladder.training.solving import check_solvable

    rung = "transfer" if data.photographs else "pool"
    why = f"photographs, {data.native_side} pixels at their shorter side" if data.photographs else "no photographs"
    because = f"The rung is {rung}, because these are {why}; --model takes another."
    recipe = recipe_for(rung, data)
    try:
        check_choices(rung, choices)
        if rung == "transfer":
            check_solvable(recipe, ensemble)
    except ConvladderError as error:  # the user has not named the rung that the error speaks of
        raise ConvladderError(f"{error} {because}") from None
    remark(because)
    return rung


def _say_result(run: "Run") -> None:
    test, tested_by = run.metrics["test"], run.info.get("tested_by")
    accuracy, low, high = (rounded(test[key], test["images"]) for key in ("accuracy", "low", "high"))
    by = f", by {tested_by}" if tested_by else ""
    say(
        f"{run.path}: test accuracy {accuracy} ({low} to {high} for {test['images']:,} images{by}), fitted in "
        f"{run.info['fit_seconds']:.1f} s{f'. {run.no_better}' if run.no_better else ''}"
    )
    for said in filter(None, (leaks_in_words(test), caution(test, run.info))):
        remark(said)
