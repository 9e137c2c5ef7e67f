"""Counters and histograms in the text format of Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
disable_created_metrics()  # a time beside each number
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "rnn_lab_requests",
            "Requests by path and status",
            ["path", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "rnn_lab_request_seconds",
            "Time from the headers of a request to the end of its response",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._batches = Histogram(
            "rnn_lab_batch_texts",
            "Texts that a model has read at once",
            ["run"],
            buckets=_TEXTS,
            registry=self.registry,
        )
        self._queue = Gauge(
            "rnn_lab_queue_texts", "Texts that wait for a model", ["run"], registry=self.registry
        )

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Count one request. `path` is that of a route: there are few."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def observe_batch(self, run: str, texts: int) -> None:
        """Count one batch of a model."""
        self._batches.labels(run).observe(texts)

    def watch_queues(self, lengths: Mapping[str, Callable[[], int]]) -> None:
        """Report the length of the queue of each run."""
        for run, length in lengths.items():
            self._queue.labels(run).set_function(length)

    def text(self) -> bytes:
        """Return all metrics."""
        return generate_latest(self.registry)
