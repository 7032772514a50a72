"""What the server counts, for Prometheus to collect at /metrics.

Several workers each write their counts to files in a folder that they share; each of them answers with the sums.
"""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
COUNTS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client writes to files where it is set at its import
READY = ".ready"  # suffix of a file, named by the process, that a worker writes when it can answer


async def metrics(request: Request) -> Response:
    """Answer what has been counted."""
    return Response(generate_latest(request.app.state.service.observations.answered), media_type=CONTENT_TYPE_LATEST)


class Observations:
    """The metrics of one application.

    Args:
        counts: The folder that it shares with other workers, if there are any.

    Attributes:
        shared: Whether it shares one.
    """

    def __init__(self, counts: Path | None = None) -> None:
        self.shared = counts is not None
        self.registry = self.answered = CollectorRegistry()
        if counts is None:
            ProcessCollector(registry=self.registry)
        else:
            self.answered = CollectorRegistry()
            MultiProcessCollector(self.answered, counts)  # type: ignore[no-untyped-call]
            self.answered.register(_ProcessesCollector(counts))
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
        self.in_flight = Gauge(
            "convladder_requests_in_flight", "Requests at work.", registry=self.registry, multiprocess_mode="livesum"
        )

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request that has been answered."""
        key = route, status
        if key not in self.known:
            self.known[key] = self.requests.labels(route, str(status)), self.seconds.labels(route)
        counter, histogram = self.known[key]
        counter.inc()
        histogram.observe(seconds)


class _ProcessesCollector(Collector):
    """Memory, time and open files of the parent and all workers together; the start is that of the first."""

    def __init__(self, counts: Path) -> None:
        self.counts = counts

    def collect(self) -> Iterable[Metric]:
        values: dict[str, list[float]] = {}
        metrics: dict[str, Metric] = {}
        for process in (str(os.getppid()), *(file.stem for file in self.counts.glob(f"*{READY}"))):
            for metric in ProcessCollector(pid=partial(str, process), registry=None).collect():
                metrics[metric.name] = metric
                values.setdefault(metric.name, []).append(metric.samples[0].value)
        for name, metric in metrics.items():
            combine = min if name == "process_start_time_seconds" else sum
            metric.samples = [metric.samples[0]._replace(value=combine(values[name]))]
        return metrics.values()
