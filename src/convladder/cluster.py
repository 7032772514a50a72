"""A Ray cluster, that of this machine or another: connecting to it quietly, and its nodes."""

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convladder.errors import ConvladderError
from convladder.processors import count_processors

LOCAL = "local"
SECONDS_TO_ANSWER = 10  # for a cluster, to take a connection


def connect(address: str) -> str | None:
    """Connect this process to a cluster, until `ray.shutdown()`.

    Args:
        address: Address of a running cluster, as `ray.init` takes it. "local" starts one on this machine, whose
            processes talk over loopback.

    Returns:
        For a local cluster the caller's home, because Ray's processes are started with another.

    Raises:
        ConvladderError: The cluster does not exist.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns about a future change
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # otherwise Ray Data's actors are warned of
    home = os.environ.get("HOME") if address == LOCAL else None
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with _no_chatter():
            _connect(address)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray installs its own handler, which exits
    return home


@contextlib.contextmanager
def _no_chatter() -> Iterator[None]:
    """Drop what Ray itself, which is not written in Python, tells on standard error in this context."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _connect(address: str) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        # On Linux all of 127/8 is loopback, but Ray takes 127.0.0.1 for any address of this machine.
        loopback = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
        try:
            with _bare_folder():
                ray.init(
                    address="local",
                    num_cpus=count_processors(),
                    include_dashboard=False,
                    _node_ip_address=loopback,
                    **quiet,
                )
        except Exception as error:  # Ray has no class for it
            ray.shutdown()
            raise ConvladderError(
                f"Could not start Ray on this machine ({' '.join(str(error).split())}). Expected it to start within "
                "a minute: try again when less is running here, or give --ray the address of a cluster.",
                exit_status=1,
            ) from error
        return
    try:
        host, separator, port = address.removeprefix("ray://").rpartition(":")
        if separator and port.isdecimal():  # Ray would wait for minutes, and end the process without a word
            socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
        ray.init(address=address, **quiet)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise ConvladderError(
            f"There is no Ray cluster at {address} ({error}). Expected an address such as 10.0.0.1:6379, where "
            "`ray start --head` was called. --ray without an address starts a cluster on this machine.",
            exit_status=1,
        ) from error


@contextlib.contextmanager
def _bare_folder() -> Iterator[None]:
    """An empty current directory and home for the processes of a cluster that starts in this context.

    Ray's workers import from the current directory. Without a configuration in the home, Ray queries the metadata
    addresses of clouds, even if its usage statistics are off.
    """
    home = os.environ.get("HOME")
    with tempfile.TemporaryDirectory(prefix="convladder-ray-") as folder, contextlib.chdir(folder):
        Path("ray_bootstrap_config.yaml").write_text("{}", encoding="utf-8")
        os.environ["HOME"] = folder
        try:
            yield
        finally:
            if home is None:
                del os.environ["HOME"]
            else:
                os.environ["HOME"] = home


def check_cores(cores: int, user: str, gpus: float = 0) -> int:
    """How many users, as runs are, fit on the nodes of the cluster, each with so many cores and GPUs.

    Raises:
        ConvladderError: None does.
    """
    have = [node["Resources"] for node in nodes() if node["Alive"]]
    for name, needed, option in (("CPU", cores, "--cores"), ("GPU", gpus, "--gpus")):
        largest = max(resources.get(name, 0) for resources in have)
        if needed > largest:
            what = "cores" if name == "CPU" else "GPUs"
            expected = f"{option} of at most {largest:.0f}" if largest else f"a cluster with {what}, or no {option}"
            raise ConvladderError(f"No node of the cluster has {needed:g} {what} for {user}. Expected {expected}.")
    room = [
        min(int(resources.get("CPU", 0) // cores), int(resources.get("GPU", 0) / gpus + 1e-9) if gpus else 1 << 20)
        for resources in have
    ]
    if not any(room):
        raise ConvladderError(
            f"No node of the cluster has {cores} cores and {gpus:g} GPUs for {user} together. Expected fewer: "
            "--cores, --gpus."
        )
    return sum(room)


def nodes() -> list[dict[str, Any]]:
    """The nodes of the cluster, those that are lost too."""
    import ray

    return ray.nodes()  # type: ignore[no-untyped-call]
