"""The server: sockets, time-outs and a graceful stop around the application."""

import asyncio
import gc
import json
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convladder.errors import ConvladderError
from convladder.serving.limits import Limits
from convladder.serving.refusals import Refusal, busy

HEAD_BYTES = 65_536  # of a request's line and headers
IDLE_SECONDS = 60  # between two requests on a connection


def serve(app: FastAPI, host: str, port: int, limits: Limits, announce: Callable[[str], None]) -> None:
    """Answer requests until the process is told to end, by SIGINT or SIGTERM; finish what is in flight.

    Args:
        app: What `create_application` made.
        host: The address to listen at.
        port: 0 for a free one.
        limits: Of connections and seconds.
        announce: Told the address, once it is listened at.

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
        http=cast(Any, type("LimitedProtocol", (Protocol,), {"limits": limits})),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=round(limits.seconds) + 1,
    )
    gc.collect()
    gc.freeze()  # what is there for good need not be looked through again and again
    Server(config).run([listener])


class Server(uvicorn.Server):
    """Ends with status 0 when it is told to end by SIGTERM; uvicorn's would send itself the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the process is to end."""
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)


class Protocol(HttpToolsProtocol):
    """A connection that may be neither slow nor endless, whose errors are of our shape."""

    limits: Limits
    timer: asyncio.TimerHandle | None = None
    unread_timer: asyncio.TimerHandle | None = None
    in_head = in_request = False
    head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request; beyond the limit of connections it will be refused."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self.app = _refuse_connection
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        for timer in (self.timer, self.unread_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on; a request that is not complete yet has a time-out."""
        super().data_received(data)
        if self.in_head:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES:
                self._refuse(Refusal(431, "head_too_large", f"The headers are larger than {HEAD_BYTES:,} bytes."))
        if not self.in_request:
            if self.timer:
                self.timer.cancel()
                self.timer = None
        elif not self.timer:
            self._expect_more()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self.in_head = self.in_request = True
        self.head_bytes = 0
        if self.timer:
            self.timer.cancel()
            self.timer = None
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that the body is next."""
        self.in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self.in_request = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(Refusal(400, "no_http", msg))

    def pause_writing(self) -> None:
        """The client does not read; uvicorn waits for it, but not for ever."""
        super().pause_writing()
        self.unread_timer = self.loop.call_later(self.limits.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if self.unread_timer:
            self.unread_timer.cancel()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, also one whose client never read its last answer."""
        self.transport.abort()

    def _expect_more(self) -> None:
        slow = Refusal(408, "too_slow", f"The request took longer than {self.limits.seconds:g} s to arrive.")
        self.timer = self.loop.call_later(self.limits.seconds, self._refuse, slow)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        body = json.dumps(refusal.content()).encode()
        head = (
            "HTTP/1.1 {} Refused\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.format(refusal.status, len(body)).encode() + body)
        self.transport.close()


async def _refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = busy("There are as many connections as there may be.")
    refusal.headers["Connection"] = "close"
    await refusal.response()(scope, receive, send)
