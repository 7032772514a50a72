"""`train`, `reproduce` and `benchmark`: from data to runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from convladder import startup, tables
from convladder.cli.application import (
    AsJson,
    Deterministic,
    Ensemble,
    RunsDirectory,
    Tracking,
    app,
    errors,
    offer_choices,
    offer_data,
    offer_recipe,
    offer_tracking,
    remark,
    say,
    show,
    when_stopped,
)
from convladder.engine import import_engine
from convladder.errors import ConvladderError, check_choice, check_range
from convladder.few import caution, leaks_in_words, rounded
from convladder.recipes import EPOCHS


@app.command()
@offer_data
@offer_recipe
@offer_tracking
@offer_choices
def train(
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
    as_json: AsJson = False,
) -> None:
    """Train a rung, and write a run folder."""
    recipe_for = choose(minutes=minutes)
    import_engine()
    from convladder.backbone import SIDE
    from convladder.models import PRETRAINED, check_choices
    from convladder.progress import ProgressBar
    from convladder.solving import check_solvable
    from convladder.tracking import with_tensorboard
    from convladder.training import train as train_model

    if model is not None:
        check_choices(model, choices)
    tracking.check()
    data = dataset(photograph_size=SIDE if model is None or model in PRETRAINED else None)
    if model is None:
        model = "transfer" if data.photographs else "pool"
        why = f"photographs, {data.native_side} pixels at their shorter side" if data.photographs else "no photographs"
        because = f"The rung is {model}, because these are {why}; --model takes another."
        chosen = recipe_for(model, data)
        try:
            check_choices(model, choices)
            if model == "transfer":
                check_solvable(chosen, ensemble)
        except ConvladderError as error:  # the user has not named the rung that the error speaks of
            raise ConvladderError(f"{error} {because}") from None
        remark(because)
    else:
        chosen = recipe_for(model, data)
    look_on = [ProgressBar(model, chosen.batch_size, errors)]
    callbacks = with_tensorboard(look_on) if tracking.tensorboard else lambda _: look_on

    def begin(folder: Path) -> Any:
        remark.release()  # the folder is made when nothing is refused any more
        return callbacks(folder)

    run = train_model(
        model,
        data,
        chosen,
        seed=seed,
        ensemble=ensemble,
        choices=choices,
        directory=runs,
        callbacks=begin,
        deterministic=deterministic,
        began=startup.BEGAN,
    )
    tracking.log(run)
    if as_json:
        print(json.dumps({"run": str(run.path)} | run.info, indent=2))
        return
    test, tested_by = run.metrics["test"], run.info.get("tested_by")
    accuracy, low, high = (rounded(test[key], test["images"]) for key in ("accuracy", "low", "high"))
    by = f", by {tested_by}" if tested_by else ""
    say(
        f"{run.path}: test accuracy {accuracy} ({low} to {high} for {test['images']:,} images{by}), fitted in "
        f"{run.info['fit_seconds']:.1f} s{f'. {run.no_better}' if run.no_better else ''}"
    )
    for said in filter(None, (leaks_in_words(test), caution(test, run.info))):
        remark(said)


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
    from convladder.data import load_dataset
    from convladder.progress import ProgressBar
    from convladder.recipes import ARTICLE
    from convladder.reproducing import TABLES
    from convladder.reproducing import reproduce as reproduce_article

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


@app.command()
def benchmark(
    quick: Annotated[bool, typer.Option("--quick", help="The two ratios, within 8 minutes on two cores.")] = False,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Trainings of each contender.")] = 3,
    folder: Annotated[Path, typer.Option("--output", help="Where JSON and plot are written.")] = Path("benchmark"),
    as_json: AsJson = False,
) -> None:
    """This machine, beside its peers: seconds of training to an accuracy on MNIST."""
    import_engine()
    from convladder.benchmarking import benchmark as run_benchmark
    from convladder.benchmarking import summarize_trainings
    from convladder.plots import plot_time_to_accuracy
    from convladder.runs import create_folder, whole_file, write_json

    create_folder(folder)
    trainings = []
    for training in run_benchmark(seeds=seeds, quick=quick):
        trainings.append(training)
        remark(
            f"{training.name}, seed {training.seed}: {training.seconds[-1]:.1f} s, "
            f"test accuracy {training.accuracies[-1]:.4f}"
        )
    result = summarize_trainings(trainings)
    write_json(folder / "time_to_accuracy.json", result)
    with whole_file(folder / "time_to_accuracy.svg") as temporary:
        plot_time_to_accuracy(trainings, temporary)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    show(tables.of_benchmark(result))
    say(f"{folder / 'time_to_accuracy.json'} and the plot beside it")
