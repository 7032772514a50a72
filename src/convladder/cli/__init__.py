"""The command line: parse, call, print. Heavy imports wait until a command needs them.

Each command has its module. Importing the module adds the command to the application, in the order of the help.
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
    tune,
    report,
    audit,
    export,
    predict,
    evaluate,
    explain,
    serve,
    learn,
    watch,
)
from convladder.cli.application import CHOICES, app, remark
from convladder.cli.streams import OutputError, standard_streams
from convladder.errors import ConvladderError, check_system, name_extra
from convladder.signals import handle_signals, stopped

__all__ = ["CHOICES", "app", "main"]

# Options whose value may be left out, and the value that they then have. Typer itself has no such options.
WITHOUT_VALUE = {"--ray": "local", "--mlflow": "sqlite:///mlflow.db"}


def main() -> None:
    """Run the command line.

    Exit status: 0 success, 1 failure, 2 bad input, 3 refused by a gate, 130 Ctrl-C, 143 SIGTERM, 141 broken pipe.
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
        if message:  # empty if Typer printed the help
            remark(f"Error: {message}")
    sys.exit(status)


def _explain(error: Exception) -> tuple[str, int]:
    """The message for an exception, and the exit status."""
    if isinstance(error, ConvladderError):
        return str(error), error.exit_status
    if isinstance(error, OutputError):
        if error.errno == errno.EPIPE:
            return "", 128 + signal.SIGPIPE  # like any program before `| head`, which stops reading early
        return f"Could not write to standard output ({error.strerror}). Expected a terminal, pipe or file with room.", 1
    if isinstance(error, ModuleNotFoundError):
        return name_extra(error), 1
    if hasattr(error, "format_message"):  # a wrong option, in Typer's words; Typer has no public class for these
        return error.format_message(), 2
    if isinstance(error, MemoryError):
        return f"Out of memory ({error or 'no details'}). Free some memory, or use fewer or smaller images.", 1
    reason = next(filter(None, map(str.strip, str(error).splitlines())), "no details")
    named = f"{type(error).__name__}: {reason.rstrip('.')}"
    return f"{named}. This is a bug in convladder; put --debug before the command to see where it happened.", 1


def _complete(arguments: list[str]) -> list[str]:
    """The arguments; options in WITHOUT_VALUE that came without a value get theirs."""
    complete = []
    for argument, following in itertools.pairwise([*arguments, "--"]):
        complete.append(argument)
        if argument in WITHOUT_VALUE and following.startswith("-"):
            complete.append(WITHOUT_VALUE[argument])
    return complete
