"""A real PostgreSQL for the tests of shared searches: Debian's, on a free port of this machine."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browsing import skip_without

PASSWORD = "se/cret"


class PostgreSQL:
    """A server in a folder. Its superuser is `tuner`, whose password is PASSWORD."""

    def __init__(self, folder: Path) -> None:
        # Debian keeps its programs out of PATH; and the server refuses to run as root.
        versions = ":".join(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)))
        self._control = skip_without("pg_ctl", f"{os.environ['PATH']}:{versions}")
        self._settings: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL}
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._settings |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._call("initdb", "--options", "--username=tuner --auth=scram-sha-256 --pwfile=password --no-sync")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://tuner:{PASSWORD}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories= -c fsync=off"
        self._call("start", "--wait", "--log", "log", "--options", options)

    def stop(self) -> None:
        self._call("stop", "--wait", "--mode", "immediate")

    def _call(self, *arguments: str) -> None:
        subprocess.run([self._control, "--pgdata", "data", *arguments], check=True, **self._settings)


@contextmanager
def serve_postgresql() -> Iterator[PostgreSQL]:
    with tempfile.TemporaryDirectory(prefix="convladder-postgresql-") as folder:  # pytest's are root's alone
        server = PostgreSQL(Path(folder))
        try:
            yield server
        finally:
            server.stop()
