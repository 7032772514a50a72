"""What is done before anything else is imported: nothing is sent home, nothing is taken from the current directory.

At the top only `os`, `sys` and `time` may be imported, which Python has imported already.
"""

import os
import sys
import time

BEGAN = time.monotonic()  # when the command was called, but for the start of Python

# What keeps other libraries from sending and asking. Set whatever stood there, for the promise is that nothing is sent.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: usage, and a device id under ~/.cache/Microsoft
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "npm_config_update_notifier": "false",  # npm asks whether there is a newer npm
}

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_replaced_home = False


def switch_off_telemetry() -> None:
    """Set SWITCHES, for this process and those that it starts.

    ONNX Runtime reads them when it is imported. Where a script has imported it before, it is told to stop.
    """
    os.environ.update(SWITCHES)
    if "onnxruntime" in sys.modules:
        sys.modules["onnxruntime"].disable_telemetry_events()


def leave_current_directory() -> None:
    """Take the current directory off the path of the command, and of what it starts.

    `python -m` puts it there, and so does an empty entry of PYTHONPATH: a folder of pictures with a queue.py would be
    run. A script that imports the package keeps its path, for it may have modules of its own.
    """
    if not _is_command():
        return
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(entry for entry in given if entry and not is_foreign(entry))
    by_option = sys.argv[0] == "-m" and not sys.flags.safe_path
    if by_option or any(is_foreign(entry) for entry in given):
        sys.path[:] = [entry for entry in sys.path if not is_foreign(entry)]
    os.environ["PYTHONSAFEPATH"] = "1"


def is_foreign(entry: str) -> bool:
    """Whether an entry of a path is the current directory, and not the place of this package."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed
        return not os.path.isabs(entry)
    real = os.path.realpath(entry or os.curdir)
    return real == here and real != os.path.realpath(os.path.dirname(_PACKAGE))


def _is_command() -> bool:
    """Whether this is `convladder` or `python -m convladder`, and no script that imports the package."""
    if sys.argv[:1] == ["-m"]:  # as long as Python looks for the module
        named = sys.orig_argv[-len(sys.argv)]
        return named.removeprefix("-m") in ("convladder", "convladder.__main__")
    return os.path.basename(sys.argv[0] if sys.argv else "") == "convladder"


def has_home() -> bool:
    """Whether the user has a folder to keep things in: a container's may have none, or one that is read only."""
    home = os.path.expanduser("~")
    return not _replaced_home and home != "~" and os.access(home, os.W_OK | os.X_OK)


def replace_missing_home() -> None:
    """Give libraries a temporary folder where there is no home: some fail without, others share one with everybody."""
    global _replaced_home  # noqa: PLW0603 (as the environment that it describes)
    if has_home() or _replaced_home:
        return
    import atexit
    import shutil
    import tempfile

    folder, owner = tempfile.mkdtemp(prefix="convladder-home-"), os.getpid()

    @atexit.register
    def remove() -> None:
        if owner == os.getpid():  # and not in a fork
            shutil.rmtree(folder, ignore_errors=True)

    os.environ.setdefault("KERAS_HOME", folder)
    os.environ.setdefault("MPLCONFIGDIR", folder)
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = folder
    _replaced_home = True
