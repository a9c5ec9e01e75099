"""What the operator sees: metrics for Prometheus, and a JSON object a line on stderr. Neither holds a word that was said,
nor a file's name.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

REQUEST_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)  # seconds; an API request waits for its job

Counts = Callable[[], dict[tuple[str, str], int]]


class Metrics:
    """The figures of one server, in a registry of its own."""

    def __init__(self, counts: Counts) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "hvisk_request_seconds",
            "Time until a response began",
            ("method", "route", "status"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter("hvisk_refused_total", "Requests refused", ("reason",), registry=self.registry)
        self.uploaded = Counter("hvisk_uploaded_bytes_total", "Bytes of accepted recordings", registry=self.registry)
        self.ended = Counter("hvisk_jobs_ended_total", "Jobs that ended", ("state",), registry=self.registry)
        self.heard = Counter("hvisk_audio_seconds_total", "Seconds of sound recognised", registry=self.registry)
        self.crashes = Counter("hvisk_worker_deaths_total", "Workers that died", registry=self.registry)
        self.registry.register(_Table(counts))

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _Table(Collector):
    def __init__(self, counts: Counts) -> None:
        self.counts = counts

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("hvisk_jobs", "Jobs in the table", labels=("source", "state"))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        (family,) = self.describe()
        for (source, state), number in self.counts().items():
            family.add_metric((source, state), number)
        yield family


def log(event: str, **fields: Any) -> None:
    """Write one line. Fields are figures, ids and routes, never what a client named or said."""
    print(json.dumps({"time": round(time.time(), 3), "event": event, **fields}), file=sys.stderr, flush=True)
