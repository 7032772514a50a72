"""The command line: parse, call, print. Heavy imports wait until a command needs them.

A module per command. Importing a module adds its command to the application, in the order of the help.
"""

import errno
import itertools
import signal
import sys
import warnings

import typer

from convladder.cli import (  # noqa: F401  # isort: skip
    models,
    summary,
    train,
    reproduce,
    compare,
    report,
    audit,
    export,
    predict,
    evaluate,
    explain,
    serve,
    learn,
)
from convladder.cli.application import CHOICES, app, remark
from convladder.cli.streams import OutputError, standard_streams
from convladder.errors import ConvladderError, check_system, name_extra
from convladder.signals import handle_signals, stopped

__all__ = ["CHOICES", "app", "main"]

# Options that may stand without a value, and what they mean then; Typer itself knows none.
WITHOUT_VALUE = {"--ray": "local", "--mlflow": "sqlite:///mlflow.db"}


def main() -> None:
    """Run the command line.

    Exit status: 0 done, 1 failed, 2 bad input, 3 a gate refused, 130 interrupted, 143 by SIGTERM, 141 nobody reads on.
    """
    warnings.showwarning = lambda message, *_: remark(f"Warning: {message}")
    with standard_streams():
        try:
            check_system()
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
            message, status = _explain(error)
        try:
            sys.stdout.flush()
        except OutputError as error:
            message, status = _explain(error)
        remark.release(refused=status == 2)
        if message:  # it is empty where typer has answered with the help
            remark(f"Error: {message}")
    sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """What is said of an exception, and the exit status."""
    if isinstance(error, ConvladderError):
        return str(error), error.exit_status
    if isinstance(error, OutputError):
        if error.errno == errno.EPIPE:
            return "", 128 + signal.SIGPIPE  # as of any program before `| head`, which has read enough
        return f"Standard output cannot be written ({error.strerror}). Expected a terminal, pipe or file with room.", 1
    if isinstance(error, ModuleNotFoundError):
        return name_extra(error), 1
    if hasattr(error, "format_message"):  # a wrong option, in typer's words; it shares no public class
        return error.format_message(), 2
    if isinstance(error, MemoryError):
        return f"Memory ran out ({error or 'no more is said'}). Free some, or take fewer or smaller images at once.", 1
    reason = next(filter(None, map(str.strip, str(error).splitlines())), "no more is said")
    named = f"{type(error).__name__}: {reason.rstrip('.')}"
    return f"{named}. This was not foreseen; --debug before the command shows where it happened.", 1


def _complete(arguments: list[str]) -> list[str]:
    """The arguments, with a value after those of WITHOUT_VALUE that have none."""
    complete = []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        complete.append(argument)
        if argument in WITHOUT_VALUE and following.startswith("-"):
            complete.append(WITHOUT_VALUE[argument])
    return complete
