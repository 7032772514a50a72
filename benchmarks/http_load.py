"""A load generator for the benchmarks of the server: connections that each ask, wait for the answer, and ask again.

One process and one event loop, on the socket's bytes, so that it takes as little as possible of the cores that it
shares with the server.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import uvloop

SECONDS_TO_ANSWER = 60  # after the load; a server that takes longer has failed
SECONDS_A_BYTE = 0.1  # of a slow sender
FAILURES = (500, 502, 503, 504)  # 501 and 505 say something of the request, not of the server


class Request(NamedTuple):
    """What is sent, the kind that it is counted under, and whether its client leaves before the answer."""

    content: bytes
    kind: str = ""
    leaves: bool = False


@dataclass
class Load:
    """What a load met.

    Attributes:
        began: When it did, by the clock of `time.perf_counter`.
        seconds: How long all of it took.
        latencies: Seconds of each answer.
        statuses: Answers by status.
        kinds: Answers by kind and status, of requests that have a kind.
        failures: The second of the load at which each 5xx came.
        cut: The second of the load at which each connection ended that still owed an answer, and the request's kind.
        left: Clients that left before their answer.
        slow: How slow senders ended, by status; 0 where the connection ended without an answer.
    """

    began: float = 0.0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    kinds: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: list[float] = field(default_factory=list)
    cut: list[tuple[float, str]] = field(default_factory=list)
    left: int = 0
    slow: Counter[int] = field(default_factory=Counter)

    @property
    def requests_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection(asyncio.Protocol):
    """Asks until the time is over; opens anew where the server closes."""

    def __init__(self, requests: Iterator[Request], load: Load, until: float, done: "asyncio.Future[None]") -> None:
        self.requests, self.load, self.until, self.done = requests, load, until, done
        self.received = bytearray()
        self.asked: Request | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.ask()

    def ask(self) -> None:
        self.start = time.perf_counter()
        if self.start >= self.until:
            self.transport.close()
            return
        request = next(self.requests)
        self.transport.write(request.content)
        if request.leaves:
            self.load.left += 1
            self.transport.close()
        else:
            self.asked = request

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0 or self.asked is None:
            return
        head = self.received[: end + 2].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 : head.find(b"\r\n", at)])
        if len(self.received) < end + 4 + length:
            return
        now, status = time.perf_counter(), int(self.received[9:12])
        self.load.latencies.append(now - self.start)
        self.load.statuses[status] += 1
        if self.asked.kind:
            self.load.kinds[self.asked.kind, status] += 1
        if status in FAILURES:
            self.load.failures.append(now - self.load.began)
        self.asked = None
        self.received.clear()
        if b"\r\nconnection: close\r\n" in head:
            self.transport.close()
        else:
            self.ask()

    def connection_lost(self, _error: Exception | None) -> None:
        if self.asked is not None:
            self.load.cut.append((time.perf_counter() - self.load.began, self.asked.kind))
        if not self.done.done():
            self.done.set_result(None)


def run_load(
    port: int, requests: Sequence[bytes | Request], concurrency: int, seconds: float, slow: Sequence[bytes] = ()
) -> Load:
    """Ask for so many seconds over so many connections at once, the requests in turn.

    Args:
        port: Of the server.
        requests: Asked in turn.
        concurrency: Number of connections.
        seconds: How long.
        slow: A further connection for each sends this, byte by byte, again and again.
    """

    async def run() -> Load:
        loop = asyncio.get_running_loop()
        load = Load()
        turn = itertools.cycle([one if isinstance(one, Request) else Request(one) for one in requests])
        start = load.began = time.perf_counter()

        async def connect() -> None:
            while time.perf_counter() < start + seconds:
                connection = Connection(turn, load, start + seconds, loop.create_future())
                await loop.create_connection(lambda opened=connection: opened, "127.0.0.1", port)  # type: ignore[misc]
                await connection.done

        async with asyncio.timeout(seconds + SECONDS_TO_ANSWER):
            senders = (_send_slowly(port, content, start + seconds, load.slow) for content in slow)
            await asyncio.gather(*(connect() for _ in range(concurrency)), *senders)
        load.seconds = time.perf_counter() - start
        return load

    return uvloop.run(run())


async def _send_slowly(port: int, content: bytes, until: float, ends: Counter[int]) -> None:
    """Send a byte at a time, as long as the server lets it."""
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for place in range(len(content)):
            if time.perf_counter() >= until or writer.is_closing() or reader.at_eof():
                break
            writer.write(content[place : place + 1])
            with contextlib.suppress(TimeoutError, ConnectionError):
                answer = await asyncio.wait_for(reader.read(12), SECONDS_A_BYTE)
                ends[int(answer[9:12] or 0)] += 1
                break
        writer.close()


def upload(pictures: Sequence[bytes], path: str = "/predict") -> bytes:
    """The bytes of a request that uploads pictures as a form."""
    boundary = b"----convladder"
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\n'
        b"Content-Type: image/png\r\n\r\n%b\r\n" % (boundary, number, picture)
        for number, picture in enumerate(pictures)
    )
    body += b"--%b--\r\n" % boundary
    return (
        b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=%b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (path.encode(), boundary, len(body), body)
    )
