"""What the metrics say of the queues, against a real Redis."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric

from predictions.errors import StoreFull
from predictions.models import announcements
from predictions.observability.queues import QueueCollector, probe, state
from predictions.record import commands
from predictions.record.prediction import NewPrediction, Progress
from predictions.record.schema import Cause, Keys, Kind, Queue
from predictions.record.store import PredictionStore
from predictions.tenants import Tenant

QUEUE = "generation:a/a"
MODELS = {QUEUE: "a/a"}
ANN, BOB = Tenant("1", "ann"), Tenant("2", "bob")


def create(store: PredictionStore, prediction_id: str, owner: str = "1") -> None:
    new = NewPrediction(
        id=prediction_id,
        owner=owner,
        digest="d",
        input={},
        model="a/a",
        version="v",
        queue=QUEUE,
        base_url="http://host",
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=100))


def read(collector: QueueCollector) -> dict[str, float]:
    """Every sample, by its name and the values of its labels."""
    metrics: list[Metric] = list(collector.collect())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def test_trainings_are_counted_apart(store: PredictionStore) -> None:
    new = NewPrediction(
        id="one",
        kind=Kind.TRAINING,
        owner="1",
        digest="d",
        input={},
        model="a/a",
        version="v",
        queue=Queue.TRAININGS,
        base_url="http://host",
    )
    store.run(commands.create(new, remember_seconds=60, max_queued=100))
    store.run(announcements.announce("trainer", None, 60.0, queue=Queue.TRAININGS))
    collector = QueueCollector(store, MODELS, trainings={Queue.TRAININGS: "a/a"})
    seen = read(collector)
    assert seen["musicgen_predictions_accepted_total a/a"] == seen["musicgen_workers a/a"] == 0
    assert seen["musicgen_trainings_accepted_total a/a"] == seen["musicgen_trainings_waiting a/a"] == 1
    assert seen["musicgen_training_workers a/a"] == 1
    store.run(commands.cancel("one"))
    assert read(collector)["musicgen_trainings_ended_total a/a canceled client"] == 1


def test_what_waits_runs_and_ended_is_counted_once(store: PredictionStore) -> None:
    for number in range(5):
        create(store, f"p{number}", owner="1" if number else "2")
    store.run(announcements.announce("worker", None, 60.0, queue=QUEUE))
    tokens = {}
    for token in ("s", "t", "u"):
        taken = store.run(commands.take(QUEUE, token, 30.0))
        # Repeated, as where its answer was lost.
        assert taken == store.run(commands.take(QUEUE, token, 30.0))
        assert taken is not None
        tokens[token] = taken.id
    succeeded = commands.succeed(tokens["s"], "s", output_key="k", metrics={}, logs="", progress=Progress(1, 1))
    failed = commands.fail(tokens["t"], "t", error="e", logs="", cause=Cause.STORAGE)
    canceled = commands.cancel(tokens["u"])
    for command in (succeeded, failed, canceled) * 2:
        store.run(command)

    seen = read(QueueCollector(store, MODELS, lambda: [ANN, BOB]))

    assert seen["musicgen_redis_up"] == 1
    assert seen["musicgen_workers a/a"] == 1
    assert seen["musicgen_predictions_accepted_total a/a"] == 5
    assert seen["musicgen_predictions_waiting a/a"] == 2
    assert seen["musicgen_predictions_running a/a"] == 0
    assert seen["musicgen_leases_taken_total a/a"] == 3
    ended = {
        name: value for name, value in seen.items() if name.startswith("musicgen_predictions_ended_total") and value
    }
    assert ended == {
        "musicgen_predictions_ended_total a/a succeeded ": 1,
        "musicgen_predictions_ended_total a/a failed storage": 1,
        "musicgen_predictions_ended_total a/a canceled client": 1,
    }
    tenants = ("ann", "bob")
    assert sum(seen[f"musicgen_tenant_predictions_waiting a/a {name}"] for name in tenants) == 2
    assert sum(seen[f"musicgen_tenant_predictions_running {name}"] for name in tenants) == 0


def test_a_lease_that_ran_out_and_one_that_was_resumed_are_counted(store: PredictionStore) -> None:
    create(store, "one")
    store.run(commands.take(QUEUE, "t", 30.0))
    store.redis.zadd(Keys.leases(), {"one": 1})
    store.run(commands.reap(3))
    store.run(commands.reap(3))
    seen = read(QueueCollector(store, MODELS))
    assert (seen["musicgen_leases_reaped_total a/a"], seen["musicgen_leases_resumed_total a/a"]) == (1, 0)
    assert store.run(commands.renew("one", "t", 30.0))
    assert read(QueueCollector(store, MODELS))["musicgen_leases_resumed_total a/a"] == 1


def test_the_oldest_waiting_is_that_which_waits_and_has_not_ended(store: PredictionStore) -> None:
    create(store, "old")
    store.redis.zincrby(Keys.waiting_since(QUEUE), -100, "old")
    create(store, "young")
    name = "musicgen_predictions_oldest_waiting_seconds a/a"
    assert 100 <= read(QueueCollector(store, MODELS))[name] < 200
    store.run(commands.cancel("old"))
    assert 0 <= read(QueueCollector(store, MODELS))[name] < 100
    store.run(commands.cancel("young"))
    assert read(QueueCollector(store, MODELS))[name] == 0
    assert store.redis.exists(Keys.waiting_since(QUEUE)) == 0


def test_one_that_comes_back_waits_from_then_on(store: PredictionStore) -> None:
    create(store, "one")
    store.run(commands.take(QUEUE, "t", 30.0))
    assert store.redis.exists(Keys.waiting_since(QUEUE)) == 0
    store.run(commands.give_back("one", "t", suspect=False))
    assert store.redis.zcard(Keys.waiting_since(QUEUE)) == 1


def test_other_queues_are_none_of_our_models(store: PredictionStore) -> None:
    store.run(announcements.announce("sender", None, 60.0, queue=Queue.WEBHOOKS))
    create(store, "one")
    seen = read(QueueCollector(store, {}))
    assert seen["musicgen_webhook_workers"] == 1
    assert not [name for name in seen if name.startswith("musicgen_predictions")]
    assert store.run(state()).webhooks_due == 0


def test_where_redis_does_not_answer_only_that_is_said(tmp_path: Path) -> None:
    store = PredictionStore(f"unix://{tmp_path / 'nobody.sock'}")
    collector = QueueCollector(store, MODELS)
    assert read(collector) == {"musicgen_redis_up": 0}
    assert collector.wrong() == {"Redis": "does not answer"}
    store.close()


def test_a_redis_without_room_is_said_to_refuse_writes(store: PredictionStore) -> None:
    collector = QueueCollector(store, MODELS)
    assert collector.wrong() == {}
    store.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFull):
            store.run(probe(), patience=0.0)
        assert "refuses writes" in collector.wrong()["Redis"]
        assert read(collector)["musicgen_redis_memory_max_bytes"] == 1
    finally:
        store.redis.config_set("maxmemory", 0)


def test_a_model_that_never_had_a_worker_is_shown(store: PredictionStore) -> None:
    seen = read(QueueCollector(store, MODELS, lambda: (ANN,)))
    assert seen["musicgen_workers a/a"] == seen["musicgen_leases_reaped_total a/a"] == 0
    assert seen["musicgen_tenant_predictions_waiting a/a ann"] == 0
