"""What the commands share: the application, its consoles, common options, and loading the data that they name."""

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
    help="Train, compare, explain and ship convolutional image classifiers on an ordinary machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
errors = PlainConsole(stderr=True)
output = PlainConsole(width=None if sys.stdout and sys.stdout.isatty() else 120)


class Remarks:
    """Lines on standard error. A command holds them until its input is checked, so that a refusal is one line."""

    def __init__(self) -> None:
        self._held: list[str] | None = None

    def __call__(self, line: str) -> None:
        """Print a line, or keep it until the command starts its work."""
        if self._held is None:
            errors.print(line, soft_wrap=True)
        else:
            self._held.append(line)

    def hold(self) -> None:
        """Keep all lines from now on."""
        self._held = []

    def release(self, *, refused: bool = False) -> None:
        """Print the lines that were kept, unless the input was refused. Later lines are printed at once."""
        held, self._held = self._held, None
        for line in () if refused else held or ():
            self(line)


remark = Remarks()
say = functools.partial(output.print, soft_wrap=True)  # a line of a result

Ensemble = Annotated[
    int, typer.Option(min=1, max=100, help="Train this many networks and ship their mean.", rich_help_panel="Recipe")
]
Deterministic = Annotated[bool, typer.Option(help="Get the same weights every time, bit for bit. Slower.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AnyCost = Annotated[
    bool,
    typer.Option("--any-cost", help="Allow a model that may take any time and memory. For files that you trust."),
]
MOST_CLASSES = 100_000
Classes = Annotated[int, typer.Option(min=2, max=MOST_CLASSES, help="Number of classes.")]
Input = Annotated[str, typer.Option("--input", metavar="HxWxC", help="Shape of an image.")]

# The choices that rungs offer, under the names of their parameters. `build_model` knows which rung offers which.
CHOICES: dict[str, tuple[type, str]] = {
    "kernel_size": (int, "Side of a convolution's kernel, in pixels."),
    "stride": (int, "Stride of a convolution, in pixels."),
    "padding": (str, "Padding of a convolution: same or valid."),
    "pooling": (str, "Pooling: max, average or min."),
    "pool_size": (int, "Side of a pooling window, in pixels."),
    "hidden": (int, "Units of the hidden fully connected layer."),
    "filters": (int, "Filters of the first convolution."),
    "dropout": (float, "Share of the activations that dropout sets to 0, from 0 to 1."),
    "l1": (float, "L1 penalty on the weights (their absolute values)."),
    "l2": (float, "L2 penalty on the weights (their squares)."),
    "batch_norm": (bool, "Use batch normalization."),
    "module": (str, "Kind of inception module: reduced or naive."),
    "depth": (int, "Number of convolutions in the stack."),
    "backbone": (str, "Network for transfer and finetune: efficientnet-lite0, or one of keras.applications."),
    "weights": (str, "Its weights: a .weights.h5, .h5 or .keras file. Default: Keras's cache, or a download."),
    "residual": (bool, "Add a skip connection around every two convolutions."),
}
RECIPE_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "recipe": (str, "default", "Recipe: default or article."),
    "epochs": (float | None, None, "Passes over the training images; fractions are allowed."),
    "until": (float | None, None, "Stop at this validation accuracy, from 0 to 1."),
    "batch_size": (int | None, None, "Images per step."),
    "learning_rate": (float | None, None, "Learning rate of Adam; its peak if a schedule changes it."),
    "augment": (
        str | None,
        None,
        "Augmentation. none; digits: small shifts, rotations and scalings; photos: flips, shifts, colour changes, "
        "cutout. Default: none; for the rungs strong and tiny, digits if images are gray, photos if they have colour.",
    ),
    "views": (
        str | None,
        None,
        "Test-time augmentation. none; digits: average over the image and four copies shifted by a pixel; photos: "
        "average over the image and its mirror image. More accurate, but five or two times the arithmetic.",
    ),
    "precision": (str | None, None, "Precision of the arithmetic: auto, float32 or bfloat16."),
}
COLUMN_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "path_column": (
        str | None,
        None,
        "For a .csv file: the column of the file paths, by its header or its number (1, 2, …).",
    ),
    "label_column": (str | None, None, "For a .csv file: the column of the classes."),
    "split_column": (str | None, None, "For a .csv file: the column of the splits; none ignores it."),
}
DATA_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "data": (
        str,
        "mnist",
        "mnist; clothes, 200 photos; a folder of images, CLASS/* or train/CLASS/* and test/CLASS/*; a .csv file with "
        "path, label and optionally split; a folder with the four IDX files; an .npz file with MNIST's keys.",
    ),
    "image_size": (
        int | None,
        None,
        "Height and width of the images, in pixels. Default: 224 for transfer and finetune, else at most 48.",
    ),
    "channels": (int | None, None, "1 (gray) or 3 (colour). Default: 1 if no image has colour."),
    "resize": (
        str | None,
        None,
        "How pictures of other proportions are brought to that size: crop, the default, pad or stretch.",
    ),
    "fit": (str | None, None, "What --resize was called before."),
    "cache": (bool, True, "Keep decoded images on disk for the next time."),
    "keep_leaks": (
        bool,
        False,
        "Also train on copies of validation and test images. By default they are left out.",
    ),
    **COLUMN_OPTIONS,
}


FORMER = ("fit",)  # names that options had before: accepted, and not shown

TRACKING_OPTIONS: dict[str, tuple[Any, Any, str]] = {
    "tensorboard": (bool, False, "Also write logs for TensorBoard into the run folder."),
    "mlflow": (
        str | None,
        None,
        "Log to MLflow: the URI of a server or database. Without a value: sqlite:///mlflow.db.",
    ),
}


@dataclass(frozen=True)
class Tracking:
    """The tracking tools that runs are logged to."""

    tensorboard: bool
    mlflow: str | None

    def check(self) -> None:
        """Import them before training, so that a missing extra is reported early."""
        from convladder.training.tracking import check_mlflow, check_tensorboard

        if self.tensorboard:
            check_tensorboard()
        if self.mlflow:
            check_mlflow(self.mlflow)

    def log(self, run: "Run") -> None:
        """Log a finished run. A failure is only a warning, because the run itself is saved."""
        from convladder.training.tracking import log_to_mlflow

        try:
            if self.mlflow:
                log_to_mlflow(run, self.mlflow)
        except Exception as error:
            warnings.warn(f"{run.path} is finished, but could not be logged: {error}", stacklevel=2)


@contextlib.contextmanager
def when_stopped(kept: Callable[[], str]) -> Iterator[None]:
    """If a signal stops the block, also say what is kept and how to continue."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise stopped(stop, kept()) from None


def offer_data(command: Callable[..., None]) -> Callable[..., None]:
    """Add the data options to a command. It gets a function that loads the data as `dataset`."""

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
    """Add the options of a recipe to a command. It gets `choose_recipe`, with the given values, as `choose`."""

    def make(**given: Any) -> Callable[..., Any]:
        return functools.partial(choose_recipe, **given)

    return offer(command, "choose", RECIPE_OPTIONS, make, "Recipe")


def offer_columns(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the columns of a .csv file to a command. It gets them as `columns`."""
    return offer(command, "columns", COLUMN_OPTIONS, name_columns, "Data")


def name_columns(**given: str | None) -> dict[str, str]:
    """The values of --path-column, --label-column and --split-column, in the form that `load_dataset` takes."""
    return {option.removesuffix("_column"): name for option, name in _given(**given).items()}


def offer_tracking(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for tracking tools to a command. It gets them as `tracking`."""
    return offer(command, "tracking", TRACKING_OPTIONS, Tracking, "Other tools")


def offer(
    command: Callable[..., None],
    parameter: str,
    options: dict[str, tuple[Any, Any, str]],
    make: Callable[..., Any],
    panel: str,
) -> Callable[..., None]:
    """Add options, name: (kind, default, help), to a command. It gets what `make` returns as one parameter."""

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
    """Print the version and exit."""
    if wanted:
        print(f"convladder {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
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
    """A function from a rung and its data to a recipe, with the options' changes."""
    from convladder.training.recipes import ARTICLE, DEFAULT, default_recipe_for

    check_choice("recipe", recipe, ("default", "article"))
    given = _given(**changes)
    replace(ARTICLE if recipe == "article" else DEFAULT, **given)  # refuses bad values before anything is loaded

    def recipe_for(rung: str, dataset: "Dataset") -> "Recipe":
        return replace(ARTICLE if recipe == "article" else default_recipe_for(rung, dataset), **given)

    return recipe_for


def note_embedded(source: str | None) -> None:
    """Say that a name means the embedded data set, if a file or folder of that name is here as well."""
    from convladder.data.loading import EMBEDDED

    if source in EMBEDDED and Path(source).exists():
        errors.print(
            f"{source} is the data set that comes with convladder. For your own file or folder, write ./{source}.",
            soft_wrap=True,
        )


def load(source: str, **settings: Any) -> "Dataset":
    """Load the data set that --data names. If it is accepted, standard error says what became of its files."""
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
    """Parse a shape such as 28x28x1."""
    try:
        height, width, channels = (int(part) for part in text.lower().split("x"))
    except ValueError as error:
        raise ConvladderError(
            f"--input {text} is not a shape. Expected HEIGHTxWIDTHxCHANNELS, such as 28x28x1."
        ) from error
    return height, width, channels
