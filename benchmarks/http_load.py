"""A load generator for the benchmarks of the server: connections that each ask, wait for the answer, and ask again.

One process and one event loop, on the socket's bytes, so that it takes as little as possible of the cores that it
shares with the server.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

SECONDS_TO_ANSWER = 60  # after the load; a server that takes longer has failed


@dataclass
class Load:
    """What a load met: seconds of each answer, statuses, and how long all of it took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def requests_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """Seconds within which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Connection(asyncio.Protocol):
    """Asks until the time is over; opens anew where the server closes."""

    def __init__(self, requests: Iterator[bytes], load: Load, until: float, done: "asyncio.Future[None]") -> None:
        self.requests, self.load, self.until, self.done = requests, load, until, done
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.ask()

    def ask(self) -> None:
        self.start = time.perf_counter()
        if self.start >= self.until:
            self.transport.close()
            return
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.received.find(b"content-length: ", 0, end)
        length = int(self.received[at + 16 : self.received.find(b"\r\n", at)])
        if len(self.received) < end + 4 + length:
            return
        self.load.latencies.append(time.perf_counter() - self.start)
        self.load.statuses[int(self.received[9:12])] += 1
        self.received.clear()
        self.ask()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def run_load(port: int, requests: Sequence[bytes], concurrency: int, seconds: float) -> Load:
    """Ask for so many seconds over so many connections at once, the requests in turn."""

    async def run() -> Load:
        loop = asyncio.get_running_loop()
        load = Load()
        turn = itertools.cycle(requests)
        start = time.perf_counter()

        async def connect() -> None:
            while time.perf_counter() < start + seconds:
                connection = Connection(turn, load, start + seconds, loop.create_future())
                await loop.create_connection(lambda opened=connection: opened, "127.0.0.1", port)  # type: ignore[misc]
                await connection.done

        async with asyncio.timeout(seconds + SECONDS_TO_ANSWER):
            await asyncio.gather(*(connect() for _ in range(concurrency)))
        load.seconds = time.perf_counter() - start
        return load

    return uvloop.run(run())


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
