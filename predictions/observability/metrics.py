"""The metrics of a process, by Prometheus's conventions; docs/operations.md says what each of them means.

They are counted always, and shown where somebody may ask for them: `predictions.observability.server`, or the API's
GET /metrics. What is read at the moment of asking comes from collectors, which each process adds: the queues
(`predictions.observability.queues`) and a worker's engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from predictions.version import package_version

# A time series for each counter's beginning would double their number, and nothing here asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
"""Everything that this process counts by itself."""

ANSWERS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Seconds of answers over a network."""
WAITS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""Seconds that a client waits for its music, or for its turn."""
FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Seconds of work for each second of music."""

requests = Histogram(
    "musicgen_http_request_duration_seconds",
    "From a request's headers to the end of its answer.",
    ("method", "route", "status"),
    registry=REGISTRY,
    buckets=ANSWERS,
)
refused = Counter(
    "musicgen_http_requests_refused", "POSTs and PUTs that were refused.", ("route", "reason"), registry=REGISTRY
)
streams = Gauge("musicgen_http_streams_open", "Streams that somebody follows.", ("kind",), registry=REGISTRY)

queue_seconds = Histogram(
    "musicgen_prediction_queue_seconds",
    "From a prediction's creation to its first decoding step, of those that succeeded.",
    ("model",),
    registry=REGISTRY,
    buckets=WAITS,
)
generation_seconds = Histogram(
    "musicgen_prediction_generation_seconds",
    "From the last attempt's beginning to its end, of predictions that succeeded.",
    ("model",),
    registry=REGISTRY,
    buckets=WAITS,
)
end_to_end_seconds = Histogram(
    "musicgen_prediction_duration_seconds",
    "From a prediction's creation to its end, of those that succeeded.",
    ("model",),
    registry=REGISTRY,
    buckets=WAITS,
)
real_time_factor = Histogram(
    "musicgen_prediction_real_time_factor",
    "Seconds of generation for each second of music.",
    ("model",),
    registry=REGISTRY,
    buckets=FACTORS,
)
music_seconds = Counter("musicgen_music_seconds", "Seconds of music that were made.", ("model",), registry=REGISTRY)
encoding_seconds = Histogram(
    "musicgen_encoding_seconds",
    "What the encoding of a prediction's text and audio took.",
    ("model",),
    registry=REGISTRY,
    buckets=ANSWERS,
)
codec_seconds = Histogram(
    "musicgen_codec_seconds",
    "What making a prediction's sound of its tokens took.",
    ("model", "decoder"),
    registry=REGISTRY,
    buckets=ANSWERS,
)
leases_lost = Counter(
    "musicgen_leases_lost",
    "Leases that a worker lost while it worked: the prediction was canceled, or the lease refused.",
    ("model", "reason"),
    registry=REGISTRY,
)

webhook_seconds = Histogram(
    "musicgen_webhook_attempt_duration_seconds",
    "How long attempts to deliver webhooks took, by what followed.",
    ("verdict",),
    registry=REGISTRY,
    buckets=ANSWERS,
)

redis_seconds = Histogram(
    "musicgen_redis_command_duration_seconds",
    "How long Redis took for a command, its way there and back included.",
    ("command",),
    registry=REGISTRY,
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0),
)
redis_errors = Counter(
    "musicgen_redis_errors", "Commands that Redis did not answer, or refused.", ("command",), registry=REGISTRY
)
storage_seconds = Histogram(
    "musicgen_storage_operation_duration_seconds",
    "How long an operation of the storage took.",
    ("operation",),
    registry=REGISTRY,
    buckets=ANSWERS,
)
storage_errors = Counter(
    "musicgen_storage_errors", "Operations that the storage failed to carry out.", ("operation",), registry=REGISTRY
)

_build = Info("musicgen_build", "The version of the code.", registry=REGISTRY)
ProcessCollector(registry=REGISTRY)


class Collector(Protocol):
    """Something that is read at the moment of asking."""

    def collect(self) -> Iterable[Metric]:
        """Return what it sees now."""


class Exposition:
    """All metrics of a process as text."""

    def __init__(self, collectors: Sequence[Collector] = (), *, counted: bool = True) -> None:
        """`collectors`: what is shown beside what the process counts, unless that is not `counted` here."""
        self._collectors = [*([REGISTRY] if counted else []), *collectors]

    def add(self, collector: Collector) -> None:
        """Show this too."""
        self._collectors.append(collector)

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        for collector in tuple(self._collectors):
            yield from collector.collect()

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the text and its media type, in the format that an Accept header asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self), media_type


def name_build() -> None:
    """Say which version this process runs."""
    _build.info({"version": package_version()})


def observe_redis(command: str, seconds: float, *, failed: bool) -> None:
    """Count a command to Redis."""
    taken, errors = _of_command(command)
    taken.observe(seconds)
    if failed:
        errors.inc()


@cache
def _of_command(command: str) -> tuple[Histogram, Counter]:
    """Return the command's series; of a command that never failed there is to be a 0."""
    return redis_seconds.labels(command), redis_errors.labels(command)


@cache
def _of_operation(operation: str) -> tuple[Histogram, Counter]:
    return storage_seconds.labels(operation), storage_errors.labels(operation)


def observe_storage(operation: str, seconds: float, *, failed: bool) -> None:
    """Count an operation of the storage."""
    taken, errors = _of_operation(operation)
    taken.observe(seconds)
    if failed:
        errors.inc()
