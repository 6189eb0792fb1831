"""The prediction's life in a real Redis-protocol server: transitions, leases, reaping, idempotency, lists."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from predictions.errors import PredictionNotFound, StoreFull, StoreUnavailable
from predictions.files import commands as file_commands
from predictions.models import announcements
from predictions.models.card import Announcement, ModelCard
from predictions.record import commands
from predictions.record.commands import FIRST_PAGE, Created, Reaped
from predictions.record.events import Chunk, Event
from predictions.record.prediction import NewPrediction, Prediction, Progress, Webhook, new_id, output_key
from predictions.record.schema import EventName, Kind, Outcome, Queue, Status, Verdict
from predictions.record.store import PredictionStore
from predictions.tenants import Limits, Tenant
from predictions.webhooks import deliveries
from predictions.webhooks.deliveries import DueDelivery
from tests.records import claim, take

LEASE = 30.0

NEW = NewPrediction(
    id="one", owner="ann", digest="d", input={}, model="tests/noise", version="v", queue="q", base_url="http://host"
)


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
    input_audio: str | None = None,
    kind: Kind = Kind.PREDICTION,
) -> Created:
    return store.run(
        commands.create(
            NewPrediction(
                id=prediction_id,
                owner=owner,
                digest=digest,
                input={"prompt": "piano"} | ({"input_audio": input_audio} if input_audio else {}),
                model="tests/noise",
                version="v",
                queue=queue,
                base_url="http://host",
                webhook=webhook,
                kind=kind,
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


def succeed(store: PredictionStore, token: str, prediction_id: str = "one") -> bool:
    return store.run(
        commands.succeed(prediction_id, token, output_key="k", metrics={"seed": 1}, logs="l", progress=Progress(4, 4))
    )


def expire_leases(store: PredictionStore) -> None:
    """What happens when a worker dies: nobody renews its leases any more."""
    for prediction_id in store.redis.zrange("musicgen:leases", 0, -1):
        store.redis.zadd("musicgen:leases", {prediction_id: 1.0})


def reap(store: PredictionStore, max_deaths: int = 3) -> Reaped:
    return store.run(commands.reap(max_deaths))


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
    assert get(store).attempt == 1
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
    assert sorted(map(bool, attempts)) == [False] * 7 + [True]


def test_a_dead_workers_prediction_is_brought_back_and_its_late_writes_are_refused(
    store: PredictionStore,
) -> None:
    create(store)
    first = claim(store, "one", LEASE)
    expire_leases(store)
    assert reap(store) == Reaped(requeued=1, failed=0)
    assert get(store).status is Status.STARTING
    second = claim(store, "one", LEASE)
    assert get(store).attempt == 2
    assert not store.run(commands.renew("one", first, LEASE))
    assert not succeed(store, first)
    assert not store.run(commands.fail("one", first, error="late", logs=""))
    assert get(store).status is Status.PROCESSING
    assert succeed(store, second)


def test_a_live_lease_is_left_alone(store: PredictionStore) -> None:
    create(store)
    claim(store, "one", LEASE)
    assert reap(store) == Reaped(0, 0)


def test_a_prediction_that_keeps_killing_its_worker_fails(store: PredictionStore) -> None:
    create(store)
    for _ in range(2):
        assert claim(store, "one", LEASE)
        expire_leases(store)
        reap(store, max_deaths=2)
    ended = get(store)
    assert ended.status is Status.FAILED
    assert "died 2 times" in (ended.error or "")


def test_a_worker_needs_no_message(store: PredictionStore) -> None:
    create(store, "lost")
    store.redis.delete("generation")
    assert claim(store, "lost", LEASE)


def test_a_take_whose_answer_was_lost_is_repeated(store: PredictionStore) -> None:
    create(store)
    create(store, "two")
    command = commands.take("generation", "token", LEASE)
    taken = store.run(command)
    assert taken == store.run(command)
    assert taken is not None
    assert (taken.id, taken.attempt, taken.lease_token) == ("one", 1, "token")
    assert get(store, "two").status is Status.STARTING
    succeed(store, "token")
    assert store.run(command) is None, "what has ended is not taken again"


def test_every_write_of_a_holder_can_be_repeated(store: PredictionStore) -> None:
    create(store)
    token = claim(store, "one", LEASE)
    writes = [
        commands.renew("one", token, LEASE, progress=Progress(1, 2), logs="a"),
        commands.announce_chunk("one", Chunk(1, token, 0, 0.0, 0.5)),
        commands.succeed("one", token, output_key="k", metrics={}, logs="a", progress=Progress(2, 2)),
    ]
    for write in writes:
        assert store.run(write)
        told = events(store)
        assert store.run(write)
        assert events(store) == told
    assert not store.run(commands.fail("one", token, error="no", logs=""))


def test_a_lease_that_ran_out_is_taken_up_again_by_whoever_held_it(store: PredictionStore) -> None:
    """Redis was away, or the worker was stopped: what it has made is not thrown away unless somebody else began."""
    create(store)
    token = claim(store, "one", LEASE)
    for _ in range(5):
        expire_leases(store)
        assert reap(store, max_deaths=2) == Reaped(1, 0), "no death is counted of a worker that lives"
        assert get(store).queue_position == 0
        assert store.run(commands.renew("one", token, LEASE))
        assert (get(store).status, get(store).queue_position) == (Status.PROCESSING, None)
    assert claim(store, "one", LEASE) == ""
    expire_leases(store)
    reap(store)
    assert succeed(store, token), "even while it waits"
    assert get(store).status is Status.SUCCEEDED
    assert claim(store, "one", LEASE) == ""


def test_a_worker_does_not_take_what_it_holds(store: PredictionStore) -> None:
    create(store, "held")
    create(store, "next")
    token = claim(store, "held", LEASE)
    expire_leases(store)
    reap(store)
    store.redis.hdel("musicgen:prediction:held", "suspicions")
    taken = store.run(commands.take("generation", "t", LEASE, {token: "held"}))
    assert taken is not None
    assert taken.id == "next"


def test_no_write_of_an_earlier_life_of_an_id_is_accepted(store: PredictionStore) -> None:
    create(store, owner="ann")
    earlier = claim(store, "one", LEASE)
    store.run(commands.cancel("one"))
    store.run(commands.delete("one"))
    create(store, owner="bob", digest="other")
    later = claim(store, "one", LEASE)
    assert get(store).attempt == 1, "the count begins anew, the token does not"
    assert not store.run(commands.renew("one", earlier, LEASE, logs="ann's"))
    assert not store.run(commands.announce_chunk("one", Chunk(1, earlier, 0, 0.0, 0.5)))
    assert not store.run(commands.fail("one", earlier, error="ann's URL", logs=""))
    assert not store.run(commands.give_back("one", earlier, suspect=True))
    assert not succeed(store, earlier)
    bobs = get(store)
    assert (bobs.status, bobs.error, bobs.logs) == (Status.PROCESSING, None, "")
    assert output_key("one", earlier, "wav") != output_key("one", later, "wav")
    assert succeed(store, later)


def test_a_culprit_fails_and_its_neighbours_do_not(store: PredictionStore) -> None:
    """A worker dies with four predictions. Each is then tried alone; the one that kills its worker again fails."""
    ids = ["a", "culprit", "b", "c"]
    for name in ids:
        create(store, name)
    for number, name in enumerate(ids):
        assert take(store, name, LEASE, {f"t{n}": ids[n] for n in range(number)})
    expire_leases(store)
    assert reap(store, max_deaths=2) == Reaped(requeued=4, failed=0)
    create(store, "new")
    assert store.run(commands.take("generation", "t1", LEASE, {"t": "elsewhere"})) is None, "not beside others"
    for name in ids:
        for attempt in range(2):
            token = claim(store, name, LEASE)
            assert store.run(commands.take("generation", "t2", LEASE, {token: name})) is None, "nothing beside it"
            if name != "culprit":
                assert succeed(store, token, name)
                break
            expire_leases(store)
            assert reap(store, max_deaths=2) == (Reaped(1, 0) if attempt == 0 else Reaped(0, 1))
    assert [get(store, name).status for name in ids] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert "died 2 times while it worked on nothing else" in (get(store, "culprit").error or "")
    assert claim(store, "new", LEASE)


def test_a_death_beside_others_counts_for_nobody(store: PredictionStore) -> None:
    create(store, "first")
    create(store, "second")
    claim(store, "first", LEASE)
    take(store, "second", LEASE, {"t": "first"})
    expire_leases(store)
    assert reap(store, max_deaths=1) == Reaped(requeued=2, failed=0)


def test_what_may_have_failed_a_shared_step_is_tried_again_alone(store: PredictionStore) -> None:
    create(store)
    token = claim(store, "one", LEASE)
    assert store.run(commands.give_back("one", token, suspect=True))
    assert not store.run(commands.give_back("one", token, suspect=True)), "a repetition changes nothing"
    assert get(store).status is Status.STARTING
    assert store.run(commands.take("generation", "t", LEASE, {"t0": "other"})) is None
    assert claim(store, "one", LEASE)


def test_what_is_given_back_without_suspicion_keeps_its_place_and_is_taken_beside_others(
    store: PredictionStore,
) -> None:
    create(store)
    create(store, "two")
    token = claim(store, "one", LEASE)
    assert store.run(commands.give_back("one", token, suspect=False))
    assert not store.run(commands.renew("one", token, LEASE))
    assert take(store, "one", LEASE, {"t0": "other"})
    assert get(store).attempt == 2


def test_input_audio_that_has_no_place_is_passed_over(store: PredictionStore) -> None:
    for number in range(40):
        create(store, f"audio-{number:03}", input_audio="http://slow/a.wav")
    create(store, "bobs", owner="bob", input_audio="http://slow/a.wav")
    create(store, "anns")

    def take_one(**passed_over: Any) -> str | None:
        taken = store.run(commands.take("generation", new_id(), LEASE, **passed_over))
        return taken.id if taken else None

    assert take_one(no_audio_of=["ann"]) == "anns"
    assert take_one(no_audio_of=["ann"]) == "bobs"
    assert take_one(no_audio=True) is None
    assert take_one() == "audio-000"


def test_an_offered_prediction_is_taken_by_one_request_however_often_that_is_repeated(store: PredictionStore) -> None:
    create(store, "lost", digest="same")
    for _ in range(2):
        store.run(commands.offer("ann", "same", "lost", 10))
    for name, outcome, found in (("r1", "replayed", "lost"), ("r1", "replayed", "lost"), ("r2", "created", "r2")):
        new = NewPrediction(
            id=name,
            owner="ann",
            digest="same",
            input={},
            model="m",
            version="v",
            queue="generation",
            base_url="http://h",
        )
        created = store.run(commands.create(new, remember_seconds=60, max_queued=9, take_offered=True))
        assert created.prediction is not None
        assert (created.outcome, created.prediction.id) == (outcome, found)


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
    attempt = claim(store, "one", LEASE) if running else ""
    assert store.run(commands.cancel("one"))
    assert not store.run(commands.cancel("one"))
    assert not succeed(store, attempt)
    assert claim(store, "one", LEASE) == ""
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


def test_each_kind_has_a_list_of_its_own(store: PredictionStore) -> None:
    create(store, "music")
    create(store, "tuning", kind=Kind.TRAINING, queue=Queue.TRAININGS)
    assert [get(store, record).kind for record in ("music", "tuning")] == list(Kind)
    for kind, record in ((Kind.PREDICTION, "music"), (Kind.TRAINING, "tuning")):
        page, _ = store.run(commands.list_page("ann", FIRST_PAGE, 10, kind))
        assert [item.id for item in page] == [record]
    # A turn among trainings costs steps, and none of the day's seconds of music.
    new = replace(NEW, id="long", kind=Kind.TRAINING, queue=Queue.TRAININGS, input={"steps": 500})
    tenant = Tenant("ann", "ann", limits=Limits(seconds_a_day=10))
    created = store.run(commands.create(new, tenant=tenant, remember_seconds=60, max_queued=10))
    assert created.outcome is Outcome.CREATED
    assert store.redis.hget(f"musicgen:waiting:{Queue.TRAININGS}", "long") == "500"


@pytest.mark.parametrize("kind", Kind)
def test_delete_forgets_what_has_ended_and_only_that(store: PredictionStore, kind: Kind) -> None:
    create(store, kind=kind)
    assert not store.run(commands.delete("one"))
    store.run(commands.cancel("one"))
    assert store.run(commands.delete("one"))
    with pytest.raises(PredictionNotFound):
        get(store)
    assert store.run(commands.list_page("ann", FIRST_PAGE, 10, kind)) == ([], None)
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
    assert store.run(commands.announce_chunk("one", Chunk(1, first, 0, 0.0, 0.5)))
    expire_leases(store)
    reap(store)
    second = claim(store, "one", LEASE)
    assert not store.run(commands.announce_chunk("one", Chunk(1, first, 1, 0.5, 0.5)))
    assert store.run(commands.announce_chunk("one", Chunk(2, second, 0, 0.0, 0.5)))
    told = [event.data for event in events(store) if event.name in ("status", "audio")]
    assert told[:2] == ["starting", "processing"]
    assert Chunk.from_json(told[2]) == Chunk(1, first, 0, 0.0, 0.5)
    assert told[3:5] == ["starting", "processing"]
    assert Chunk.from_json(told[5]) == Chunk(2, second, 0, 0.0, 0.5)


def test_a_deleted_prediction_has_no_events(store: PredictionStore) -> None:
    create(store)
    store.run(commands.cancel("one"))
    assert events(store)[-1].ends
    store.run(commands.delete("one"))
    assert store.run(commands.events("one")) is None


def test_an_absent_server_is_said_to_be_unavailable() -> None:
    store = PredictionStore("unix:///nowhere/redis.sock")
    with pytest.raises(StoreUnavailable):
        store.run(commands.get("one"), patience=0.1)
    assert not store.is_reachable()


@pytest.mark.parametrize("take_offered", [False, True])
def test_without_memory_nothing_is_accepted_and_what_was_accepted_ends(
    store: PredictionStore, take_offered: bool
) -> None:
    for name in ("runs", "waits", "cancelled"):
        create(store, name, webhook=Webhook("http://receiver"))
    token = claim(store, "runs", LEASE)
    store.redis.config_set("maxmemory", 1)
    new = NewPrediction(
        id="new", owner="ann", digest="d", input={}, model="m", version="v", queue="generation", base_url="http://host"
    )
    command = commands.create(new, remember_seconds=60, max_queued=100, take_offered=take_offered)
    try:
        with pytest.raises(StoreFull):
            store.run(command, patience=0.0)
        assert store.run(commands.renew("runs", token, LEASE, progress=Progress(1, 2), logs="a"))
        assert succeed(store, token, "runs")
        assert succeed(store, claim(store, "waits", LEASE), "waits")
        assert store.run(commands.cancel("cancelled"))
        begun = store.run(deliveries.begin(DueDelivery("runs-start", "ann", "receiver:80"), "t"))
        assert begun is not None
        assert store.run(deliveries.end(begun, Verdict.DELIVERED, status=200, error=None, seconds=0.1))
        assert store.run(commands.delete("cancelled"))
    finally:
        store.redis.config_set("maxmemory", 0)
    assert store.run(command).outcome is Outcome.CREATED


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
    assert reap(store) == Reaped(requeued=1, failed=0)
    assert (messages(store, "generation:a/a"), messages(store, "generation:b/b")) == (["claimed"], [])
    assert counts(store) == {"generation:a/a": (1, 0), "generation:b/b": (1, 0)}


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
