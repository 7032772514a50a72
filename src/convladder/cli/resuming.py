"""`train --resume`: what a run was started with, and whether the options say anything else."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from convladder.cli.application import CHOICES, COLUMN_OPTIONS, DATA_OPTIONS, RECIPE_OPTIONS, load, when_stopped
from convladder.errors import ConvladderError

if TYPE_CHECKING:
    from convladder.data.dataset import Dataset
    from convladder.training.recipes import Recipe

FREE = ("resume", "as_json", "tensorboard", "mlflow")  # options that change nothing of a run


class Started:
    """A run to resume, by its run.json."""

    def __init__(self, folder: Path) -> None:
        from convladder.runs.run import Run
        from convladder.training.resuming import begun

        self.folder = begun(folder)
        self.info = Run(folder).info
        if self.info.get("own_network") or not self.info.get("data"):
            what = "network" if self.info.get("own_network") else "data"
            raise ConvladderError(
                f"{folder} was started from Python, with {what} of its own. Expected a run that train or compare "
                "started: resume this one with cl.train(..., resume=...)."
            )

    @property
    def recipe(self) -> "Recipe":
        """How it is trained."""
        from convladder.training.recipes import Recipe

        return Recipe(**self.info["recipe"])

    @property
    def arguments(self) -> tuple[str, int, int, dict[str, Any], bool, bool]:
        """Rung, seed, number of networks, choices, whether it is deterministic, and tested by folds."""
        info = self.info
        by_folds = info["recipe"]["validate"] and not info["images"]["validation"]
        return info["rung"], info["seed"], info["ensemble"], info["choices"], info["deterministic"], by_folds

    def load_data(self) -> "Dataset":
        """The data, as they were loaded."""
        settings = dict(self.info["data"])
        return load(settings.pop("source"), **settings)

    def value(self, option: str) -> Any:
        """What an option would have been given as."""
        info, data = self.info, self.info["data"]
        if option == "runs":
            return str(self.folder.resolve().parent)
        if option == "model":
            return info["rung"]
        if option == "recipe":
            return info["recipe"]["name"]
        if option == "minutes" or option in RECIPE_OPTIONS:
            return info["recipe"][option]
        if option in CHOICES:
            return info["choices"].get(option)
        if option in COLUMN_OPTIONS:
            return data.get("columns", {}).get(option.removesuffix("_column"))
        if option in DATA_OPTIONS:
            name = {"data": "source", "resize": "fit"}.get(option, option)
            return data.get(name, option == "cache" and True)
        return info[option]


def take_up(folder: Path, context: typer.Context) -> Started:
    """The run to resume.

    Raises:
        ConvladderError: There is none, or an option differs from what it was started with.
    """
    from convladder.data.loading import EMBEDDED
    from convladder.training.resuming import in_words, refuse

    started = Started(folder)
    told = []
    for option, value in context.params.items():
        source = context.get_parameter_source(option)
        if option in FREE or source is None or source.name != "COMMANDLINE":
            continue
        given = value
        if option == "runs" or (option == "data" and value not in EMBEDDED):
            given = str(Path(value).resolve())
        if given != (was := started.value(option)):
            told.append(in_words(f"--{option.replace('_', '-')}", was, given))
    refuse(folder, told)
    return started


@contextlib.contextmanager
def name_way_on(folders: list[Path]) -> Iterator[None]:
    """If the training into the last of the folders ends early, also say how to go on."""

    def way() -> str:
        there = folders and os.path.exists(folders[-1] / "run.json")
        return f"Go on with: convladder train --resume {folders[-1]}" if there else ""

    try:
        with when_stopped(way):
            yield
    except ConvladderError as error:
        if not isinstance(error.__cause__, OSError) or not (told := way()):
            raise
        raise ConvladderError(f"{error} {told}", exit_status=error.exit_status) from error
