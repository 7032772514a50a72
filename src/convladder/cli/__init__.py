"""The command line: parse, call, print. Heavy imports wait until a command needs them.

A module a group of commands; importing them, in the order of the help, is what puts them into the application.
"""

import itertools
import sys
import warnings

import typer

from convladder.cli import (  # noqa: F401  # isort: skip
    ladder,
    training,
    comparing,
    reporting,
    auditing,
    looking,
    shipping,
    serving,
)
from convladder.cli.application import CHOICES, app, errors
from convladder.errors import ConvladderError
from convladder.signals import handle_signals, stopped

__all__ = ["CHOICES", "app", "main"]

# Options that may stand without a value, and what they mean then; Typer itself knows none.
WITHOUT_VALUE = {"--ray": "local", "--mlflow": "sqlite:///mlflow.db"}

# What an import that fails belongs to, where it is not what trains.
EXTRAS = {
    "ai_edge_litert": "litert",
    "alembic": "mlflow",
    "fsspec": "ray",
    "mlflow": "mlflow",
    "openvino": "openvino",
    "ray": "ray",
    "sqlalchemy": "mlflow",
    "tensorboard": "tensorboard",
}


def main() -> None:
    """Run the command line: 0 done, 1 failed, 2 bad input, 3 a gate refused, 130 interrupted, 143 by SIGTERM."""
    warnings.showwarning = lambda message, *_: errors.print(f"Warning: {message}", soft_wrap=True, markup=False)
    try:
        command = typer.main.get_command(app)
        with handle_signals(), command.make_context("convladder", _complete(sys.argv[1:])) as context:
            command.invoke(context)
        message, status = "", 0
    except typer.Exit as ended:
        message, status = "", ended.exit_code
    except KeyboardInterrupt as error:
        told = stopped(error)
        message, status = str(told), told.exit_status
    except Exception as error:
        if "--debug" in sys.argv[1:]:
            raise
        if isinstance(error, ConvladderError):
            message, status = str(error), error.exit_status
        elif isinstance(error, ModuleNotFoundError):
            extra = EXTRAS.get((error.name or "").partition(".")[0], "train")
            message, status = f"{error.name} is not installed. Run: pip install 'convladder[{extra}]'", 1
        elif hasattr(error, "format_message"):  # a wrong option, in typer's words; it shares no public class
            message, status = error.format_message(), 2
        else:
            raise
    if message:  # it is empty where typer has answered with the help
        errors.print(f"Error: {message}", soft_wrap=True, markup=False)
    sys.exit(status)


def _complete(arguments: list[str]) -> list[str]:
    """The arguments, with a value after those of WITHOUT_VALUE that have none."""
    complete = []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        complete.append(argument)
        if argument in WITHOUT_VALUE and following.startswith("-"):
            complete.append(WITHOUT_VALUE[argument])
    return complete
