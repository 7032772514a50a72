"""What the server counts, for Prometheus to collect at /metrics."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


async def metrics(request: Request) -> Response:
    """Answer what has been counted."""
    return Response(generate_latest(request.app.state.service.observations.registry), media_type=CONTENT_TYPE_LATEST)


class Observations:
    """The metrics of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("convladder_requests", "Requests.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "convladder_request_seconds",
            "From a request's headers to the last byte of its answer.",
            ("route",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.images = Counter("convladder_images", "Images classified.", ("model",), registry=self.registry)
        self.refusals = Counter("convladder_refusals", "Requests refused.", ("code",), registry=self.registry)
        self.known: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # labels take longer to find than to count
        self.in_flight = Gauge("convladder_requests_in_flight", "Requests at work.", registry=self.registry)

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        key = route, status
        if key not in self.known:
            self.known[key] = self.requests.labels(route, str(status)), self.seconds.labels(route)
        counter, histogram = self.known[key]
        counter.inc()
        histogram.observe(seconds)
