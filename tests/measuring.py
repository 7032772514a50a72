"""How much memory a piece of Python takes, measured in a process of its own."""

import subprocess
import sys

BEGIN = """
import resource, sys
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
"""


def memory_taken(prepare: str, measured: str, *arguments: object) -> int:
    """Bytes by which the peak grows while `measured` runs, after `prepare`; both find the arguments in sys.argv."""
    script = f"{BEGIN}{prepare}\nbefore = peak()\n{measured}\nprint(peak() - before)"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
