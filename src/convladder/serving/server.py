"""The server: sockets, time-outs and a graceful stop around the application."""

import asyncio
import gc
import json
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any, cast

import httptools
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from convladder.errors import ConvladderError
from convladder.serving.limits import Limits
from convladder.serving.refusals import Refusal, busy

HEAD_BYTES = 65_536  # of a request's line and headers
IDLE_SECONDS = 60  # between two requests on a connection


class Config(uvicorn.Config):
    """How uvicorn runs the application; also the limits, for every connection."""

    limits: Limits


def run_server(app: ASGIApp, host: str, port: int, limits: Limits, announce: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM comes; then finish the requests in flight.

    Args:
        app: What `create_application` made.
        host: The address to listen at.
        port: 0 for a free one.
        limits: Of connections and seconds.
        announce: Called with the address, once the server listens at it.

    Raises:
        ConvladderError: The address cannot be taken; exit status 1.
    """
    listener, url = listen(host, port, limits)
    announce(url)
    config = configure(while_connected(app), limits)
    gc.collect()
    gc.freeze()  # what is there for good need not be looked through again and again
    Server(config).run([listener])


def listen(host: str, port: int, limits: Limits) -> tuple[socket.socket, str]:
    """Listen at an address: the socket, and the URL.

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
    return listener, f"http://{shown}:{listener.getsockname()[1]}"


def configure(app: ASGIApp | Callable[[], ASGIApp], limits: Limits, **more: Any) -> Config:
    """What uvicorn is told, with `more` of its options."""
    config = Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=round(limits.seconds) + 1,
        **more,
    )
    config.limits = limits
    return config


def while_connected(app: ASGIApp) -> ASGIApp:
    """The application, which sends nothing more to a client that has left.

    uvicorn notes that for the request that it received last, when the connection is lost. To those before it, and until
    it knows, it would write, and uvloop raises an error for each write to a closed connection.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        cycle = cast(Any, send).__self__  # uvicorn's, of this request

        async def send_while_connected(message: Message) -> None:
            cycle.disconnected |= cycle.transport.is_closing()
            await send(message)

        await app(scope, receive, send_while_connected)

    return answer


class Server(uvicorn.Server):
    """Ends with status 0 after SIGTERM; uvicorn's own server would send itself the signal again."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that the process is to end."""
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)


class Protocol(HttpToolsProtocol):
    """A connection that may be neither slow nor endless, whose errors are of our shape.

    A request may offer to go on in another protocol (Upgrade: h2c, websocket). The offer is ignored and the request
    served. The parser takes what follows such a head for the other protocol, which would lose the body, or read it as
    the next request; so it is given the head once more, without the offer.
    """

    config: Config
    timer: asyncio.TimerHandle | None = None
    unread_timer: asyncio.TimerHandle | None = None
    in_head = in_request = offered = False
    head_bytes = 0
    unused_bytes = 0  # received since the last that came to something, as an endless header does not
    last_words: Refusal | None = None  # for when the requests before are answered

    @property
    def limits(self) -> Limits:
        """Those of the server."""
        return self.config.limits

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
        """Read on; a request that is not complete yet has a time-out. After a refusal nothing is read."""
        self._unset_keepalive_if_required()
        if self.last_words or self.transport.is_closing():
            return
        self.unused_bytes += len(data)
        rest = memoryview(data)
        try:
            while rest:
                rest = self._parse(rest)
        except httptools.HttpParserError as error:
            ours = error.__context__  # what a method below raised
            plain = Refusal(400, "no_http", "What was received is not HTTP/1.1. Expected a valid request.")
            self._refuse(ours if isinstance(ours, Refusal) else plain)
            return
        if self.unused_bytes > HEAD_BYTES:
            self._refuse(_large_head())
        if not self.in_request:
            if self.timer:
                self.timer.cancel()
                self.timer = None
        elif not self.timer:
            self._expect_more()

    def _parse(self, data: memoryview) -> memoryview:
        """Parse up to the end, or up to the end of a head with an offer; return the rest."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            head = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
            head += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
            self.parser.feed_data(b"\r\n".join([*head, b"", b""]))
            return data[offer.args[0] :]
        return data[len(data) :]

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self.in_head = self.in_request = True
        self.head_bytes = 0
        if self.timer:
            self.timer.cancel()
            self.timer = None
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what stands after a body in chunks is none, whatever it is named."""
        self.head_bytes += len(name) + len(value)
        if self.head_bytes > HEAD_BYTES:
            raise _large_head()
        if self.in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Note that the body is next; a request with an offer has not begun yet."""
        self.offered = self.parser.should_upgrade()
        if self.offered:
            if self.parser.get_method() == b"CONNECT":
                raise Refusal(405, "method_not_allowed", "CONNECT is for proxies. Expected GET, HEAD or POST.")
            return
        super().on_headers_complete()
        self.in_head = False
        self.unused_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self.unused_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        if self.offered:
            return
        self.in_request = False
        self.unused_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Answer the next request; after the last, say what is wrong with what came after it."""
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last and self.last_words:
            self._write(self.last_words)

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
        """Answer what is being received without the application, after the requests before it; then close."""
        in_body = self.in_request and not self.in_head
        if in_body and self.pipeline:
            self.pipeline.popleft()  # the one that is being received
            self.last_words = refusal
        elif not in_body and self.cycle and not self.cycle.response_complete:
            self.last_words = refusal
        elif in_body and self.cycle.response_started:  # it has its answer
            self.transport.close()
        else:
            self._write(refusal)

    def _write(self, refusal: Refusal) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps(refusal.content()).encode()
        head = (
            "HTTP/1.1 {} Refused\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.format(refusal.status, len(body)).encode() + body)
        self.transport.close()


def _large_head() -> Refusal:
    return Refusal(431, "head_too_large", f"The headers are larger than {HEAD_BYTES:,} bytes.")


async def _refuse_connection(scope: Scope, receive: Receive, send: Send) -> None:
    refusal = busy("There are as many connections as there may be.")
    refusal.headers["Connection"] = "close"
    await refusal.response()(scope, receive, send)
