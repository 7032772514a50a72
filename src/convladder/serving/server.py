"""The server: sockets, time-outs and a graceful stop around the application."""

import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from convladder.errors import ConvladderError
from convladder.serving.limits import Limits


def serve(app: FastAPI, host: str, port: int, limits: Limits, announce: Callable[[str], None]) -> None:
    """Answer requests until the process is told to end, by SIGINT or SIGTERM; finish what is in flight.

    Args:
        app: What `create_application` made.
        host: The address to listen at.
        port: 0 for a free one.
        limits: Of connections and seconds.
        announce: Told the address, once requests are taken.

    Raises:
        ConvladderError: The address cannot be taken; exit status 1.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=limits.connections)
    except OSError as error:
        raise ConvladderError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}). Expected a free "
            "port: name one by --port.",
            exit_status=1,
        ) from error
    shown = f"[{host}]" if ":" in host else host
    announce(f"http://{shown}:{listener.getsockname()[1]}")
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(limits.seconds),
    )
    uvicorn.Server(config).run([listener])
