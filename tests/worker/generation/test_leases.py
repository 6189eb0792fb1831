"""Leases: renewed with what has been reached, and lost when the prediction is cancelled."""

from __future__ import annotations

import threading

import pytest

from predictions.errors import LeaseLost
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.store import PredictionStore
from tests.servers import wait_until
from worker.generation.leases import LeaseKeeper, Reached


@pytest.fixture
def created(store: PredictionStore) -> PredictionStore:
    new = NewPrediction(
        id="one", owner="ann", digest="d", input={}, model="a/b", version="v", queue="q", base_url="http://host"
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=100))
    return store


def test_what_is_reached_is_written_down_while_the_lease_is_held(created: PredictionStore) -> None:
    keeper = LeaseKeeper(created, lease_seconds=30.0)
    keeper.start()
    try:
        with keeper.hold("one") as lease:
            assert lease is not None
            lease.follow(lambda: Reached(Progress(3, 10), "Using seed 1\n"))
            wait_until(lambda: created.run(commands.get("one")).progress == Progress(3, 10))
            assert created.run(commands.get("one")).logs == "Using seed 1\n"
            with keeper.hold("one") as second:
                assert second is None
    finally:
        keeper.close()


def test_a_cancelled_prediction_stops_its_work_once(created: PredictionStore) -> None:
    keeper = LeaseKeeper(created, lease_seconds=30.0)
    keeper.start()
    stopped = threading.Event()
    try:
        with keeper.hold("one") as lease:
            assert lease is not None
            lease.when_lost(stopped.set)
            lease.check()
            created.run(commands.cancel("one"))
            assert stopped.wait(10)
            with pytest.raises(LeaseLost):
                lease.check()
            with pytest.raises(LeaseLost):
                lease.when_lost(stopped.set)
    finally:
        keeper.close()


def test_a_lease_that_somebody_else_took_is_lost_at_its_next_renewal(created: PredictionStore) -> None:
    keeper = LeaseKeeper(created, lease_seconds=0.1)
    with keeper.hold("one") as lease:
        assert lease is not None
        lost = threading.Event()
        lease.when_lost(lost.set)
        wait_until(lambda: created.run(commands.reap(3, 10.0)).requeued == 1)
        keeper.start()
        try:
            assert lost.wait(10)
        finally:
            keeper.close()
