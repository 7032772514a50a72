"""The guard: what every request passes before anything looks at it, and what every answer carries.

Host and Origin defend against a web page that the user visits: its scripts may send requests to this machine
(cross-site request forgery), or have a name of their own point at it (DNS rebinding).
"""

import base64
import binascii
import contextlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Iterable

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from convladder.serving.limits import Limits
from convladder.serving.observing import Observations
from convladder.serving.proxies import Front, same_origin, without_port
from convladder.serving.refusals import Refusal, busy

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DIRECT = Front()  # no proxy
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")  # asked by what supervises a server, which holds no key
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
RAW_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

NO_STORE = (b"cache-control", b"no-store")
DRAINED = 4  # times the limit: so much of a refused request's body is read, and dropped
BODIES = 16  # times the limit: the bodies of all requests at work

Endpoint = Callable[[Request], Awaitable[Response]]
logger = logging.getLogger(__name__)


class Guard:
    """Middleware that refuses what must not be answered, and receives a body whole before it is looked at.

    Args:
        app: What answers.
        limits: Of body, requests and seconds.
        observations: Counts every request.
        api_key: Asked for, if there is one.
        hosts: Names that the Host header may hold; empty for any, which is for servers with a key.
        routes: Whose requests are counted under their paths. Those without a parameter in them are answered from here.
        front: Names, proxies and path that clients reach the server by; its names are allowed as `hosts` are.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        observations: Observations,
        api_key: str | None = None,
        hosts: Iterable[str] = LOOPBACK,
        routes: Iterable[Route] = (),
        front: Front = DIRECT,
    ) -> None:
        self.app = app
        self.limits = limits
        self.observations = observations
        self.api_key = api_key
        self.hosts = frozenset(hosts)
        self.front = front
        self.paths: dict[object, str] = {}
        self.endpoints: dict[tuple[str, str], Endpoint] = {}
        for route in reversed(list(routes)):
            self.paths[route.endpoint] = route.path
            if "{" not in route.path:
                self.endpoints |= {(method, route.path): route.endpoint for method in route.methods or ()}
        self.received = 0  # bytes of the bodies of all requests at work
        self.at_work = 0
        if not observations.shared:
            observations.in_flight.set_function(lambda: self.at_work)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        status = 0
        root = self.front.root_path
        if root and scope["path"].startswith(f"{root}/"):  # a proxy that does not strip it
            scope["path"] = scope["path"].removeprefix(root)

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"]
                if all(name != b"cache-control" for name, _ in headers):
                    headers.append(NO_STORE)
                headers.extend(RAW_HEADERS)
            await send(message)

        incoming = Incoming(dict(scope["headers"]), receive)
        try:
            await self._answer(scope, incoming, send_guarded)
        except Refusal as refusal:
            self.observations.refusals.labels(refusal.code).inc()
            if incoming.admitted:
                await refusal.response()(scope, receive, send_guarded)
            else:
                refusal.headers["Connection"] = "close"
                await refusal.response()(scope, receive, self._sender_that_drains(incoming, send_guarded))
        except Exception:
            client = self.front.client(scope)
            logger.exception("%s %r of %s failed.", scope["method"], scope["path"], client)
            if status:
                raise  # the answer has begun, so the connection can only be cut
            failure = Refusal(500, "failed", "The server failed to answer. Its log says why.")
            await failure.response()(scope, receive, send_guarded)
        finally:
            route = self.paths.get(scope.get("endpoint"), "none")
            self.observations.observe(route, status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, incoming: "Incoming", send: Send) -> None:
        self._check(scope, incoming.headers)
        body = bytearray()
        try:
            if b"content-length" in incoming.headers or b"transfer-encoding" in incoming.headers:
                await self._receive_body(incoming, body)
            incoming.admitted = True
            if scope["path"] == self.front.root_path:  # links of the page are relative
                await RedirectResponse(f"{self.front.root_path}/")(scope, incoming.receive, send)
                return
            if self.at_work >= self.limits.requests:
                raise busy(f"{self.limits.requests} requests are at work already.")
            self._work(1)
            try:
                replay = _replay(bytes(body), incoming.receive)
                endpoint = self.endpoints.get((scope["method"], scope["path"]))
                if endpoint is None:
                    await self.app(scope, replay, send)
                else:  # what is asked for most goes by the framework's routing, which costs as much as a small network
                    scope["endpoint"] = endpoint
                    response = await endpoint(Request(scope, replay))
                    await response(scope, replay, send)
            finally:
                self._work(-1)
        finally:
            self.received -= len(body)
            body.clear()  # now, and not when the refusal is forgotten, whose traceback holds it

    def _work(self, change: int) -> None:
        self.at_work += change
        if self.observations.shared:  # the others ask no function here
            self.observations.in_flight.set(self.at_work)

    def _sender_that_drains(self, incoming: "Incoming", send: Send) -> Send:
        """A `send` that reads and drops what still comes, so that the client gets to read why it was refused.

        A connection that is closed while its client sends is reset, and what was answered is lost.
        """

        async def send_and_drain(message: Message) -> None:
            if message["type"] == "http.response.body":
                await send({**message, "more_body": True})
                await incoming.drain(DRAINED * self.limits.body)
                message = {"type": "http.response.body"}
            await send(message)

        return send_and_drain

    def _check(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        named = sum(name == b"host" for name, _ in scope["headers"])
        if named > 1 or (named == 0 and scope["http_version"] != "1.0"):
            raise Refusal(400, "one_host", f"The request has {named} Host headers. Expected one.")
        forwarded, scheme = self.front.forwarded(scope, headers)
        if scope["path"] not in OPEN_PATHS:  # who supervises a server asks by its address
            if named:
                self._check_name(host)
            if forwarded:
                self._check_name(forwarded)
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not self._may_ask(origin, forwarded or host, scheme, headers):
            raise Refusal(
                403,
                "wrong_origin",
                f"Requests by pages of {origin[:100]!r} are not answered. If that is this server, behind a proxy, "
                "name it by --public-name.",
            )
        if self.api_key and scope["path"] not in OPEN_PATHS and not _holds_key(headers, self.api_key):
            raise Refusal(
                401,
                "no_key",
                "The API key is missing or wrong. Expected it in X-API-Key, or in Authorization as Bearer.",
                {"WWW-Authenticate": 'Basic realm="convladder: any name, and the API key as password"'},
            )

    def _check_name(self, host: str) -> None:
        if self.hosts and without_port(host) not in self.hosts and not self.front.includes(host.lower()):
            expected = ", ".join(sorted(self.hosts | self.front.names))
            raise Refusal(
                421,
                "wrong_host",
                f"Host {host[:100]!r} is not served here. Expected one of: {expected}; --public-name adds to them.",
            )

    def _may_ask(self, origin: str, host: str, scheme: str, headers: dict[bytes, bytes]) -> bool:
        """Whether a page of this origin is one of ours, as its address or the browser says."""
        origin = origin.lower()
        stated, _, address = origin.partition("://")
        return (
            headers.get(b"sec-fetch-site") == b"same-origin"  # no script can write that header
            or same_origin(origin, host.lower(), scheme)
            or (scheme in ("", stated) and self.front.includes(address))
        )

    async def _receive_body(self, incoming: "Incoming", body: bytearray) -> None:
        coding = incoming.headers.get(b"transfer-encoding", b"chunked").decode("latin-1")
        if coding.lower() != "chunked":
            raise Refusal(501, "transfer_coding", f"Transfer-Encoding {coding[:100]!r} is unknown. Expected chunked.")
        if incoming.length > self.limits.body:
            raise self._too_large()
        encodings = incoming.headers.get(b"content-encoding", b"").lower().split(b",")
        if any(encoding.strip() not in (b"", b"identity") for encoding in encodings):
            raise Refusal(415, "compressed", "The body is compressed. Expected it as it is.")
        while not incoming.ended:
            part = await incoming.receive_part()
            if len(body) + len(part) > self.limits.body:
                raise self._too_large()
            body += part
            self.received += len(part)
            if self.received > BODIES * self.limits.body:
                raise busy("The bodies of the requests at work fill the memory that they may have.")

    def _too_large(self) -> Refusal:
        return Refusal(413, "body_too_large", f"The body is larger than {self.limits.body:,} bytes.")


class Incoming:
    """A request while it is received.

    Args:
        headers: Of several of one name the last.
        receive: Gives the body, part by part.

    Attributes:
        length: Of the body, if it is stated; otherwise 0.
        ended: Whether the body has been received to its end.
        admitted: Whether it is to be answered. What follows on the connection is read only after such a request.
    """

    def __init__(self, headers: dict[bytes, bytes], receive: Receive) -> None:
        self.headers = headers
        self.receive = receive
        stated = headers.get(b"content-length", b"")
        # The parser has refused numbers that do not fit into 64 bits, but leading zeros can be of any number.
        self.length = int(stated.lstrip(b"0")[:20] or 0) if stated.isdigit() else 0
        self.ended = self.admitted = False

    async def receive_part(self) -> bytes:
        """The next part of the body.

        Raises:
            Refusal: The client has left.
        """
        message = await self.receive()
        self.ended = not message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise Refusal(400, "disconnected", "The client left before its request was complete.")
        part: bytes = message.get("body", b"")
        return part

    async def drain(self, most: int) -> None:
        """Drop what still comes of the body, unless it is more than `most` or waits for our consent."""
        if b"expect" in self.headers or self.length > most:
            return
        with contextlib.suppress(Refusal):
            while not self.ended and most >= 0:
                most -= len(await self.receive_part())


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body at once, then what the client does next."""
    first = True

    async def replayed() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


def _holds_key(headers: dict[bytes, bytes], key: str) -> bool:
    """Whether a request has the key at any of its places: Authorization may be meant for a proxy."""
    given = [headers.get(b"x-api-key", b"")]
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        given.append(credentials)
    elif scheme.lower() == b"basic":  # what a browser asks its user for
        with contextlib.suppress(binascii.Error):
            given.append(base64.b64decode(credentials).partition(b":")[2])
    return any(hmac.compare_digest(one.strip(), key.encode()) for one in given)
