"""What waits and runs, read from Redis at the moment of asking, and what the scripts counted there.

Every API process shows the same figures, for they are those of the whole deployment: to put several processes together,
take the largest value (`max by (model)`), never the sum.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from redis.exceptions import RedisError

from predictions.errors import StoreFull, StoreUnavailable
from predictions.record.command import Command, pairs
from predictions.record.schema import Cause, Field, Queue, Status
from predictions.record.store import PredictionStore
from predictions.tenants import Tenant

logger = logging.getLogger(__name__)

MOST_LANES = 200
"""Of webhooks that are due, the lanes that are counted: owners times hosts may be many."""
_BY_CLIENTS = (Cause.CLIENT, Cause.DEADLINE)
ENDS = (
    (Status.SUCCEEDED, ""),
    *((Status.FAILED, cause) for cause in Cause if cause not in _BY_CLIENTS),
    *((Status.CANCELED, cause) for cause in _BY_CLIENTS),
)
"""How predictions end: of what never happened there is to be a 0."""
PROBE_SECONDS = 60
"""How long the trace of a probe is kept."""


def why_not_written(error: StoreUnavailable) -> dict[str, str]:
    """What a probe that failed says of Redis."""
    full = isinstance(error, StoreFull)
    return {"Redis": "refuses writes: its memory or its disk is full" if full else "does not answer"}


@dataclass(frozen=True)
class QueueReading:
    """One queue at one moment."""

    name: str
    workers: int
    """Live ones."""
    waiting: int
    running: int
    oldest_waiting_seconds: float
    counts: Mapping[str, int]
    """By the names of CountsHash, and `Field.ended`."""
    waiting_of_tenants: tuple[int, ...]
    """In the order in which they were asked for."""


@dataclass(frozen=True)
class Reading:
    """Everything at one moment."""

    queues: tuple[QueueReading, ...]
    running_of_tenants: tuple[int, ...]
    webhooks_due: int
    webhook_lag_seconds: float


def probe() -> Command[bool]:
    """Write something, to see whether Redis takes writes."""
    return Command("observability/probe", {"seconds": PROBE_SECONDS}, bool)


def state(owners: Sequence[str] = ()) -> Command[Reading]:
    """What waits, runs and was counted; for these owners, also by tenant."""

    def read(answer: Any) -> Reading:
        queues, running, due, lag = answer
        return Reading(tuple(_read_queue(*item) for item in queues), tuple(running), due, float(lag))

    return Command("observability/state", {"owners": owners, "most_lanes": MOST_LANES}, read)


def _read_queue(
    name: str, workers: int, waiting: int, running: int, oldest: str, counts: list[str], of_tenants: list[int]
) -> QueueReading:
    counted = {field: int(value) for field, value in pairs(counts)}
    return QueueReading(name, workers, waiting, running, float(oldest), counted, tuple(of_tenants))


class QueueCollector:
    """Reads the queues, what webhooks are due, and what Redis and the disk have room for."""

    def __init__(
        self,
        store: PredictionStore,
        models: Mapping[str, str],
        tenants: Callable[[], Sequence[Tenant]] = tuple,
        folder: Path | None = None,
        trainings: Mapping[str, str] | None = None,
    ) -> None:
        """`models`: their names, by queue; `trainings`: the same, by the queues of their trainings.

        `tenants`: those that are told apart. `folder`: whose disk is looked at.
        """
        self._store = store
        self._models = models
        self._trainings = trainings or {}
        self._tenants = tenants
        self._folder = folder

    def wrong(self) -> dict[str, str]:
        """What is wrong with Redis; nothing where it takes writes."""
        try:
            self._store.run(probe(), patience=0.0)
        except StoreUnavailable as error:
            return why_not_written(error)
        return {}

    def collect(self) -> Iterable[Metric]:
        """Read everything. Where Redis does not answer, only that is said."""
        tenants = self._tenants()
        up = GaugeMetricFamily("musicgen_redis_up", "Whether Redis answered when the metrics were read.")
        try:
            reading = self._store.run(state([tenant.owner for tenant in tenants]), patience=0.0)
            memory = self._store.redis.info("memory")
        except (StoreUnavailable, RedisError, OSError) as error:
            logger.warning("The queues cannot be read: %s", error)
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from self._of_queues(reading, tenants)
        yield from self._of_trainings(reading)
        yield from _of_webhooks(reading)
        yield from _of_memory(memory)
        if self._folder is not None and self._folder.exists():
            yield GaugeMetricFamily(
                "musicgen_storage_free_bytes",
                "Room on the disk under MUSICGEN_DATA_DIR.",
                shutil.disk_usage(self._folder).free,
            )

    def _of_queues(self, reading: Reading, tenants: Sequence[Tenant]) -> Iterator[Metric]:
        queues = _queues_of(self._models, reading, len(tenants))
        yield _gauge("musicgen_workers", "Live workers.", ((m, queue.workers) for m, queue in queues))
        yield _gauge("musicgen_predictions_waiting", "Those that wait.", ((m, q.waiting) for m, q in queues))
        yield _gauge(
            "musicgen_predictions_running", "Predictions that workers hold.", ((m, q.running) for m, q in queues)
        )
        yield _gauge(
            "musicgen_predictions_oldest_waiting_seconds",
            "For how long the one that has waited longest has waited.",
            ((m, q.oldest_waiting_seconds) for m, q in queues),
        )
        for name, count, meaning in (
            ("musicgen_predictions_accepted", "accepted", "Predictions that were created."),
            ("musicgen_leases_taken", "taken", "Attempts: leases that workers were given."),
            ("musicgen_leases_reaped", "reaped", "Leases that ran out, so that their workers are taken for dead."),
            ("musicgen_leases_resumed", "resumed", "Leases that ran out though their worker was alive."),
        ):
            counted = CounterMetricFamily(name, meaning, labels=("model",))
            for model, queue in queues:
                counted.add_metric([model], queue.counts.get(count, 0))
            yield counted
        yield _ended("predictions", queues)
        if tenants:
            yield from _of_tenants(queues, reading, [tenant.name for tenant in tenants])

    def _of_trainings(self, reading: Reading) -> Iterator[Metric]:
        queues = _queues_of(self._trainings, reading, 0)
        yield _gauge("musicgen_training_workers", "Live workers that train.", ((m, q.workers) for m, q in queues))
        yield _gauge("musicgen_trainings_waiting", "Trainings that wait.", ((m, q.waiting) for m, q in queues))
        yield _gauge("musicgen_trainings_running", "Trainings that workers hold.", ((m, q.running) for m, q in queues))
        accepted = CounterMetricFamily("musicgen_trainings_accepted", "Trainings that were created.", labels=("model",))
        for model, queue in queues:
            accepted.add_metric([model], queue.counts.get("accepted", 0))
        yield accepted
        yield _ended("trainings", queues)


def _queues_of(models: Mapping[str, str], reading: Reading, tenants: int) -> list[tuple[str, QueueReading]]:
    """Each model with its queue; `tenants`: how many are told apart."""
    read = {queue.name: queue for queue in reading.queues}
    # A model whose worker has never come up has no queue, and its 0 is what an alert waits for.
    return [
        (model, read.get(name, QueueReading(name, 0, 0, 0, 0.0, {}, (0,) * tenants))) for name, model in models.items()
    ]


def _ended(what: str, queues: Sequence[tuple[str, QueueReading]]) -> Metric:
    ended = CounterMetricFamily(
        f"musicgen_{what}_ended", f"{what.capitalize()} that ended.", labels=("model", "status", "cause")
    )
    for model, queue in queues:
        for status, cause in ENDS:
            ended.add_metric([model, status, cause], queue.counts.get(Field.ended(status, cause), 0))
    return ended


def _of_tenants(queues: Sequence[tuple[str, QueueReading]], reading: Reading, names: Sequence[str]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "musicgen_tenant_predictions_waiting", "A tenant's predictions that wait.", labels=("model", "tenant")
    )
    for model, queue in queues:
        for name, value in zip(names, queue.waiting_of_tenants, strict=True):
            waiting.add_metric([model, name], value)
    yield waiting
    running = GaugeMetricFamily(
        "musicgen_tenant_predictions_running", "A tenant's predictions that workers hold.", labels=("tenant",)
    )
    for name, value in zip(names, reading.running_of_tenants, strict=True):
        running.add_metric([name], value)
    yield running


def _of_webhooks(reading: Reading) -> Iterator[Metric]:
    workers = sum(queue.workers for queue in reading.queues if queue.name == Queue.WEBHOOKS)
    yield GaugeMetricFamily("musicgen_webhook_workers", "Live workers that deliver webhooks.", workers)
    yield GaugeMetricFamily("musicgen_webhooks_due", "Webhooks whose next attempt is due.", reading.webhooks_due)
    yield GaugeMetricFamily(
        "musicgen_webhooks_lag_seconds", "For how long the first of them has been due.", reading.webhook_lag_seconds
    )


def _of_memory(memory: Mapping[str, Any]) -> Iterator[Metric]:
    yield GaugeMetricFamily("musicgen_redis_memory_bytes", "Memory that Redis uses.", memory["used_memory"])
    yield GaugeMetricFamily(
        "musicgen_redis_memory_max_bytes", "Memory that Redis may use; 0: no limit.", memory.get("maxmemory", 0)
    )


def _gauge(name: str, meaning: str, values: Iterable[tuple[str, float]]) -> Metric:
    gauge = GaugeMetricFamily(name, meaning, labels=("model",))
    for model, value in values:
        gauge.add_metric([model], value)
    return gauge
