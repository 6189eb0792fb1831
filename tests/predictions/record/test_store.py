"""The prediction's life in a real Redis-protocol server: transitions, leases, reaping, idempotency, lists."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from predictions.errors import PredictionNotFound, StoreUnavailable
from predictions.files import commands as file_commands
from predictions.models import announcements
from predictions.models.card import Announcement, ModelCard
from predictions.record import commands
from predictions.record.commands import FIRST_PAGE, Created, Reaped
from predictions.record.events import Chunk, Event
from predictions.record.prediction import NewPrediction, Prediction, Progress, Webhook
from predictions.record.schema import EventName, Outcome, Queue, Status
from predictions.record.store import PredictionStore
from tests.records import claim

LEASE = 30.0


def create(
    store: PredictionStore,
    prediction_id: str = "one",
    *,
    owner: str = "ann",
    digest: str = "d",
    key: str = "",
    max_queued: int = 100,
    queue: str = Queue.GENERATION,
    webhook: Webhook | None = None,
) -> Created:
    return store.run(
        commands.create(
            NewPrediction(
                id=prediction_id,
                owner=owner,
                digest=digest,
                input={"prompt": "piano"},
                model="tests/noise",
                version="v",
                queue=queue,
                base_url="http://host",
                webhook=webhook,
            ),
            idempotency_key=key,
            remember_seconds=60,
            max_queued=max_queued,
        )
    )


def get(store: PredictionStore, prediction_id: str = "one") -> Prediction:
    return store.run(commands.get(prediction_id))


def events(store: PredictionStore, after: str = commands.FIRST_EVENT) -> list[Event]:
    found = store.run(commands.events("one", after))
    assert found is not None
    return found


def succeed(store: PredictionStore, attempt: int, prediction_id: str = "one") -> bool:
    return store.run(
        commands.succeed(prediction_id, attempt, output_key="k", metrics={"seed": 1}, logs="l", progress=Progress(4, 4))
    )


def expire_leases(store: PredictionStore) -> None:
    """What happens when a worker dies: nobody renews its leases any more."""
    for prediction_id in store.redis.zrange("musicgen:leases", 0, -1):
        store.redis.zadd("musicgen:leases", {prediction_id: 1.0})


def reap(store: PredictionStore, max_attempts: int = 3, requeue_after: float = 30.0) -> Reaped:
    return store.run(commands.reap(max_attempts, requeue_after))


def messages(store: PredictionStore, queue: str = "generation") -> list[str]:
    return [json.loads(json.loads(item)["body"])[0][0] for item in store.redis.lrange(queue, 0, -1)]


def test_a_created_prediction_waits_with_its_message(store: PredictionStore) -> None:
    created = create(store)
    assert created.outcome is Outcome.CREATED
    prediction = get(store)
    assert prediction == created.prediction
    assert prediction.status is Status.STARTING
    assert prediction.queue_position == 0
    assert prediction.input == {"prompt": "piano"}
    assert messages(store) == ["one"]


def test_an_unknown_prediction_is_not_found(store: PredictionStore) -> None:
    with pytest.raises(PredictionNotFound):
        get(store)


def test_a_life_from_claim_to_success(store: PredictionStore) -> None:
    create(store)
    attempt = claim(store, "one", LEASE)
    assert attempt == 1
    assert store.run(commands.renew("one", attempt, LEASE, progress=Progress(1, 4), logs="25%"))
    running = get(store)
    assert (running.status, running.progress, running.logs) == (Status.PROCESSING, Progress(1, 4), "25%")
    assert running.queue_position is None
    assert succeed(store, attempt)
    ended = get(store)
    assert (ended.status, ended.output_key, ended.metrics) == (Status.SUCCEEDED, "k", {"seed": 1})
    assert ended.started_at is not None
    assert ended.completed_at is not None
    assert ended.created_at <= ended.started_at <= ended.completed_at


def test_only_one_of_many_workers_gets_the_lease(store: PredictionStore) -> None:
    create(store)
    with ThreadPoolExecutor(8) as threads:
        attempts = list(threads.map(lambda _: claim(store, "one", LEASE), range(8)))
    assert sorted(attempts) == [0] * 7 + [1]


def test_a_dead_workers_prediction_is_brought_back_and_its_late_writes_are_refused(
    store: PredictionStore,
) -> None:
    create(store)
    first = claim(store, "one", LEASE)
    expire_leases(store)
    assert reap(store) == Reaped(requeued=1, failed=0, hinted=0)
    assert get(store).status is Status.STARTING
    second = claim(store, "one", LEASE)
    assert second == 2
    assert not store.run(commands.renew("one", first, LEASE))
    assert not succeed(store, first)
    assert not store.run(commands.fail("one", first, error="late", logs=""))
    assert get(store).status is Status.PROCESSING
    assert succeed(store, second)


def test_a_live_lease_is_left_alone(store: PredictionStore) -> None:
    create(store)
    claim(store, "one", LEASE)
    assert reap(store) == Reaped(0, 0, 0)


def test_a_prediction_that_keeps_killing_its_worker_fails(store: PredictionStore) -> None:
    create(store)
    for _ in range(2):
        assert claim(store, "one", LEASE)
        expire_leases(store)
        reap(store, max_attempts=2)
    ended = get(store)
    assert ended.status is Status.FAILED
    assert "died 2 times" in (ended.error or "")


def test_a_lost_message_is_replaced_and_one_that_waits_is_not_doubled(store: PredictionStore) -> None:
    create(store, "lost")
    store.redis.delete("generation")
    create(store, "waits")
    assert reap(store, requeue_after=0.0) == Reaped(0, 0, hinted=1)
    assert sorted(messages(store)) == ["lost", "waits"]
    assert reap(store, requeue_after=0.0) == Reaped(0, 0, 0)


def test_what_comes_back_keeps_its_place_in_the_queue(store: PredictionStore) -> None:
    for name in ("first", "second", "third"):
        create(store, name)
    claim(store, "first", LEASE)
    assert get(store, "third").queue_position == 1
    expire_leases(store)
    reap(store)
    assert [get(store, name).queue_position for name in ("first", "second", "third")] == [0, 1, 2]
    # kombu takes messages from the right end.
    assert messages(store)[-1] == "first"


@pytest.mark.parametrize("running", [False, True])
def test_cancel_ends_it_for_good(store: PredictionStore, running: bool) -> None:
    create(store)
    attempt = claim(store, "one", LEASE) if running else 0
    assert store.run(commands.cancel("one"))
    assert not store.run(commands.cancel("one"))
    assert not succeed(store, attempt)
    assert claim(store, "one", LEASE) == 0
    assert get(store).status is Status.CANCELED


def test_a_terminal_status_never_changes(store: PredictionStore) -> None:
    create(store)
    attempt = claim(store, "one", LEASE)
    assert succeed(store, attempt)
    assert not store.run(commands.cancel("one"))
    assert not store.run(commands.fail("one", attempt, error="x", logs=""))
    assert get(store).status is Status.SUCCEEDED


def test_the_same_request_under_the_same_id_is_one_prediction(store: PredictionStore) -> None:
    assert create(store, digest="a").outcome is Outcome.CREATED
    assert create(store, digest="a").outcome is Outcome.REPLAYED
    assert create(store, digest="b").outcome is Outcome.CONFLICT
    assert create(store, digest="a", owner="bob").outcome is Outcome.CONFLICT
    assert messages(store) == ["one"]


def test_a_hundred_requests_with_one_key_are_one_prediction(store: PredictionStore) -> None:
    with ThreadPoolExecutor(16) as threads:
        created = list(threads.map(lambda n: create(store, f"id{n}", key="key"), range(100)))
    assert sorted(item.outcome for item in created) == ["created"] + ["replayed"] * 99
    assert len({item.prediction.id for item in created if item.prediction}) == 1
    assert create(store, "other", key="key", digest="another").outcome is Outcome.MISMATCH
    assert create(store, "other", key="key", owner="bob").outcome is Outcome.CREATED


def test_a_key_is_free_again_when_its_prediction_is_deleted(store: PredictionStore) -> None:
    create(store, "old", key="key")
    store.run(commands.cancel("old"))
    store.run(commands.delete("old"))
    assert create(store, "new", key="key").outcome is Outcome.CREATED


def test_a_full_queue_accepts_nothing(store: PredictionStore) -> None:
    create(store, "one", max_queued=1)
    refused = create(store, "two", max_queued=1)
    assert refused == Created(Outcome.FULL, None)
    with pytest.raises(PredictionNotFound):
        get(store, "two")


def test_pages_are_newest_first_and_complete(store: PredictionStore) -> None:
    for n in range(7):
        create(store, f"id{n}")
    # Three of the same instant: the cursor must not skip or repeat any of them.
    store.redis.zadd("musicgen:owner:ann", {f"id{n}": 5.0 for n in (1, 2, 3)})
    for n in (1, 2, 3):
        store.redis.hset(f"musicgen:prediction:id{n}", "created_at", "5.0")
    create(store, "foreign", owner="bob")
    seen, cursor, pages = [], FIRST_PAGE, 0
    while cursor is not None:
        page, cursor = store.run(commands.list_page("ann", cursor, 2))
        seen += [item.id for item in page]
        pages += 1
    assert seen == ["id6", "id5", "id4", "id0", "id3", "id2", "id1"]
    assert pages == 4


def test_delete_forgets_what_has_ended_and_only_that(store: PredictionStore) -> None:
    create(store)
    assert not store.run(commands.delete("one"))
    store.run(commands.cancel("one"))
    assert store.run(commands.delete("one"))
    with pytest.raises(PredictionNotFound):
        get(store)
    assert store.run(commands.list_page("ann", FIRST_PAGE, 10)) == ([], None)
    left = [key for key in store.redis.keys("musicgen:*") if "one" in key]
    assert left == []


def test_retention_finds_what_has_been_kept_long_enough(store: PredictionStore) -> None:
    create(store, "old")
    create(store, "waiting")
    store.run(commands.cancel("old"))
    file = file_commands.put_file("f", owner="ann", name="n", content_type="t", size=1, sha256="0")
    assert store.run(file).owner == "ann"
    assert store.run(commands.expired(3600)) == ([], [])
    assert store.run(commands.expired(0)) == (["old"], ["f"])


def test_every_transition_is_an_event(store: PredictionStore) -> None:
    create(store)
    attempt = claim(store, "one", LEASE)
    store.run(commands.renew("one", attempt, LEASE, progress=Progress(1, 2)))
    succeed(store, attempt)
    assert [(event.name, event.data) for event in events(store)] == [
        ("status", "starting"),
        ("status", "processing"),
        ("progress", "[1, 2]"),
        ("logs", "l"),
        ("progress", "[4, 4]"),
        ("status", "succeeded"),
    ]


def test_events_tell_what_is_new(store: PredictionStore) -> None:
    create(store)
    attempt = claim(store, "one", LEASE)
    for steps, logs in ((100, "a\n"), (101, "a\n"), (150, "a\nb\n")):
        store.run(commands.renew("one", attempt, LEASE, progress=Progress(steps, 1000), logs=logs))
    told = events(store)
    # One for each percent, and what the logs have grown by.
    assert [event.data for event in told if event.name is EventName.PROGRESS] == ["[100, 1000]", "[150, 1000]"]
    assert [event.data for event in told if event.name is EventName.LOGS] == ["a\n", "b\n"]
    assert events(store, told[2].id) == told[3:]


def test_an_attempt_that_lost_its_lease_announces_nothing(store: PredictionStore) -> None:
    create(store)
    first = claim(store, "one", LEASE)
    assert store.run(commands.announce_chunk("one", Chunk(first, 0, 0.0, 0.5)))
    expire_leases(store)
    store.run(commands.reap(3, 10))
    second = claim(store, "one", LEASE)
    assert not store.run(commands.announce_chunk("one", Chunk(first, 1, 0.5, 0.5)))
    assert store.run(commands.announce_chunk("one", Chunk(second, 0, 0.0, 0.5)))
    told = [event.data for event in events(store) if event.name in ("status", "audio")]
    assert told[:2] == ["starting", "processing"]
    assert Chunk.from_json(told[2]) == Chunk(1, 0, 0.0, 0.5)
    assert told[3:5] == ["starting", "processing"]
    assert Chunk.from_json(told[5]) == Chunk(2, 0, 0.0, 0.5)


def test_a_deleted_prediction_has_no_events(store: PredictionStore) -> None:
    create(store)
    store.run(commands.cancel("one"))
    assert events(store)[-1].ends
    store.run(commands.delete("one"))
    assert store.run(commands.events("one")) is None


def test_an_absent_server_is_said_to_be_unavailable() -> None:
    store = PredictionStore("unix:///nowhere/redis.sock")
    with pytest.raises(StoreUnavailable):
        store.run(commands.get("one"))
    assert not store.is_reachable()


def test_a_server_without_memory_is_said_to_be_unavailable(store: PredictionStore) -> None:
    store.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreUnavailable):
            create(store)
    finally:
        store.redis.config_set("maxmemory", 0)
    assert create(store).outcome is Outcome.CREATED


def test_each_queue_is_counted_and_filled_by_itself(store: PredictionStore) -> None:
    for prediction_id, queue in (("a1", "generation:a/a"), ("b1", "generation:b/b"), ("a2", "generation:a/a")):
        create(store, prediction_id, queue=queue, max_queued=2)
    assert [get(store, name).queue_position for name in ("a1", "a2", "b1")] == [0, 1, 0]
    assert create(store, "a3", queue="generation:a/a", max_queued=2).outcome is Outcome.FULL
    assert (messages(store, "generation:a/a"), messages(store, "generation:b/b")) == (["a2", "a1"], ["b1"])
    attempt = claim(store, "a1", LEASE)
    assert counts(store) == {"generation:a/a": (1, 1), "generation:b/b": (1, 0)}
    assert succeed(store, attempt, "a1")
    store.run(commands.cancel("b1"))
    assert counts(store) == {"generation:a/a": (1, 0), "generation:b/b": (0, 0)}


def counts(store: PredictionStore) -> dict[str, tuple[int, int]]:
    """Of each queue, what waits and what runs."""
    return {queue: (state.queued, state.running) for queue, state in store.run(announcements.deployment()).items()}


def test_what_comes_back_goes_to_its_own_queue(store: PredictionStore) -> None:
    create(store, "claimed", queue="generation:a/a")
    create(store, "lost", queue="generation:b/b")
    claim(store, "claimed", LEASE)
    store.redis.delete("generation:a/a", "generation:b/b")
    expire_leases(store)
    assert reap(store, requeue_after=0.0) == Reaped(requeued=1, failed=0, hinted=1)
    assert (messages(store, "generation:a/a"), messages(store, "generation:b/b")) == (["claimed"], ["lost"])
    assert counts(store) == {"generation:a/a": (1, 0), "generation:b/b": (1, 0)}


def test_what_waits_for_a_model_without_workers_hides_nothing_of_the_others(store: PredictionStore) -> None:
    for number in range(3):
        create(store, f"stuck{number}", queue="generation:a/a")
    create(store, "lost", queue="generation:b/b")
    store.redis.delete("generation:b/b")
    assert store.run(commands.reap(3, 0.0, limit=2)) == Reaped(0, 0, hinted=1)
    assert messages(store, "generation:b/b") == ["lost"]


def test_workers_are_known_by_the_queue_they_take_from(store: PredictionStore) -> None:
    card = Announcement(
        name="a/a", version="1", melody=False, channels=1, sample_rate=32000, max_duration=30, concurrency=1
    )
    store.run(announcements.announce("one", card, 60.0, queue="generation:a/a"))
    store.run(announcements.announce("two", card, 60.0, queue="generation:b/b"))
    store.run(announcements.announce("gone", card, -1.0, queue="generation:b/b"))
    assert {queue: state.workers for queue, state in store.run(announcements.deployment()).items()} == {
        "generation:a/a": ("one",),
        "generation:b/b": ("two",),
    }
    store.run(announcements.withdraw("two", queue="generation:b/b"))
    state = store.run(announcements.deployment())["generation:b/b"]
    public = ModelCard.model_validate(card.model_dump())
    assert (state.workers, state.card) == ((), public), "the card stays: its predictions are accepted, and wait"
