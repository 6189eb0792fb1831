"""What workers measure, kept in Redis."""

from __future__ import annotations

import pytest

from predictions.estimates import throughput
from predictions.estimates.throughput import SHARING_COST, Throughput
from predictions.record.schema import Queue
from predictions.record.store import PredictionStore


def measure(
    store: PredictionStore, *, together: float = 1.0, step: float = 0.01, beside: float = 0.1, diffusion: bool = False
) -> None:
    store.run(throughput.measured_steps(Queue.GENERATION, "v", together=together, step_seconds=step))
    store.run(throughput.measured_other(Queue.GENERATION, "v", seconds=beside, diffusion=diffusion))


def figures(store: PredictionStore) -> dict[str, float]:
    return {name: float(value) for name, value in store.redis.hgetall(f"musicgen:pace:{Queue.GENERATION}:v").items()}


def test_new_measurements_count_more_and_each_number_of_requests_by_itself(store: PredictionStore) -> None:
    measure(store, together=1.0, step=0.01)
    measure(store, together=1.2, step=0.02, beside=0.2)
    measure(store, together=3.7, step=0.05, beside=0.2)
    assert figures(store) == pytest.approx({"step:1": 0.013, "step:4": 0.05, "beside:codec": 0.151})
    assert store.redis.ttl(f"musicgen:pace:{Queue.GENERATION}:v") > 3600


def test_what_was_not_measured_follows_from_the_nearest_that_was() -> None:
    known = Throughput({"step:1": 0.01, "step:8": 0.04, "beside:codec": 0.1})
    assert known.step_seconds(8) == 0.04
    assert known.step_seconds(3) == pytest.approx(0.01 * (1 + 3 * SHARING_COST) / (1 + SHARING_COST))
    assert known.step_seconds(16) == pytest.approx(0.04 * (1 + 16 * SHARING_COST) / (1 + 8 * SHARING_COST))
    assert known.other_seconds(True) == known.other_seconds(False) == 0.1
