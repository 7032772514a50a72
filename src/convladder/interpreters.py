"""Python processes of the program's own, which import what it imports and nothing from where it was started."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from convladder.startup import is_foreign


def start_interpreter(
    code: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> "subprocess.Popen[bytes]":
    """Start a process that runs `code`, speaks through its standard input and output, and finds the same modules.

    Args:
        code: What it runs.
        environment: Variables beside this process's.
        settings: As subprocess.Popen takes them.
    """
    variables = {**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(search_path())}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code],  # -P: `-c` would put the current directory first
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
        **settings,
    )


def search_path() -> list[str]:
    """Where this process finds modules, but for the current directory and the folder of the caller's script."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = os.path.dirname(os.path.realpath(main)) if main else None
    package = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
    return [
        entry
        for entry in sys.path
        if os.path.realpath(entry) == package
        or (os.path.isabs(entry) and not is_foreign(entry) and os.path.realpath(entry) != script)
    ]
