"""What workers measure, kept in Redis, and the estimates that follow for what really waits and runs there."""

from __future__ import annotations

import pytest

from predictions.estimates import throughput
from predictions.estimates.simulation import Estimate
from predictions.estimates.throughput import SHARING_COST, Pace
from predictions.models import announcements
from predictions.models.card import ModelCard
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.schema import GENERATION_QUEUE
from predictions.record.store import PredictionStore
from tests.records import claim

CARD = ModelCard(
    name="tests/noise", version="v", melody=True, channels=1, sample_rate=32000, max_duration=30, concurrency=1
)


def announce(store: PredictionStore, card: ModelCard = CARD) -> None:
    store.run(announcements.announce("worker", card, 60.0, queue=GENERATION_QUEUE))


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
                queue=GENERATION_QUEUE,
                base_url="http://host",
            ),
            remember_seconds=60,
            max_queued=100,
        )
    )


def measure(
    store: PredictionStore, *, together: float = 1.0, step: float = 0.01, beside: float = 0.1, diffusion: bool = False
) -> None:
    store.run(throughput.measured_steps(GENERATION_QUEUE, "v", together=together, step_seconds=step))
    store.run(throughput.measured_beside(GENERATION_QUEUE, "v", seconds=beside, diffusion=diffusion))


def estimates(store: PredictionStore) -> dict[str, Estimate]:
    return dict(store.run(throughput.forecast(GENERATION_QUEUE)).estimates)


def figures(store: PredictionStore) -> dict[str, float]:
    return {name: float(value) for name, value in store.redis.hgetall(f"musicgen:pace:{GENERATION_QUEUE}:v").items()}


def test_new_measurements_count_more_and_each_number_of_requests_by_itself(store: PredictionStore) -> None:
    measure(store, together=1.0, step=0.01)
    measure(store, together=1.2, step=0.02, beside=0.2)
    measure(store, together=3.7, step=0.05, beside=0.2)
    assert figures(store) == pytest.approx({"step:1": 0.013, "step:4": 0.05, "beside:codec": 0.151})
    assert store.redis.ttl(f"musicgen:pace:{GENERATION_QUEUE}:v") > 3600


def test_what_was_not_measured_follows_from_the_nearest_that_was() -> None:
    known = Pace({"step:1": 0.01, "step:8": 0.04, "beside:codec": 0.1})
    assert known.step_seconds(8) == 0.04
    assert known.step_seconds(3) == pytest.approx(0.01 * (1 + 3 * SHARING_COST) / (1 + SHARING_COST))
    assert known.step_seconds(16) == pytest.approx(0.04 * (1 + 16 * SHARING_COST) / (1 + 8 * SHARING_COST))
    assert known.beside_seconds(True) == known.beside_seconds(False) == 0.1


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
    store.run(announcements.withdraw("worker", queue=GENERATION_QUEUE))
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
    monkeypatch.setattr(throughput, "MOST_WAITING", 10)
    announce(store)
    measure(store)
    for number in range(40):
        create(store, f"p{number}", 1)
    forecast = store.run(throughput.forecast(GENERATION_QUEUE))
    assert len(forecast.estimates) == len(forecast.waiting) == 10
    last = forecast.of(store.run(commands.get("p39")))
    assert last is not None
    assert last.finish_seconds == pytest.approx(40 * 0.53, rel=0.05)
