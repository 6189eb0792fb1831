"""The periodic work of a worker: announcing its model, and deleting what has expired, whatever else fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from predictions.errors import ObjectNotFound
from predictions.models import announcements
from predictions.record.command import Command
from predictions.record.prediction import output_key
from predictions.record.schema import Keys, Queue
from predictions.record.store import PredictionStore
from predictions.settings import Settings
from predictions.storage import open_storage
from tests.app.conftest import CARD
from tests.predictions.record.test_store import LEASE, create, succeed
from tests.records import claim
from tests.servers import wait_until
from worker.housekeeping import OVERDUE_AT_ONCE, Housekeeper


def housekeeper(
    store: PredictionStore, settings: Settings, measure: Callable[[], Command[bool] | None] | None = None
) -> Housekeeper:
    return Housekeeper(
        store, open_storage(settings), settings, worker="a", queue=Queue.GENERATION, card=CARD, measure=measure
    )


def workers(store: PredictionStore) -> tuple[str, ...]:
    """The workers that are announced for the queue."""
    state = store.run(announcements.deployment()).get(Queue.GENERATION)
    return tuple(state.workers) if state else ()


def test_a_worker_is_announced_until_it_closes(store: PredictionStore, settings: Settings) -> None:
    keeper = housekeeper(store, settings)
    keeper.start()
    wait_until(lambda: workers(store) == ("a",), seconds=10)
    keeper.close()
    assert workers(store) == ()


def test_what_is_past_its_deadline_is_cancelled(store: PredictionStore, settings: Settings) -> None:
    many = 2 * OVERDUE_AT_ONCE + 1
    for n in range(many):
        create(store, f"p{n}", max_queued=many)
    store.redis.zadd(Keys.deadlines(), {f"p{n}": 1.0 for n in range(many)})
    keeper = housekeeper(store, settings)
    keeper.start()
    wait_until(lambda: store.redis.zcard(Keys.ended()) == many, seconds=20)
    keeper.close()


def test_a_step_that_fails_keeps_no_other_from_its_work(
    store: PredictionStore, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """The measurement fails; the expired prediction is deleted all the same, its output too."""

    def fail() -> None:
        raise RuntimeError("no measurement")

    storage, key = open_storage(settings), output_key("one", "token", "wav")
    create(store)
    succeed(store, claim(store, "one", LEASE))
    storage.put(key, b"sound", "audio/wav")
    keeper = housekeeper(store, settings.model_copy(update={"retention_hours": 1e-6}), fail)
    keeper.start()
    wait_until(lambda: not store.redis.exists("musicgen:prediction:one"), seconds=20)
    keeper.close()
    with pytest.raises(ObjectNotFound):
        storage.open(key)
    assert "Housekeeping (record_throughput) failed" in caplog.text
