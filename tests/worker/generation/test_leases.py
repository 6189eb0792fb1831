"""Leases: renewed with what has been reached, and lost when the prediction is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from predictions.errors import LeaseLost
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.store import PredictionStore
from tests.records import claim
from tests.servers import wait_until
from worker.generation.leases import Lease, LeaseKeeper, Reached


@pytest.fixture
def created(store: PredictionStore) -> PredictionStore:
    create(store)
    return store


def create(store: PredictionStore) -> None:
    new = NewPrediction(
        id="one", owner="ann", digest="d", input={}, model="a/b", version="v", queue="q", base_url="http://host"
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=100))


def test_what_is_reached_is_written_down_while_the_lease_is_held(created: PredictionStore) -> None:
    with keeper(created) as leases:
        lease = take(leases)
        lease.follow(lambda: Reached(Progress(3, 10), "Using seed 1\n"))
        wait_until(lambda: created.run(commands.get("one")).progress == Progress(3, 10))
        assert created.run(commands.get("one")).logs == "Using seed 1\n"
        assert leases.take() is None


def test_a_cancelled_prediction_stops_its_work_once(created: PredictionStore) -> None:
    stopped = threading.Event()
    with keeper(created) as leases:
        lease = take(leases)
        lease.when_lost(stopped.set)
        lease.check()
        created.run(commands.cancel("one"))
        assert stopped.wait(10)
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(LeaseLost):
            lease.when_lost(stopped.set)


def test_what_a_lost_lease_stops_ends_as_a_lost_lease(created: PredictionStore) -> None:
    stopped = threading.Event()

    def wait() -> None:
        with lease.stopping(stopped.set):
            assert stopped.wait(60)
            raise OSError("the connection was closed")

    with keeper(created) as leases:
        lease = take(leases)
        with lease.stopping(stopped.set):
            lease.pause(0.0)
        created.run(commands.cancel("one"))
        with pytest.raises(LeaseLost):
            wait()
        with pytest.raises(LeaseLost):
            lease.pause(600.0)


def test_a_lease_that_somebody_else_took_is_lost_at_its_next_renewal(created: PredictionStore) -> None:
    leases = LeaseKeeper(created, "q", lease_seconds=0.1)
    lease, lost = take(leases), threading.Event()
    lease.when_lost(lost.set)
    wait_until(lambda: created.run(commands.reap(3)).requeued == 1)
    assert claim(created, "one", 30.0)
    leases.start()
    try:
        assert lost.wait(10)
    finally:
        leases.close()


def test_a_namesake_does_not_drop_the_lease_of_a_later_life(created: PredictionStore) -> None:
    """The id is deleted and used again while the work on its first prediction goes on."""
    with keeper(created, lease_seconds=6.0) as leases:
        first, lost = take(leases), threading.Event()
        created.run(commands.cancel("one"))
        created.run(commands.delete("one"))
        create(created)
        second = take(leases)
        second.when_lost(lost.set)
        leases.release(first)
        ends_at = created.redis.zscore("musicgen:leases", "one")
        wait_until(lambda: created.redis.zscore("musicgen:leases", "one") > ends_at)
        assert not lost.is_set()


@contextmanager
def keeper(store: PredictionStore, lease_seconds: float = 30.0) -> Iterator[LeaseKeeper]:
    leases = LeaseKeeper(store, "q", lease_seconds)
    leases.start()
    try:
        yield leases
    finally:
        leases.close()


def take(leases: LeaseKeeper) -> Lease:
    lease = leases.take()
    assert lease is not None
    return lease
