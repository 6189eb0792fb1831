"""The estimates for what really waits and runs in Redis."""

from __future__ import annotations

import pytest

from predictions.estimates import forecast
from predictions.estimates.simulation import Estimate
from predictions.models import announcements
from predictions.models.card import Announcement
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore
from tests.predictions.estimates.test_throughput import measure
from tests.records import claim

CARD = Announcement(
    name="tests/noise", version="v", melody=True, channels=1, sample_rate=32000, max_duration=30, concurrency=1
)


def announce(store: PredictionStore, card: Announcement = CARD) -> None:
    store.run(announcements.announce("worker", card, 60.0, queue=Queue.GENERATION))


def create(store: PredictionStore, prediction_id: str, seconds: int, *, diffusion: bool = False) -> None:
    store.run(
        commands.create(
            NewPrediction(
                id=prediction_id,
                owner="ann",
                digest="d",
                input={"prompt": "piano", "duration": seconds, "multi_band_diffusion": diffusion},
                model="tests/noise",
                version="v",
                queue=Queue.GENERATION,
                base_url="http://host",
            ),
            remember_seconds=60,
            max_queued=100,
        )
    )


def estimates(store: PredictionStore) -> dict[str, Estimate]:
    return dict(store.run(forecast.forecast_queue(Queue.GENERATION)).estimates)


def test_nothing_is_known_without_a_worker_or_a_measurement(store: PredictionStore) -> None:
    create(store, "one", 2)
    assert estimates(store) == {}
    announce(store)
    assert estimates(store) == {}
    measure(store)
    assert estimates(store) == {"one": Estimate(0.0, pytest.approx(1.03 + 0.2))}
    announce(store, CARD.model_copy(update={"version": "another"}))
    assert estimates(store) == {}
    announce(store)
    store.run(announcements.withdraw("worker", queue=Queue.GENERATION))
    assert estimates(store) == {}


def test_what_runs_and_waits_in_its_order(store: PredictionStore) -> None:
    announce(store)
    measure(store)
    for number in range(7):
        create(store, f"p{number}", 2)
    attempts = [claim(store, f"p{number}", 60) for number in range(5)]
    store.run(commands.renew("p1", attempts[1], 60, progress=Progress(103, 103)))
    store.run(commands.renew("p2", attempts[2], 60, progress=Progress(40, 103)))
    found = estimates(store)
    # p1 is becoming sound, p2 is decoded, p0, p3 and p4 stand in line for the one slot, p5 and p6 wait for a thread.
    assert found["p1"] == Estimate(0.0, pytest.approx(0.1))
    left, whole = 0.63, 1.03
    assert found["p2"] == Estimate(0.0, pytest.approx(left + 0.2))
    assert found["p0"] == Estimate(0.0, pytest.approx(left + whole + 0.2))
    assert found["p4"] == Estimate(0.0, pytest.approx(left + 3 * whole + 0.2))
    assert found["p5"] == Estimate(pytest.approx(0.1), pytest.approx(left + 4 * whole + 0.2))
    assert found["p6"] == Estimate(pytest.approx(left + 0.2), pytest.approx(left + 5 * whole + 0.2))


def test_diffusion_is_measured_by_itself(store: PredictionStore) -> None:
    announce(store)
    measure(store)
    measure(store, beside=3.0, diffusion=True)
    create(store, "codec", 1)
    create(store, "diffusion", 1, diffusion=True)
    found = estimates(store)
    assert found["codec"].finish_seconds == pytest.approx(0.53 + 0.1)
    assert found["diffusion"].finish_seconds == pytest.approx(2 * 0.53 + 3.0)


def test_far_behind_the_same_pace_is_taken_to_go_on(store: PredictionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "MOST_WAITING", 10)
    announce(store)
    measure(store)
    for number in range(40):
        create(store, f"p{number}", 1)
    found = store.run(forecast.forecast_queue(Queue.GENERATION))
    assert len(found.estimates) == len(found.waiting) == 10
    last = found.of(store.run(commands.get("p39")))
    assert last is not None
    assert last.finish_seconds == pytest.approx(40 * 0.53, rel=0.05)
