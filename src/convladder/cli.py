"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

import functools
import inspect
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from convladder import __version__, tables
from convladder.engine import import_engine
from convladder.errors import ConvladderError, check_choice, check_range

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convladder.data import Dataset
    from convladder.recipes import Recipe

app = typer.Typer(
    help="Train, compare, look inside and ship convolutional image classifiers on an ordinary machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = Console(stderr=True, highlight=False)
output = Console(highlight=False, width=None if sys.stdout.isatty() else 120)

RecipeName = Annotated[str, typer.Option("--recipe", help="default, or article.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training images; a fraction is allowed.")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.")]
RunsDirectory = Annotated[Path, typer.Option("--runs", help="Where run folders are made.")]
AUGMENT_HELP = (
    "none; digits: small shifts, turns and scalings; photos: flips, shifts, changes of colour. By default none, and of "
    "strong and tiny digits where pictures are gray, photos where they have colours."
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Classes = Annotated[int, typer.Option(help="How many classes there are.")]
Input = Annotated[str, typer.Option("--input", metavar="HxWxC", help="The size of an image.")]

# What the rungs let one choose, in the words of their signatures; `build_model` knows which rung has which.
CHOICES: dict[str, tuple[type, str]] = {
    "kernel_size": (int, "Side of a convolution's kernel."),
    "stride": (int, "Step of a convolution."),
    "padding": (str, "Of a convolution: same or valid."),
    "pooling": (str, "max, average or min."),
    "pool_size": (int, "Side of a pooling window."),
    "hidden": (int, "Units of a hidden fully connected layer."),
    "filters": (int, "Filters of the first convolution."),
    "dropout": (float, "Share of the activations dropped in training."),
    "l1": (float, "Penalty on the weights' absolute values."),
    "l2": (float, "Penalty on the weights' squares."),
    "batch_norm": (bool, "Whether to normalize batches."),
    "module": (str, "Inception module: reduced or naive."),
    "depth": (int, "Convolutions in the stack."),
    "residual": (bool, "Whether to connect around every two convolutions."),
}


def offer_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of CHOICES, and hand it those that were given as `choices`."""

    @functools.wraps(command)
    def with_choices(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in CHOICES}
        command(**arguments, choices={name: value for name, value in given.items() if value is not None})

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "choices"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind | None, typer.Option(help=text, rich_help_panel="Choices of a rung")],
        )
        for name, (kind, text) in CHOICES.items()
    ]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_choices.__signature__ = inspect.Signature(keyword_only + options)  # type: ignore[attr-defined]
    return with_choices


DATA_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "data": (
        str,
        "mnist",
        "mnist; a folder of pictures, CLASS/* or train/CLASS/* and test/CLASS/*; a .csv file of path and label; a "
        "folder of four IDX files; an .npz file with MNIST's keys.",
    ),
    "image_size": (int | None, None, "Height and width of pictures; by default what they have, 96 at most."),
    "channels": (int | None, None, "1, gray, or 3, colours; by default 1 where no picture has colours."),
    "fit": (str, "crop", "How pictures of other proportions are brought to that size: crop, pad or stretch."),
    "cache": (bool, True, "Whether to keep decoded pictures for the next time."),
}


def offer_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what it works on, and hand it what loads that as `dataset`."""

    @functools.wraps(command)
    def with_data(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in DATA_OPTIONS}
        command(**arguments, dataset=functools.partial(load, given.pop("data"), **given))

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "dataset"]
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, typer.Option(help=text, rich_help_panel="Data")],
        )
        for name, (kind, default, text) in DATA_OPTIONS.items()
    ]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_data.__signature__ = inspect.Signature(options + keyword_only)  # type: ignore[attr-defined]
    return with_data


def print_version(wanted: bool) -> None:
    """Answer --version."""
    if wanted:
        print(f"convladder {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=print_version)
    ] = False,
) -> None:
    """Train, compare, look inside and ship convolutional image classifiers on an ordinary machine."""


@app.command()
def models(as_json: AsJson = False, size: Input = "28x28x1", classes: Classes = 10) -> None:
    """The ladder: what each rung adds, its parameters and multiply-accumulates."""
    import_engine()
    from convladder.describing import count_macs
    from convladder.models import MODELS, build_model, rung_idea

    rows = []
    for name in MODELS:
        model = build_model(name, parse_size(size), classes)
        rows.append(
            {
                "name": name,
                "idea": rung_idea(name),
                "parameters": model.count_params(),
                "macs": count_macs(model),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    show(tables.of_models(rows))


@app.command()
@offer_choices
def summary(
    rung: Annotated[str, typer.Argument(help="A name that `convladder models` lists.")],
    choices: dict[str, Any],
    size: Input = "28x28x1",
    classes: Classes = 10,
    as_json: AsJson = False,
) -> None:
    """A rung layer by layer, with the arithmetic of each output size."""
    import_engine()
    from convladder.describing import summarize
    from convladder.models import build_model

    rows = summarize(build_model(rung, parse_size(size), classes, **choices))
    parameters, macs = sum(row.parameters for row in rows), sum(row.macs for row in rows)
    if as_json:
        print(json.dumps({"layers": [asdict(row) for row in rows], "parameters": parameters, "macs": macs}, indent=2))
        return
    show(tables.of_layers(rung, rows))


@app.command()
@offer_data
@offer_choices
def train(
    dataset: Callable[[], Any],
    choices: dict[str, Any],
    model: Annotated[str, typer.Option(help="A rung that `convladder models` lists.")] = "pool",
    recipe: RecipeName = "default",
    epochs: Epochs = None,
    minutes: Annotated[float | None, typer.Option(help="Train as long as this, instead of --epochs.")] = None,
    until: Annotated[float | None, typer.Option(help="Stop at this validation accuracy, 0 to 1.")] = None,
    batch_size: BatchSize = None,
    augment: Annotated[str | None, typer.Option(help=AUGMENT_HELP)] = None,
    precision: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, order and dropout.")] = 0,
    ensemble: Annotated[int, typer.Option(min=1, help="Train so many networks, and ship their mean.")] = 1,
    deterministic: Annotated[bool, typer.Option(help="The same weights again, bit for bit.")] = False,
    runs: RunsDirectory = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Train a rung, and write a run folder."""
    recipe_for = choose_recipe(
        recipe,
        epochs=epochs,
        minutes=minutes,
        until=until,
        batch_size=batch_size,
        augment=augment,
        precision=precision,
    )
    import_engine()
    from convladder.models import MODELS
    from convladder.progress import ProgressBar
    from convladder.training import train as train_model

    check_choice("rung", model, MODELS)
    data = dataset()
    chosen = recipe_for(model, data.input_shape[2])
    run = train_model(
        model,
        data,
        chosen,
        seed=seed,
        ensemble=ensemble,
        choices=choices,
        directory=runs,
        callbacks=[ProgressBar(model, chosen.batch_size, errors)],
        deterministic=deterministic,
    )
    if as_json:
        print(json.dumps({"run": str(run.path)} | run.info, indent=2))
        return
    test = run.metrics["test"]
    output.print(
        f"{run.path}: test accuracy {test['accuracy']:.4f} ({test['low']:.4f} to {test['high']:.4f} for "
        f"{test['images']:,} images), fitted in {run.info['fit_seconds']:.1f} s",
        soft_wrap=True,
    )


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


@app.command()
def audit(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures, or a .csv file.")],
    run: Annotated[Path | None, typer.Option(help="A run of these pictures: adds likely label errors.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page with thumbnails there.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 3 where anything was found.")] = False,
    as_json: AsJson = False,
) -> None:
    """What is wrong with a folder of pictures, before anything is trained on it."""
    from convladder.data.audit import audit as audit_pictures

    result = audit_pictures(source)
    if run:
        from convladder.label_errors import find_label_errors
        from convladder.runs import Run

        likely = find_label_errors(source, Run(run))
        result = replace(result, findings=[*result.findings, *([likely] if likely.groups else [])])
    if html:
        from convladder.data.audit_report import render_audit
        from convladder.runs import whole_file

        page = render_audit(result)
        with whole_file(html) as temporary:
            temporary.write_text(page)
    if as_json:
        print(json.dumps(result.as_dict(), indent=2))
    else:
        show(tables.of_audit(result))
    if strict and result.findings:
        raise typer.Exit(3)


@app.command()
def reproduce(
    epochs: Annotated[float, typer.Option(help="The article trains for 10.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Runs a network; claims about accuracy are judged on them.")] = 1,
    only: Annotated[str | None, typer.Option(metavar="TABLE", help="networks or claims.")] = None,
    runs: RunsDirectory = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Take the finished runs that are there already.")] = False,
    as_json: AsJson = False,
) -> None:
    """The article, tested: its figures beside those of this machine, and twelve of its claims with verdicts."""
    check_choice("table", only or "networks", ("networks", "claims"))
    check_range("epochs", epochs, 0.001)
    import_engine()
    from convladder.data import load_dataset
    from convladder.progress import ProgressBar
    from convladder.recipes import ARTICLE
    from convladder.reproducing import TABLES
    from convladder.reproducing import reproduce as reproduce_article

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
def predict(
    model: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file.")],
    sources: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.")],
    as_json: AsJson = False,
) -> None:
    """A line a picture: its label, and how probable that is."""
    from convladder.classifier import Classifier

    classifier = Classifier(model / "model.onnx" if model.is_dir() else model)
    failed = False
    for source, answer in zip(sources, classifier.predict(sources), strict=True):
        if isinstance(answer, ConvladderError):
            failed = True
            if as_json:
                print(json.dumps({"source": str(source), "error": str(answer)}))
            else:
                errors.print(f"Error: {answer}", soft_wrap=True, markup=False)
        elif as_json:
            print(json.dumps(asdict(answer)))
        else:
            print(f"{answer.source}\t{answer.label}\t{answer.probability:.4f}")
    if failed:
        raise typer.Exit(2)


@app.command()
def benchmark(
    quick: Annotated[bool, typer.Option("--quick", help="The two ratios, within 8 minutes on two cores.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each contender.")] = 3,
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
        errors.print(
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
    output.print(f"{folder / 'time_to_accuracy.json'} and the plot beside it", soft_wrap=True)


def show(parts: "Iterable[RenderableType]") -> None:
    """Print tables and lines on standard output."""
    for part in parts:
        output.print(part, soft_wrap=isinstance(part, str))


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 28x28x1."""
    try:
        height, width, channels = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConvladderError(f"--input {text} is no size. Expected HEIGHTxWIDTHxCHANNELS, as 28x28x1.") from error
    return height, width, channels


def choose_recipe(name: str, **changes: Any) -> "Callable[..., Recipe]":
    """From a rung and the pictures' channels to its recipe, changed where an option says so."""
    from convladder.recipes import ARTICLE, DEFAULT, default_recipe

    check_choice("recipe", name, ("default", "article"))
    given = {key: value for key, value in changes.items() if value is not None}
    replace(ARTICLE if name == "article" else DEFAULT, **given)  # complains of bad values before anything is loaded

    def recipe_for(rung: str, channels: int = 1) -> "Recipe":
        return replace(ARTICLE if name == "article" else default_recipe(rung, channels), **given)

    return recipe_for


def load(source: str, **settings: Any) -> "Dataset":
    """The data set that --data names; what became of its files is said on standard error."""
    from convladder.data import load_dataset

    dataset = load_dataset(source, **settings)
    for line in dataset.account.lines() if dataset.account else ():
        errors.print(line, soft_wrap=True, markup=False)
    return dataset


def main() -> None:
    """Run the command line: 0 done, 1 failed, 2 bad input, 3 a gate refused, 130 interrupted."""
    warnings.showwarning = lambda message, *_: errors.print(f"Warning: {message}", soft_wrap=True, markup=False)
    try:
        command = typer.main.get_command(app)
        with command.make_context("convladder", sys.argv[1:]) as context:
            command.invoke(context)
        message, status = "", 0
    except typer.Exit as ended:
        message, status = "", ended.exit_code
    except KeyboardInterrupt as error:
        message, status = str(error) or "Interrupted.", 130
    except Exception as error:
        if "--debug" in sys.argv[1:]:
            raise
        if isinstance(error, ConvladderError):
            message, status = str(error), error.exit_status
        elif isinstance(error, ModuleNotFoundError):
            message, status = f"{error.name} is not installed. Run: pip install 'convladder[train]'", 1
        elif hasattr(error, "format_message"):  # a wrong option, in typer's words; it shares no public class
            message, status = error.format_message(), 2
        else:
            raise
    if message:  # it is empty where typer has answered with the help
        errors.print(f"Error: {message}", soft_wrap=True, markup=False)
    sys.exit(status)
