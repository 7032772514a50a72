"""What the commands share: the application, its consoles, the options that several have, and loading what they name."""

import contextlib
import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convladder import __version__
from convladder.cli.streams import PlainConsole
from convladder.errors import ConvladderError, check_choice
from convladder.signals import stopped

if TYPE_CHECKING:
    from rich.console import RenderableType

    from convladder.data.dataset import Dataset
    from convladder.runs.run import Run
    from convladder.training.recipes import Recipe

app = typer.Typer(
    help="Train, compare, look inside and ship convolutional image classifiers on an ordinary machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = PlainConsole(stderr=True)
output = PlainConsole(width=None if sys.stdout and sys.stdout.isatty() else 120)


class Remarks:
    """Lines on standard error. A command that may still refuse its input holds them: a refusal is one line."""

    def __init__(self) -> None:
        self._held: list[str] | None = None

    def __call__(self, line: str) -> None:
        """Say a line, or keep it until the command has begun its work."""
        if self._held is None:
            errors.print(line, soft_wrap=True)
        else:
            self._held.append(line)

    def hold(self) -> None:
        """Keep what is said from now on."""
        self._held = []

    def release(self, *, refused: bool = False) -> None:
        """Say what was kept, unless the input was refused; and from now on everything at once."""
        held, self._held = self._held, None
        for line in () if refused else held or ():
            self(line)


remark = Remarks()
say = functools.partial(output.print, soft_wrap=True)  # a line of a result

Ensemble = Annotated[
    int, typer.Option(min=1, max=100, help="Train so many networks, and ship their mean.", rich_help_panel="Recipe")
]
RunsDirectory = Annotated[Path, typer.Option("--runs", help="Where run folders are made.")]
Deterministic = Annotated[bool, typer.Option(help="The same weights again, bit for bit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
MOST_CLASSES = 100_000
Classes = Annotated[int, typer.Option(min=2, max=MOST_CLASSES, help="How many classes there are.")]
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
    "backbone": (str, "Pretrained network of transfer and finetune: efficientnet-lite0, or one of keras.applications."),
    "weights": (str, "Its weights, a .weights.h5, .h5 or .keras file; by default from Keras's cache, or downloaded."),
    "residual": (bool, "Whether to connect around every two convolutions."),
}
RECIPE_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "recipe": (str, "default", "default, or article."),
    "epochs": (float | None, None, "Passes over the training images; a fraction is allowed."),
    "until": (float | None, None, "Stop at this validation accuracy, 0 to 1."),
    "batch_size": (int | None, None, "Images a step."),
    "learning_rate": (float | None, None, "Of Adam; the peak, where it rises and falls."),
    "augment": (
        str | None,
        None,
        "none; digits: small shifts, turns and scalings; photos: flips, shifts, changes of colour, a hidden square. By "
        "default none, and of strong and tiny digits where pictures are gray, photos where they have colours.",
    ),
    "views": (
        str | None,
        None,
        "What predictions are averaged over: none; digits: the picture and its four neighbours a pixel away; photos: "
        "the picture and its mirror image. More accurate, at five or two times the arithmetic.",
    ),
    "precision": (str | None, None, "auto, float32 or bfloat16."),
}
COLUMN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "path_column": (str | None, None, "Of a .csv file: header, or number from 1 up, of the column of the files."),
    "label_column": (str | None, None, "The same, of the column of the classes."),
    "split_column": (str | None, None, "The same, of the column of the splits; none passes over it."),
}
DATA_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "data": (
        str,
        "mnist",
        "mnist; clothes, 200 photographs; a folder of pictures, CLASS/* or train/CLASS/* and test/CLASS/*; a .csv file "
        "of path, label and perhaps split; a folder of four IDX files; an .npz file with MNIST's keys.",
    ),
    "image_size": (
        int | None,
        None,
        "Height and width of pictures; by default 224 for transfer and finetune, else what they have, 48 at most.",
    ),
    "channels": (int | None, None, "1, gray, or 3, colours; by default 1 where no picture has colours."),
    "resize": (
        str | None,
        None,
        "How pictures of other proportions are brought to that size: crop, the default, pad or stretch.",
    ),
    "fit": (str | None, None, "What --resize was called before."),
    "cache": (bool, True, "Whether to keep decoded pictures for the next time."),
    "keep_leaks": (
        bool,
        False,
        "Train on copies of pictures that validate or test, too; by default they are left out.",
    ),
    **COLUMN_OPTIONS,
}


FORMER = ("fit",)  # names that options had before: accepted, and not shown

TRACKING_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "tensorboard": (bool, False, "Write what TensorBoard reads, into the run's folder."),
    "mlflow": (
        str | None,
        None,
        "URI of an MLflow server or database to log to; by default sqlite:///mlflow.db.",
    ),
}


@dataclass(frozen=True)
class Tracking:
    """Which other tools shall read the runs."""

    tensorboard: bool
    mlflow: str | None

    def check(self) -> None:
        """Import them before anything is trained: it is then that a missing extra is said."""
        from convladder.training.tracking import check_mlflow, check_tensorboard

        if self.tensorboard:
            check_tensorboard()
        if self.mlflow:
            check_mlflow(self.mlflow)

    def log(self, run: "Run") -> None:
        """Log a finished run; where that fails, warn, for the run is there all the same."""
        from convladder.training.tracking import log_to_mlflow

        try:
            if self.mlflow:
                log_to_mlflow(run, self.mlflow)
        except Exception as error:
            warnings.warn(f"{run.path} is finished, but was not logged: {error}", stacklevel=2)


@contextlib.contextmanager
def when_stopped(kept: Callable[[], str]) -> Iterator[None]:
    """Where a signal stops what is within, say also what is kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise stopped(stop, kept()) from None


def offer_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what it works on, and hand it what loads that as `dataset`."""

    def make(data: str, resize: str | None, fit: str | None, **given: Any) -> Callable[..., Any]:
        if resize is not None and fit is not None:
            raise ConvladderError("--resize and --fit are two names of one option. Expected --resize alone.")
        columns = name_columns(**{name: given.pop(name) for name in COLUMN_OPTIONS})
        chosen = fit if resize is None else resize
        resized = {} if chosen is None else {"resize": chosen}
        return functools.partial(load, data, **given, **resized, columns=columns)

    return offer(command, "dataset", DATA_OPTIONS, make, "Data")


def offer_choices(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each of CHOICES, and hand it those that were given as `choices`."""
    options = {name: (kind | None, None, text) for name, (kind, text) in CHOICES.items()}
    return offer(command, "choices", options, _given, "Choices of a rung")


def offer_recipe(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a recipe, and hand it `choose_recipe` with what was given."""

    def make(**given: Any) -> Callable[..., Any]:
        return functools.partial(choose_recipe, **given)

    return offer(command, "choose", RECIPE_OPTIONS, make, "Recipe")


def offer_columns(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name the columns of a .csv file, and hand them over as `columns`."""
    return offer(command, "columns", COLUMN_OPTIONS, name_columns, "Data")


def name_columns(**given: str | None) -> dict[str, str]:
    """What --path-column, --label-column and --split-column named, as `load_dataset` takes it."""
    return {option.removesuffix("_column"): name for option, name in _given(**given).items()}


def offer_tracking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that name other tools, and hand it `tracking`."""
    return offer(command, "tracking", TRACKING_OPTIONS, Tracking, "Other tools")


def offer(
    command: Callable[..., None],
    parameter: str,
    options: dict[str, tuple[Any, Any, str]],
    make: Callable[..., Any],
    panel: str,
) -> Callable[..., None]:
    """Give a command options, name: (kind, default, help), and hand it what `make` makes of them as one parameter."""

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in options}
        command(**arguments, **{parameter: make(**given)})

    own = [p for p in inspect.signature(command).parameters.values() if p.name != parameter]
    offered = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, typer.Option(help=text, rich_help_panel=panel, hidden=name in FORMER)],
        )
        for name, (kind, default, text) in options.items()
    ]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    with_options.__signature__ = inspect.Signature(offered + keyword_only)  # type: ignore[attr-defined]
    return with_options


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


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


def show(parts: "Iterable[RenderableType]") -> None:
    """Print tables and lines on standard output."""
    for part in parts:
        output.print(part, soft_wrap=isinstance(part, str))


def choose_recipe(recipe: str, **changes: Any) -> "Callable[[str, Dataset], Recipe]":
    """From a rung and the data to its recipe, changed where an option says so."""
    from convladder.training.recipes import ARTICLE, DEFAULT, default_recipe_for

    check_choice("recipe", recipe, ("default", "article"))
    given = _given(**changes)
    replace(ARTICLE if recipe == "article" else DEFAULT, **given)  # complains of bad values before anything is loaded

    def recipe_for(rung: str, dataset: "Dataset") -> "Recipe":
        return replace(ARTICLE if recipe == "article" else default_recipe_for(rung, dataset), **given)

    return recipe_for


def note_embedded(source: str | None) -> None:
    """Say that a name means what comes with the package, where a file or folder here has it as well."""
    from convladder.data.loading import EMBEDDED

    if source in EMBEDDED and Path(source).exists():
        errors.print(
            f"{source} is the set that comes with convladder. For what is called so here, write ./{source}.",
            soft_wrap=True,
        )


def load(source: str, **settings: Any) -> "Dataset":
    """The data set that --data names; what became of its files is said on standard error, once nothing is refused."""
    from convladder.data.dataset import describe_classes
    from convladder.data.loading import load_dataset

    note_embedded(source)
    remark.hold()
    dataset = load_dataset(source, **settings)
    for line in dataset.lines():
        remark(line)
    remark(describe_classes(dataset))
    return dataset


def parse_size(text: str) -> tuple[int, int, int]:
    """Read 28x28x1."""
    try:
        height, width, channels = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConvladderError(f"--input {text} is no size. Expected HEIGHTxWIDTHxCHANNELS, as 28x28x1.") from error
    return height, width, channels
