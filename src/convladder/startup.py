"""Runs before all other imports: switches off telemetry, and takes the current directory off the path.

At the top it may import only `os`, `sys` and `time`, which Python has already imported.
"""

import os
import sys
import time

BEGAN = time.monotonic()  # when the command started, without the start of Python

# They keep other libraries from calling home. They override the user's values, because we promise that nothing is sent.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on: usage, and a device id under ~/.cache/Microsoft
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "npm_config_update_notifier": "false",  # npm checks for a newer npm
}

_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_replaced_home = False


def switch_off_telemetry() -> None:
    """Set SWITCHES for this process and its children.

    ONNX Runtime reads them at its import. If a script has imported it before, its telemetry is switched off directly.
    """
    os.environ.update(SWITCHES)
    if "onnxruntime" in sys.modules:
        sys.modules["onnxruntime"].disable_telemetry_events()


def leave_current_directory() -> None:
    """Take the current directory off the path of the command and its children.

    `python -m` and an empty entry in PYTHONPATH put it there, so a queue.py in a folder of pictures would be run. A
    script that imports the package keeps its path, because it may have its own modules.
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
    """Whether an entry of a path is the current directory, and not the folder of this package."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed
        return not os.path.isabs(entry)
    real = os.path.realpath(entry or os.curdir)
    return real == here and real != os.path.realpath(os.path.dirname(_PACKAGE))


def _is_command() -> bool:
    """Whether this is `convladder` or `python -m convladder`, not a script that imports the package."""
    if sys.argv[:1] == ["-m"]:  # while Python searches for the module
        named = sys.orig_argv[-len(sys.argv)]
        return named.removeprefix("-m") in ("convladder", "convladder.__main__")
    return os.path.basename(sys.argv[0] if sys.argv else "") == "convladder"


def has_home() -> bool:
    """Whether the user has a writable home folder. In a container it can be missing or read only."""
    home = os.path.expanduser("~")
    return not _replaced_home and home != "~" and os.access(home, os.W_OK | os.X_OK)


def replace_missing_home() -> None:
    """Give libraries a temporary home if there is none: some fail without one, others would share a public folder."""
    global _replaced_home  # noqa: PLW0603 (as the environment that it describes)
    if has_home() or _replaced_home:
        return
    import atexit
    import shutil
    import tempfile

    folder, owner = tempfile.mkdtemp(prefix="convladder-home-"), os.getpid()

    @atexit.register
    def remove() -> None:
        if owner == os.getpid():  # not in a fork
            shutil.rmtree(folder, ignore_errors=True)

    os.environ.setdefault("KERAS_HOME", folder)
    os.environ.setdefault("MPLCONFIGDIR", folder)
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = folder
    _replaced_home = True
