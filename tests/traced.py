"""Commands as a user runs them who has an empty home, with what they connect to: strace, and the files left there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from browsing import skip_without
from convladder.startup import SWITCHES

# Set in CI, where some libraries report nothing of themselves; and what this process has switched off already.
NOT_PASSED = {*SWITCHES, "CI", "XDG_CACHE_HOME", "KERAS_HOME", "MPLCONFIGDIR", "ORT_RUNNING_UNIT_TESTS", "TF_BUILD"}
ADDRESS = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
WITHIN = re.compile(r"(::ffff:)?127\.|::1$|0\.0\.0\.0$|::$")

COMMANDS = """
import sys
from convladder.cli import main
for command in sys.argv[1:]:
    sys.argv = ["convladder", *command.split()]
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, (command, ended.code)
"""


def environment(home: Path) -> dict[str, str]:
    """That of a user whose home this is, and who has switched nothing off."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_PASSED}
    return kept | {"HOME": str(home)}


def trace(log: Path) -> list[str]:
    """What to put before a command, so that the log holds what it connects to."""
    return [skip_without("strace"), "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(log)]


def addresses(log: Path) -> set[str]:
    """Of the other machines that were named."""
    found = {first or second for first, second in ADDRESS.findall(log.read_text(encoding="utf-8", errors="replace"))}
    return {address for address in found if not WITHIN.match(address)}


def run_traced(folder: Path, *commands: str) -> tuple[set[str], set[str]]:
    """Run commands in one process; the addresses that they named, and the files in a home that was empty."""
    home, log = folder / "home", folder / "trace"
    home.mkdir(exist_ok=True)
    subprocess.run(
        [*trace(log), sys.executable, "-c", COMMANDS, *commands],
        cwd=folder,
        env=environment(home),
        check=True,
        timeout=300,
    )
    return addresses(log), files(home)


def files(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
